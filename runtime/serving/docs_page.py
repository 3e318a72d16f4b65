"""The OpenAPI document as a page for people: plain HTML, no script, nothing from elsewhere."""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:56rem;padding:1rem}
h2{margin:2.5rem 0 .2rem;font-size:1.1rem;overflow-wrap:anywhere}
h1,h2 b{color:light-dark(#1a5fb4,#8ab4f8)}
code,pre{font:.87em/1.5 ui-monospace,monospace}
pre{background:light-dark(#f3f3f3,#242424);padding:.7rem;border-radius:.4rem;
white-space:pre-wrap;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.25rem .8rem .25rem 0;
border-bottom:1px solid light-dark(#ddd,#444)}
td:first-child{white-space:nowrap}td{overflow-wrap:anywhere}
summary{cursor:pointer;padding:.3rem 0}nav a{display:inline-block;margin-right:1rem}
a{color:inherit}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Header of the page: its own style, and nothing else."""


def render(document: dict[str, Any]) -> bytes:
    """The page of an OpenAPI document of this server, as HTML in UTF-8."""
    operations = [
        (method, path, op)
        for path, methods in document["paths"].items()
        for method, op in methods.items()
        if "{version}" not in path
    ]
    schemas = document["components"]["schemas"]
    about = document["info"]
    parts = [
        f"<h1>{escape(about['title'])} {escape(about['version'])}</h1>",
        f"<p>{escape(about['description'])} For programs: <a href=openapi.json>openapi.json</a>. "
        "Below <code>/v2</code> the path may name a version: "
        "<code>/v2/models/attnrec/versions/VERSION/...</code>",
        "<nav>",
        *(
            f"<a href=#{op['operationId']}><code>{escape(path)}</code></a>"
            for _, path, op in operations
        ),
        "</nav>",
    ]
    for method, path, op in operations:
        parts += _operation(method, path, op, schemas)
    parts += ["<h2>Refusals</h2>", *_refusals(document)]
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>attnrec</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
    )
    return f"{head}<style>{_STYLE}</style>{''.join(parts)}</html>".encode()


def _operation(
    method: str, path: str, op: dict[str, Any], schemas: dict[str, Any]
) -> Iterator[str]:
    yield f"<h2 id={op['operationId']}><b>{method.upper()}</b> <code>{escape(path)}</code></h2>"
    yield f"<p>{escape(op['summary'])}."
    if op["security"]:
        yield " Needs the token."
    body = op.get("requestBody", {}).get("content", {}).get("application/json")
    named = [each for each in op["parameters"] if each["in"] != "path"]
    if named:
        yield from _table([(each["name"], each["schema"], each["in"]) for each in named])
    if body is not None:
        yield from _type("Body", body["schema"], schemas)
    answer = op["responses"]["200"]["content"].get("application/json", {})
    yield from _type("Answer", answer.get("schema"), schemas)
    yield f"<pre>{escape(_curl(method, path, op, body))}</pre>"


def _type(what: str, schema: Any, schemas: dict[str, Any]) -> Iterator[str]:
    """The fields of a type and of those it is made of."""
    names = list(dict.fromkeys(_names(schema, schemas)))
    if not names:
        return
    yield f"<details{' open' if what == 'Body' else ''}>"
    yield f"<summary>{what}: <code>{escape(_words(schema))}</code></summary>"
    for name in names:
        yield f"<p><code>{name}</code>: {escape(schemas[name].get('description', ''))}"
        required = schemas[name].get("required", ())
        fields = [
            (key, value, "required" if key in required else "")
            for key, value in schemas[name]["properties"].items()
            if value != {"type": "null"}  # of other files
        ]
        yield from _table(fields)
    yield "</details>"


def _names(schema: Any, schemas: dict[str, Any]) -> Iterator[str]:
    """Every named type that a type is made of."""
    for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema)):
        yield name
        yield from _names(schemas[name], schemas)


def _table(fields: list[tuple[str, dict[str, Any], str]]) -> Iterator[str]:
    yield "<table>"
    for name, schema, note in fields:
        words = [escape(_words(schema)), note, escape(schema.get("description", ""))]
        if "default" in schema and "$ref" not in schema:
            words.append(f"default <code>{escape(json.dumps(schema['default']))}</code>")
        yield f"<tr><td><code>{escape(name)}</code><td>{'; '.join(filter(None, words))}"
    yield "</table>"


def _words(schema: dict[str, Any]) -> str:
    """A type with its limits."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    kind = schema.get("type", "any")
    if kind == "array":
        most = f"at most {schema['maxItems']} of " if "maxItems" in schema else ""
        inner = _words(schema.get("items", {}))
        return f"list of {most}({inner})" if " " in inner else f"list of {most}{inner}"
    if "minimum" in schema and schema["minimum"] == -(2**63):
        return "int64"
    limits = [f"{sign} {schema[key]}" for key, sign in _SIGNS.items() if key in schema]
    return " ".join([kind, *limits])


_SIGNS = {"minimum": ">=", "maximum": "<=", "maxLength": "length <="}


def _curl(method: str, path: str, op: dict[str, Any], body: Any) -> str:
    query = next((f"?{p['name']}={p['example']}" for p in op["parameters"] if "example" in p), "")
    line = f"curl -s http://127.0.0.1:8000{path}{query}".replace("{name}", "attnrec")
    if op["security"]:
        line += " -H 'Authorization: Bearer TOKEN'"
    if body is not None:
        example = shlex.quote(json.dumps(body["example"]))
        line += f" -H 'Content-Type: application/json' -d {example}"
    elif method == "post":
        line += " -X POST"
    return line


def _refusals(document: dict[str, Any]) -> Iterator[str]:
    """Every status with its cause."""
    causes = {
        status: response["description"]
        for methods in document["paths"].values()
        for op in methods.values()
        for status, response in op["responses"].items()
        if status != "200"
    }
    yield "<p>A refusal is a problem document (RFC 9457); below <code>/v2</code> it is "
    yield '<code>{"error": "..."}</code>.'
    yield "<table>"
    for status, cause in sorted(causes.items()):
        yield f"<tr><td>{status}<td>{escape(cause)}"
    yield "</table>"

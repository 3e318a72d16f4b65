"""The document of the interface says what the server does, and the page shows it."""

import html
import json
import re
import subprocess
import urllib.parse
from typing import Any

import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from attnrec.runtime import Recommender
from attnrec.runtime.model_file import format as names
from attnrec.runtime.serving import docs_page
from attnrec.runtime.serving.answers import Served
from attnrec.runtime.serving.app import OPEN_PATHS, Service
from attnrec.runtime.serving.limits import Limits
from attnrec.runtime.serving.openapi import document
from attnrec.runtime.serving.reloading import Reloading, Source
from attnrec.runtime.serving.routes import Pages

# To be emptied when these routes are there.


@pytest.fixture(scope="module")
def info(data):
    return lambda name: Recommender.load(data / f"tiny-{name}.onnx").info


@pytest.mark.parametrize(("name", "has_token"), [("string", False), ("users", True)])
def test_the_document_is_openapi(info, name, has_token) -> None:
    validate(document(info(name), "20f23b0b29ca", has_token=has_token))


def test_every_route_is_in_the_document_and_the_other_way_round(data) -> None:
    file = data / "tiny-string.onnx"
    recommender = Recommender.load(file)
    service = Service(Served.of(recommender), Limits())
    app = Pages(service, Reloading(service, Source(file), 0)).app()
    routes = {
        (method.lower(), route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    paths = document(recommender.info, "x", has_token=False)["paths"]
    documented = {(method, path) for path, methods in paths.items() for method in methods}
    assert routes == documented


def question(document: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = document["components"]["schemas"]["Question"]["properties"]
    return fields


def test_ids_have_the_type_and_the_limits_of_the_file(info) -> None:
    number = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    for name, item, user in (
        ("string", {"type": "string"}, {"type": "null"}),
        ("int64", number, {"type": "null"}),
        ("users", {"type": "string"}, {"anyOf": [number, {"type": "null"}]}),
    ):
        described = document(info(name), "x", has_token=False)
        fields = question(described)
        assert fields["history"]["items"] == item
        assert fields["history"]["maxItems"] == 100_000
        assert user.items() <= fields["user"].items()
        answered = described["components"]["schemas"]["Item"]["properties"]["id"]
        assert answered == {"type": item["type"]}


def test_bodies_have_the_limits_of_the_decoder_and_no_other_fields(info) -> None:
    schemas = document(info("string"), "x", has_token=False)["components"]["schemas"]
    questions = [name for name in schemas if name.endswith("Question")]
    assert len(questions) == 4
    for name in questions:
        assert schemas[name]["additionalProperties"] is False
    assert schemas["Question"]["properties"]["k"]["maximum"] == 1000
    assert schemas["ExplainQuestion"]["properties"]["history"]["maxItems"] == 1000
    assert "additionalProperties" not in schemas["InferRequest"]


def test_the_token_is_asked_for_where_it_is_needed_and_only_then(info) -> None:
    for has_token in (True, False):
        described = document(info("string"), "x", has_token=has_token)
        for path, methods in described["paths"].items():
            for operation in methods.values():
                needs = has_token and path not in OPEN_PATHS
                assert operation["security"] == ([{"token": []}] if needs else [])
                assert ("401" in operation["responses"]) is needs
        assert ("securitySchemes" in described["components"]) is has_token


@pytest.mark.parametrize("which", ["strings", "numbers"])
def test_the_examples_are_answered_as_the_document_says(which, request) -> None:
    server = request.getfixturevalue(which)
    described = server.send("GET", "/openapi.json").json
    asked = 0
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if path == "/v1/reload":
                continue
            for each in operation.get("parameters", ()):
                if each["in"] == "path":
                    (value,) = each["schema"]["enum"]
                    path = path.replace(f"{{{each['name']}}}", value)
                elif "example" in each:
                    path += f"?{each['name']}={urllib.parse.quote(each['example'])}"
            content = operation.get("requestBody", {}).get("content", {})
            body = content["application/json"]["example"] if content else None
            reply = server.send(method.upper(), path, body)
            assert reply.status == 200, (path, reply.body)
            kind = reply.headers["content-type"].partition(";")[0]
            assert kind in operation["responses"]["200"]["content"]
            asked += 1
    assert asked >= 15


def test_the_page_names_every_path_and_field_and_takes_nothing_from_elsewhere(strings) -> None:
    reply = strings.send("GET", "/docs")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert policy == docs_page.CONTENT_SECURITY_POLICY
    page = reply.body.decode()
    assert len(reply.body) < 30_000
    described = strings.send("GET", "/openapi.json").json
    for path in described["paths"]:
        assert path in page or "{version}" in path
    for field in question(described):
        assert f"<code>{field}</code>" in page or field in names.CALLER_INPUTS
    for status in ("400", "413", "431", "503"):
        assert f"<tr><td>{status}<td>" in page
    assert not re.search(r"<script|<img|<link|src=|url\(|@import|\son\w+=|style=", page)
    assert re.findall(r"href=(?!#)(\S+?)>", page) == ["openapi.json"]


def test_what_stands_in_the_document_is_text_on_the_page(info) -> None:
    described = document(info("string"), "x", has_token=False)
    described["info"]["title"] = "<script>alert(1)</script>"
    described["paths"]["/healthz"]["get"]["summary"] = "<b onclick=x>"
    described["components"]["schemas"]["Item"]["description"] = "</details><i>"
    page = docs_page.render(described).decode()
    assert "<script" not in page and "<b onclick" not in page and "<i>" not in page


def test_nothing_of_the_file_is_in_the_page_but_the_types_of_its_ids(info, data) -> None:
    facts = info("string")
    page = docs_page.render(document(facts, "20f23b0b29ca", has_token=True)).decode()
    expected = json.loads((data / "tiny-string.expected.json").read_text("utf-8"))
    sent = {item for call in expected["calls"] for item in call["recommend"]["history"]}
    items = {item for item in sent if item.startswith("sku-")}
    assert len(items) > 10
    for secret in ("20f23b0b29ca", facts.catalogue_sha256, *items):
        assert secret not in page


def test_the_curl_line_of_ids_with_quotes_is_one_that_a_shell_takes(data) -> None:
    info = Recommender.load(data / "tiny-string.onnx").info
    ids = ("it's", 'say "$HOME" `id` \\ <b>')
    page = docs_page.render(document(info, "v", has_token=False, examples=ids)).decode()
    lines = [html.unescape(line) for line in re.findall("<pre>(curl .*?)</pre>", page, re.DOTALL)]
    posted = [line for line in lines if " -d " in line]
    assert len(posted) > 3
    for line in posted:
        command = ["bash", "-c", line.replace("curl", "printf '%s\\0'", 1)]
        arguments = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        body = json.loads(arguments.rstrip("\0").rpartition("\0")[2])
        assert "it's" in json.dumps(body)

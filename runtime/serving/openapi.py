"""The interface as an OpenAPI 3.1 document, made from the types that read and write the bodies.

The document of one file differs from that of another: the type of ids, and who may be named.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.serving import schemas
from attnrec.runtime.serving.app import JSON, OPEN_PATHS, PROBES
from attnrec.runtime.serving.errors import PROBLEM_JSON, Problem
from attnrec.runtime.serving.open_inference import protocol
from attnrec.runtime.serving.open_inference.routes import BINARY, MODEL_PATHS
from attnrec.runtime.serving.open_inference.tensors import inputs_of
from attnrec.runtime.serving.search import LONGEST_QUERY, MOST_FOUND
from attnrec.runtime.version import __version__

_Texts = dict[str, str]
_BODY = (400, 408, 413, 415, 422)
_ALWAYS = (431, 503)  # also of what does not reach the application: heads, connections
_WHY = {
    400: "The body is not JSON in UTF-8.",
    401: "The token of the server is missing, or another one was sent.",
    403: "The server was started without a token.",
    404: "Another model or version than the one that is served.",
    408: "The body did not arrive in time.",
    409: "The new file cannot be used; the old one is still served.",
    413: "The body is larger than the server takes.",
    415: "The header Content-Type: application/json is missing.",
    421: "The header Host names another machine than this one, or a host not in --allowed-hosts.",
    422: "A value is wrong: which one, and its limit.",
    431: "Path and headers are too large.",
    503: "Too many requests wait, the answer takes too long, too much is not read by clients, or "
    "the file failed its self-test.",
}
_FIELDS = {
    "history": "raw item ids, oldest first; unknown ones are ignored",
    "k": "how many items at most",
    "exclude": "ids never to return",
    "candidates": "return only from these; null: from the whole catalogue",
    "exclude_seen": "leave out what is in the history; null: as the model was trained",
    "user": "who asks, a raw user id; null: a stranger",
    "user_tags": "what is known of the user, in place of what was known in training",
    "timestamps": "Unix seconds of the events of the history, one for each; -1: not known",
    "request_time": "Unix seconds of now, together with timestamps; null: neither is known",
    "n_known": "known ids in the history",
    "model_version": "beginning of the sha256 of the file",
    "contribution": "how much lower the score is without this event",
    "attention": "where the model looked, if it has attention",
    "title": "only if the file has titles",
    "shared_memory_region": "not offered",
    "classification": "not offered",
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "q": {
        "in": "query",
        "example": "bag",
        "schema": {"type": "string", "maxLength": LONGEST_QUERY, "default": ""},
    },
    "limit": {
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_FOUND, "default": 20},
    },
    protocol.LENGTH_HEADER: {
        "in": "header",
        "description": "Length of the JSON, if bytes of tensors follow it.",
        "schema": {"type": "integer", "minimum": 0},
    },
}


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    response: Any
    """A type, as JSON; or a media type."""
    request: Any = None
    """Type of the body."""
    example: Any = None
    """A body."""
    parameters: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()
    """Statuses beside 200, those of every operation left out."""


_FIXED = [
    Operation(
        "get", "/v1/items", "Items whose title has all words of q", schemas.FoundItems,
        parameters=("q", "limit"), refusals=(422,),
    ),
    Operation("get", "/v1/model", "What the file says of itself", ModelInfo),
    Operation(
        "post", "/v1/reload", "Load the file again; needs a token", _Texts, refusals=(403, 409)
    ),
    Operation("get", "/healthz", "Whether the process lives", _Texts),
    Operation("get", "/readyz", "Whether the file answers here as it should", _Texts),
    Operation("get", "/metrics", "Counts and times, for Prometheus", "text/plain"),
    Operation("get", "/openapi.json", "This document", protocol.Facts),
    Operation("get", "/", "A page to try the model", "text/html"),
    Operation("get", "/v2", "Open Inference Protocol: the server", protocol.Facts),
    Operation("get", "/v2/health/live", "Whether the process lives", protocol.Facts),
    Operation("get", "/v2/health/ready", "Whether the file is ready", protocol.Facts),
    *(
        Operation("get", path + end, summary, protocol.Facts, refusals=(404,))
        for path in MODEL_PATHS
        for end, summary in (
            ("", "What the graph takes and gives"), ("/ready", "Whether the file is ready"),
        )
    ),
]  # fmt: skip
"""What is the same for every file."""


def operations_of(info: ModelInfo, examples: Sequence[int | str] = ()) -> list[Operation]:
    """All there is. examples: two item ids; made up where there are none."""
    a, b = examples or ((85116, 22375) if info.id_type == "int64" else ("85116", "22375"))

    def posted(path: str, summary: str, question: Any, response: Any, **example: Any) -> Operation:
        request = schemas.shape_of(question, info.id_type, info.user_id_type)
        if question is schemas.Question:
            request = schemas.rows_of(request)
            response = response | list[response]
        return Operation("post", path, summary, response, request, example, refusals=_BODY)

    history = inputs_of(info)[names.HISTORY]
    tensor = {"name": history.name, "datatype": history.datatype, "shape": [1, 2], "data": [a, b]}
    return [
        posted(
            "/v1/recommend", "What comes next: for one history, or for each of a list",
            schemas.Question, schemas.Answer, history=[a, b], k=2,
        ),
        posted(
            "/v1/score", "Scores of given items after a history",
            schemas.ScoreQuestion, schemas.ScoreAnswer, history=[a], items=[b],
        ),
        posted(
            "/v1/similar", "Items like this one",
            schemas.SimilarQuestion, schemas.SimilarAnswer, item=a, k=2,
        ),
        posted(
            "/v1/explain", "What each event of a history does for an item",
            schemas.ExplainQuestion, schemas.ExplainAnswer, history=[a], item=b,
        ),
        *_FIXED,
        *(
            Operation(
                "post", path + "/infer", "Run the graph", protocol.InferResponse,
                protocol.InferRequest, {"inputs": [tensor]}, (protocol.LENGTH_HEADER,),
                (400, 404, 408, 413),
            )
            for path in MODEL_PATHS
        ),
    ]  # fmt: skip


def document(
    info: ModelInfo, version: str, *, has_token: bool, examples: Sequence[int | str] = ()
) -> dict[str, Any]:
    """The OpenAPI document of a server with this file.

    has_token: whether it wants a token. examples: two ids of items, which the document shows.
    """
    operations = operations_of(info, examples)
    types = [op.response for op in operations if not isinstance(op.response, str)]
    types += [op.request for op in operations if op.request is not None]
    types += [Problem, protocol.Fault]
    found, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    schemas = {id(kind): schema for kind, schema in zip(types, found, strict=True)}
    paths: dict[str, Any] = {}
    for op in operations:
        described = _operation(op, schemas, version, has_token=has_token)
        paths.setdefault(op.path, {})[op.method] = described
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "attnrec",
            "version": __version__,
            "description": "Recommendations from one model file.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }
    if has_token:
        scheme = {"type": "http", "scheme": "bearer"}
        whole["components"]["securitySchemes"] = {"token": scheme}
    return _of_the_file(whole, info)


def _operation(
    op: Operation, schemas: dict[int, Any], version: str, *, has_token: bool
) -> dict[str, Any]:
    is_open = op.path in OPEN_PATHS or not has_token
    bytes_too: dict[str, Any] = {BINARY: {}} if op.path.endswith("/infer") else {}
    content: dict[str, Any] = {JSON: {"schema": schemas.get(id(op.response))}} | bytes_too
    if isinstance(op.response, str):
        content = {op.response: {"schema": {"type": "string"}}}
    problem = {PROBLEM_JSON: {"schema": schemas[id(Problem)]}}
    if op.path.startswith("/v2"):
        problem[JSON] = {"schema": schemas[id(protocol.Fault)]}
    statuses = {*op.refusals, *_ALWAYS}
    if has_token:
        statuses |= set() if is_open else {401}
    elif op.path not in PROBES:
        statuses.add(421)
    refusals = {str(n): {"description": _WHY[n], "content": problem} for n in sorted(statuses)}
    constants = {"name": protocol.NAME, "version": version}
    described: dict[str, Any] = {
        "summary": op.summary,
        "operationId": re.sub(r"\W+", "_", f"{op.method} {op.path}").strip("_"),
        "responses": {"200": {"description": "The answer.", "content": content}} | refusals,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"enum": [constants[name]]}}
            for name in re.findall(r"{(\w+)}", op.path)
        ]
        + [{"name": name} | _PARAMETERS[name] for name in op.parameters],
        "security": [] if is_open else [{"token": []}],
    }
    if op.request is not None:
        body = {JSON: {"schema": schemas[id(op.request)], "example": op.example}}
        described["requestBody"] = {"required": True, "content": body | bytes_too}
    return described


def _of_the_file(whole: dict[str, Any], info: ModelInfo) -> dict[str, Any]:
    """Plain names for generic types, the type of ids of this file, and who may be named."""
    text = re.sub(r"(#/components/schemas/[A-Za-z]+)_[^\"]*", r"\1", json.dumps(whole))
    either = json.dumps({"anyOf": [{"type": "integer"}, {"type": "string"}]})
    item_id = {"type": "integer" if info.id_type == "int64" else "string"}
    whole = json.loads(text.replace(either, json.dumps(item_id)))
    schemas = {
        name.partition("_")[0]: schema | {"title": name.partition("_")[0]}
        for name, schema in whole["components"]["schemas"].items()
    }
    for schema in schemas.values():
        for field, value in schema.get("properties", {}).items():
            if field in names.CALLER_INPUTS and field not in info.inputs:
                value.clear()
                value["type"] = "null"
            elif field in _FIELDS and "$ref" not in value:
                value["description"] = _FIELDS[field]
    whole["components"]["schemas"] = schemas
    return whole

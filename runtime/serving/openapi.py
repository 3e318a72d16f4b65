"""The interface as an OpenAPI 3.1 document, made from the types that read and write the bodies.

The document depends on the file: the type of its ids, and its side inputs.
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
from attnrec.runtime.serving.app import JSON
from attnrec.runtime.serving.authorization import OPEN_PATHS, PROBES
from attnrec.runtime.serving.errors import PROBLEM_JSON, Problem
from attnrec.runtime.serving.open_inference import infer
from attnrec.runtime.serving.open_inference.routes import BINARY, MODEL_PATHS
from attnrec.runtime.serving.open_inference.tensors import inputs_of
from attnrec.runtime.serving.search import LONGEST_QUERY, MOST_FOUND
from attnrec.runtime.version import __version__

_Texts = dict[str, str]
_Object = dict[str, Any]
_BODY = (400, 408, 413, 415, 422)
_ALWAYS = (431, 503)  # also of what does not reach the application: heads, connections
_WHY = {
    400: "The body is not JSON in UTF-8.",
    401: "The token of the server is missing, or another one was sent.",
    403: "The server was started without a token.",
    404: "The server has no such model or version.",
    408: "The body did not arrive in time.",
    409: "The new file cannot be used; the old one is still served.",
    413: "The body is larger than the server takes.",
    415: "The header Content-Type: application/json is missing.",
    421: "The header Host names another machine than this one, or a host not in --allowed-hosts.",
    422: "A value is wrong; the document names its field and limit.",
    431: "Path and headers are too large.",
    503: "Too many requests wait, the answer takes too long, clients do not read their answers, "
    "or the file failed its self-test.",
}
_FIELDS = {
    "history": "raw item ids, oldest first; unknown ones are ignored",
    "k": "how many items at most",
    "exclude": "ids never to return",
    "candidates": "return only items of this list; null: of the whole catalogue",
    "exclude_seen": "leave out the items of the history; null: as the model was trained",
    "require_all": "items have all of these tags, column:value",
    "require_any": "of every column named here, items have one of the tags",
    "forbid": "items have none of these tags",
    "boost": "what a tag adds; 1 is the usual gap between places 1 and 100",
    "at_least": "least value of a number, such as a price",
    "at_most": "largest value of a number",
    "diversity": "0: the best items; 1: the least similar ones",
    "max_per": "most items of each value of a column, or of a tag",
    "min_per": "least items of a tag",
    "n_allowed": "items that exclude, candidates and rules leave",
    "unknown_tags": "tags of the request that the file does not know",
    "boosts": "what each boost adds to the score",
    "user": "raw user id; null: an unknown user",
    "user_tags": "tags of the user, in place of those in the training data",
    "timestamps": "Unix seconds, one for each event of the history; -1: not known",
    "request_time": "Unix seconds of the request, given with timestamps; null: not known",
    "n_known": "known ids in the history",
    "model_version": "first 12 digits of the sha256 of the file",
    "contribution": "how much lower the score is without this event",
    "attention": "attention weight of this event, if the model has attention",
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
    infer.LENGTH_HEADER: {
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
    """Statuses other than 200 and those of every operation."""


_FIXED = [
    Operation(
        "get", "/v1/items", "Items whose title has all words of q", schemas.FoundItems,
        parameters=("q", "limit"), refusals=(422,),
    ),
    Operation("get", "/v1/model", "Metadata of the file", ModelInfo),
    Operation(
        "post", "/v1/reload", "Load the file again; needs a token", _Texts, refusals=(403, 409)
    ),
    Operation("get", "/healthz", "Whether the process is alive", _Texts),
    Operation("get", "/readyz", "Whether the file passed its self-test on this machine", _Texts),
    Operation("get", "/metrics", "Counts and times, for Prometheus", "text/plain"),
    Operation("get", "/openapi.json", "This document", _Object),
    Operation("get", "/", "A page to try the model", "text/html"),
    Operation("get", "/v2", "Open Inference Protocol: the server", _Object),
    Operation("get", "/v2/health/live", "Whether the process is alive", _Object),
    Operation("get", "/v2/health/ready", "Whether the file is ready", _Object),
    *(
        Operation("get", path + end, summary, _Object, refusals=(404,))
        for path in MODEL_PATHS
        for end, summary in (
            ("", "Inputs and outputs of the graph"), ("/ready", "Whether the file is ready"),
        )
    ),
]  # fmt: skip
"""Operations that are the same for every file."""


def operations_of(info: ModelInfo, examples: Sequence[int | str] = ()) -> list[Operation]:
    """All operations. examples: two item ids; synthetic ones if it is empty."""
    a, b = examples or ((85116, 22375) if info.id_type == "int64" else ("85116", "22375"))

    def posted(path: str, summary: str, kind: Any, response: Any, **example: Any) -> Operation:
        request = schemas.shape_of(kind, info.id_type, info.user_id_type)
        if kind is schemas.RecommendRequest:
            request = schemas.rows_of(request)
            response = response | list[response]
        return Operation("post", path, summary, response, request, example, refusals=_BODY)

    history = inputs_of(info)[names.HISTORY]
    tensor = {"name": history.name, "datatype": history.datatype, "shape": [1, 2], "data": [a, b]}
    return [
        posted(
            "/v1/recommend", "Recommendations for one history, or for each of a list",
            schemas.RecommendRequest, schemas.RecommendResponse, history=[a, b], k=2,
        ),
        posted(
            "/v1/score", "Scores of given items after a history",
            schemas.ScoreRequest, schemas.ScoreResponse, history=[a], items=[b],
        ),
        posted(
            "/v1/similar", "Items similar to this one",
            schemas.SimilarRequest, schemas.SimilarResponse, item=a, k=2,
        ),
        posted(
            "/v1/explain", "Contribution of each event of a history to the score of an item",
            schemas.ExplainRequest, schemas.ExplainResponse, history=[a], item=b,
        ),
        *_FIXED,
        *(
            Operation(
                "post", path + "/infer", "Run the graph", infer.InferResponse,
                infer.InferRequest, {"inputs": [tensor]}, (infer.LENGTH_HEADER,),
                (400, 404, 408, 413),
            )
            for path in MODEL_PATHS
        ),
    ]  # fmt: skip


def document(
    info: ModelInfo, version: str, *, has_token: bool, examples: Sequence[int | str] = ()
) -> dict[str, Any]:
    """The OpenAPI document of a server with this file.

    has_token: whether it needs a token. examples: two item ids, which the document shows.
    """
    operations = operations_of(info, examples)
    types = [op.response for op in operations if not isinstance(op.response, str)]
    types += [op.request for op in operations if op.request is not None]
    types += [Problem, infer.InferError]
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
        problem[JSON] = {"schema": schemas[id(infer.InferError)]}
    statuses = {*op.refusals, *_ALWAYS}
    if has_token:
        statuses |= set() if is_open else {401}
    elif op.path not in PROBES:
        statuses.add(421)
    refusals = {str(n): {"description": _WHY[n], "content": problem} for n in sorted(statuses)}
    constants = {"name": infer.NAME, "version": version}
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
    """Plain names for generic types, the id type of this file, and its side inputs."""
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
            if field in (*names.CALLER_INPUTS, *names.RULE_INPUTS) and field not in info.inputs:
                value.clear()
                value["type"] = "null"
            elif field in _FIELDS and "$ref" not in value:
                value["description"] = _FIELDS[field]
    whole["components"]["schemas"] = schemas
    return whole

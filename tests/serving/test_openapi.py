"""The document of the interface says what the server does."""

import urllib.parse
from typing import Any

import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from attnrec.runtime import Recommender
from attnrec.runtime.serving.answers import ServedFile
from attnrec.runtime.serving.app import Service
from attnrec.runtime.serving.authorization import OPEN_PATHS
from attnrec.runtime.serving.limits import ServerLimits
from attnrec.runtime.serving.openapi import document
from attnrec.runtime.serving.reloading import ModelSource, Reloading
from attnrec.runtime.serving.routes import Endpoints


@pytest.fixture(scope="module")
def info(data):
    return lambda name: Recommender.load(data / f"tiny-{name}.onnx").info


@pytest.mark.parametrize(("name", "has_token"), [("string", False), ("users", True)])
def test_the_document_is_openapi(info, name, has_token) -> None:
    validate(document(info(name), "20f23b0b29ca", has_token=has_token))


def test_every_route_is_in_the_document_and_the_other_way_round(data) -> None:
    file = data / "tiny-string.onnx"
    recommender = Recommender.load(file)
    service = Service(ServedFile.of(recommender), ServerLimits())
    app = Endpoints(service, Reloading(service, ModelSource(file), 0)).app()
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
    fields: dict[str, Any] = document["components"]["schemas"]["RecommendRequest"]["properties"]
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
    questions = [name for name in schemas if name.endswith("Request") and name != "InferRequest"]
    assert len(questions) == 4
    for name in questions:
        assert schemas[name]["additionalProperties"] is False
    assert schemas["RecommendRequest"]["properties"]["k"]["maximum"] == 1000
    assert schemas["ExplainRequest"]["properties"]["history"]["maxItems"] == 1000
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


def test_a_path_that_there_is_not_names_the_document(strings) -> None:
    reply = strings.send("GET", "/docs")
    assert reply.status == 404 and "/openapi.json" in reply.json["detail"]

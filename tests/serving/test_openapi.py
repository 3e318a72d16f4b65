"""The OpenAPI document describes what the server does."""

import urllib.parse
from typing import Any

import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from attnrec.runtime import Recommender
from attnrec.runtime.serving.authorization import OPEN_PATHS
from attnrec.runtime.serving.openapi import document


@pytest.fixture(scope="module")
def info(data):
    return lambda name: Recommender.load(data / f"tiny-{name}.onnx").info


@pytest.mark.parametrize(("name", "has_token"), [("string", False), ("users", True)])
def test_the_document_is_openapi(info, name, has_token) -> None:
    validate(document(info(name), "20f23b0b29ca", has_token=has_token))


def test_every_route_is_in_the_document_and_the_other_way_round(strings) -> None:
    routes = {
        (method.lower(), route.path)
        for route in strings.service.endpoints.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    paths = document(strings.service.served.recommender.info, "x", has_token=False)["paths"]
    documented = {(method, path) for path, methods in paths.items() for method in methods}
    assert routes == documented


def row(document: dict[str, Any]) -> dict[str, Any]:
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
        fields = row(described)
        assert fields["history"]["items"] == item
        assert fields["history"]["maxItems"] == 100_000
        assert user.items() <= fields["user"].items()
        answered = described["components"]["schemas"]["Item"]["properties"]["id"]
        assert answered == {"type": item["type"]}


def test_bodies_have_the_limits_of_the_decoder_and_no_other_fields(info) -> None:
    schemas = document(info("string"), "x", has_token=False)["components"]["schemas"]
    requests = [name for name in schemas if name.endswith("Request") and name != "InferRequest"]
    assert len(requests) == 4
    for name in requests:
        assert schemas[name]["additionalProperties"] is False
    assert schemas["RecommendRequest"]["properties"]["k"]["maximum"] == 1000
    assert schemas["ExplainRequest"]["properties"]["history"]["maxItems"] == 1000
    assert "additionalProperties" not in schemas["InferRequest"]


def test_the_token_is_required_where_it_is_needed_and_only_there(info) -> None:
    for has_token in (True, False):
        described = document(info("string"), "x", has_token=has_token)
        for path, methods in described["paths"].items():
            for operation in methods.values():
                needs = has_token and path not in OPEN_PATHS
                assert operation["security"] == ([{"token": []}] if needs else [])
                assert ("401" in operation["responses"]) is needs
        assert ("securitySchemes" in described["components"]) is has_token


@pytest.mark.parametrize("which", ["strings", "numbers"])
def test_the_examples_are_answered_as_the_document_describes(which, request) -> None:
    client = request.getfixturevalue(which)
    described = client.get("/openapi.json").json
    n_requests = 0
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
            reply = client.send(method.upper(), path, body)
            assert reply.status == 200, (path, reply.body)
            kind = reply.headers["content-type"].partition(";")[0]
            assert kind in operation["responses"]["200"]["content"]
            n_requests += 1
    assert n_requests >= 15

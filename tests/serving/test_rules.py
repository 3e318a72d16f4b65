"""Rules and slates over HTTP: as in Python, by the same names."""

import json
from typing import Any

import numpy as np
import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.model_file import format as names


@pytest.fixture(scope="module")
def shop(app, data) -> tuple[Any, Recommender]:
    return app("tiny-rules"), Recommender.load(data / "tiny-rules.onnx")


RULES: list[dict[str, Any]] = [
    {},
    {"require_all": ["kind:mug", "colour:red"]},
    {"require_any": ["kind:mug", "kind:a:b"], "at_most": {"price": 4.5}},
    {"forbid": ["colour:red"], "boost": {"kind:mug": 1.0, "kind:teapot": 2.0}},
    {"diversity": 0.5},
    {"max_per": {"kind": 1}, "min_per": {"colour:green": 1}},
]


@pytest.mark.parametrize("rules", RULES)
def test_one_row_is_answered_like_recommend(shop, rules: dict[str, Any]) -> None:
    client, recommender = shop
    answer = client.post({"history": ["sku-1", "sku-2"], "k": 5, **rules}).json
    found = recommender.recommend(["sku-1", "sku-2"], k=5, **rules)
    assert [item["id"] for item in answer["items"]] == found.item_ids
    assert answer["n_allowed"] == found.n_allowed
    assert answer.get("unknown_tags") == (
        None if found.unknown_tags is None else [*found.unknown_tags]
    )


def test_rows_of_a_list_have_their_own_rules_and_slates(shop) -> None:
    client, recommender = shop
    rows = [{"history": ["sku-3"], "k": 4, **rules} for rules in RULES]
    answers = client.post(rows).json
    for row, answer in zip(rows, answers, strict=True):
        options = {name: value for name, value in row.items() if name != "history"}
        found = recommender.recommend(["sku-3"], **options)
        assert [item["id"] for item in answer["items"]] == found.item_ids


def test_an_explanation_names_the_boosts(shop) -> None:
    client, recommender = shop
    item = recommender.recommend([], k=1, require_all=["kind:mug"]).item_ids[0]
    request = {"history": ["sku-1"], "item": item, "boost": {"kind:mug": 1.0}}
    answer = client.post(request, "/v1/explain").json
    assert answer["boosts"] == pytest.approx({"kind:mug": recommender.info.rules["boost_unit"]})
    del request["boost"]
    assert "boosts" not in client.post(request, "/v1/explain").json


@pytest.mark.parametrize(
    ("rules", "detail"),
    [
        ({"require_all": ["mug"]}, "a tag is 'column:value' with one of the columns kind, colour"),
        ({"at_most": {"weight": 1.0}}, "none of the numbers of this file: price"),
        ({"boost": {"kind:mug": None}}, "boost"),
        ({"at_least": {"price": "cheap"}}, "at_least"),
        ({"forbid": ["kind:mug"] * 1001}, "1000"),
        ({"diversity": 2}, "diversity"),
        ({"max_per": {"size": 1}}, "columns of this file: kind, colour"),
        ({"max_per": {"kind": -1}}, "max_per"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_field(shop, rules: dict[str, Any], detail: str) -> None:
    client, _ = shop
    problem = client.post({"history": ["sku-1"], **rules}).problem(422)
    assert detail in str(problem)


def test_rules_for_a_file_without_tags_are_refused(app) -> None:
    problem = app("tiny-string").post({"history": [], "forbid": ["kind:mug"]}).problem(422)
    assert "forbid names tags, and this file has none" in problem["detail"]


def test_what_the_file_knows_is_in_its_facts(shop) -> None:
    client, recommender = shop
    assert client.get("/v1/model").json["rules"] == recommender.info.rules


def tensor(name: str, datatype: str, values: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [1, len(values)], "data": values}


def test_the_open_inference_protocol_has_rules_as_inputs(shop) -> None:
    client, recommender = shop
    inputs = [
        tensor("history", "BYTES", ["sku-1"]),
        tensor("exclude", "BYTES", ["sku-1"]),
        {"name": "k", "datatype": "INT64", "shape": [1], "data": [5]},
        tensor("require_any", "BYTES", ["kind:mug", "kind:a:b"]),
        tensor("boost", "BYTES", ["colour:red"]),
        tensor("boost_by", "FP32", [1]),
        tensor("at_most", "FP32", [4.5]),
        tensor("at_least", "FP32", [None]),
    ]
    reply = client.post({"inputs": inputs}, "/v2/models/attnrec/infer")
    assert reply.status == 200, reply.body
    outputs = {one["name"]: one["data"] for one in reply.json["outputs"]}
    found = recommender.recommend(
        ["sku-1"], k=5, require_any=["kind:mug", "kind:a:b"], boost={"colour:red": 1.0},
        at_most={"price": 4.5},
    )  # fmt: skip
    assert [i for i in outputs["items"] if i] == found.item_ids
    assert outputs["n_allowed"] == [found.n_allowed]
    declared = {one["name"]: one for one in client.get("/v2/models/attnrec").json["inputs"]}
    assert declared["at_most"] == {"name": "at_most", "datatype": "FP32", "shape": [-1, 1]}
    assert {*names.RULE_INPUTS} <= declared.keys()


def test_bytes_of_numbers_are_read_as_they_are_in_memory(shop) -> None:
    client, recommender = shop
    raw = np.array([2.0], "<f4").tobytes()
    head = json.dumps({
        "inputs": [
            tensor("history", "BYTES", ["sku-1"]),
            {"name": "at_most", "datatype": "FP32", "shape": [1, 1],
             "parameters": {"binary_data_size": 4}},
        ]
    }).encode()  # fmt: skip
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    reply = client.send("POST", "/v2/models/attnrec/infer", head + raw, headers)
    outputs = {one["name"]: one["data"] for one in reply.json["outputs"]}
    found = recommender.recommend(["sku-1"], at_most={"price": 2.0}, exclude_seen=False)
    assert [i for i in outputs["items"] if i] == found.item_ids


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ([tensor("boost", "BYTES", ["kind:mug"])], "boost_by must have the shape of boost"),
        ([tensor("at_most", "FP32", [1, 2])], "this input is FP32 [-1, 1]"),
        ([tensor("at_most", "FP32", ["1"])], "which is not FP32"),
    ],
)
def test_wrong_rules_of_the_protocol_are_refused(shop, given: list[Any], detail: str) -> None:
    client, _ = shop
    inputs = [tensor("history", "BYTES", ["sku-1"]), *given]
    reply = client.post({"inputs": inputs}, "/v2/models/attnrec/infer")
    assert reply.status == 400 and detail in reply.json["error"]

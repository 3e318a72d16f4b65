"""The fields `user` and `user_tags` of a question, and files that know no users."""

from pathlib import Path

import pytest

from attnrec.runtime import Recommender

HISTORY = ["sku-11", "00123"]


@pytest.fixture(scope="module")
def users(start):
    return start("tiny-users")


def test_user_and_tags_are_answered_like_recommend(users, data: Path) -> None:
    recommender = Recommender.load(data / "tiny-users.onnx")
    callers = [
        {},
        {"user": 3},
        {"user": 999},
        {"user": None, "user_tags": None},
        {"user": 3, "user_tags": ["gold"]},
        {"user_tags": ["шахматы", "no such tag"]},
        {"user": -1, "user_tags": []},
    ]
    rows = [{"history": HISTORY, "k": 40, **caller} for caller in callers]
    alone = [users.ask(row) for row in rows]
    assert [reply.status for reply in alone] == [200] * len(rows)
    for row, reply, in_list in zip(rows, alone, users.ask(rows).json, strict=True):
        expected = recommender.recommend(**row)
        for answer in (reply.json, in_list):
            assert [item["id"] for item in answer["items"]] == expected.item_ids
            scores = [item["score"] for item in answer["items"]]
            assert scores == pytest.approx(expected.scores, abs=1e-5)
    assert alone[0].json == alone[2].json == alone[3].json != alone[1].json


def test_the_model_says_what_it_may_be_told(users) -> None:
    facts = users.send("GET", "/v1/model").json
    assert facts["inputs"][4:] == ["user", "user_tags"]
    assert facts["user_id_type"] == "int64"


@pytest.mark.parametrize(
    ("caller", "field"),
    [
        ({"user": "3"}, "user"),
        ({"user": 2**63}, "user"),
        ({"user_tags": "gold"}, "user_tags"),
        ({"user_tags": ["gold", 5]}, "user_tags[1]"),
        ({"user_tags": ["gold"] * 1001}, "user_tags"),
    ],
    ids=["type", "size", "list", "tag", "number"],
)
def test_what_is_no_user_and_no_tag_is_refused(users, caller, field) -> None:
    problem = users.ask({"history": [], **caller}).problem(422)
    assert problem["field"] == field
    assert "item ids" not in problem["detail"]


@pytest.mark.parametrize("caller", [{"user": "3"}, {"user_tags": ["gold"]}], ids=str)
def test_a_file_that_knows_no_users_refuses_them(strings, caller) -> None:
    detail = strings.ask({"history": [], **caller}).problem(422)["detail"]
    assert "does not declare" in detail and next(iter(caller)) in detail

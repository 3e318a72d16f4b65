"""Scores, similar items, reasons and search over HTTP are those of the runtime."""

import math
import urllib.parse

import pytest

from attnrec.runtime import Recommender

FILES = ["tiny-string", "tiny-int64", "tiny-int8", "tiny-markov-chain"]


@pytest.fixture(params=FILES, scope="module")
def both(request, start, data):
    """A server and a recommender of the same file."""
    return start(request.param), Recommender.load(data / f"{request.param}.onnx")


def test_scores_are_in_the_order_of_the_items_and_null_where_there_is_none(both) -> None:
    server, recommender = both
    a, b, c = recommender.recommend([], 3, exclude_seen=False).item_ids
    unknown = 10**9 if recommender.info.id_type == "int64" else "no such item"
    reply = server.send("POST", "/v1/score", {"history": [a], "items": [c, unknown, b]})
    scores = recommender.score([a], [c, unknown, b])
    assert math.isnan(scores[1])
    assert reply.json["scores"] == [scores[0], None, scores[2]]
    assert reply.json["model_version"] == recommender.info.sha256[:12]


def test_similar_items_are_those_of_the_runtime(both) -> None:
    server, recommender = both
    (item,) = recommender.recommend([], 1, exclude_seen=False).item_ids
    found = recommender.similar(item, 4)
    items = server.send("POST", "/v1/similar", {"item": item, "k": 4}).json["items"]
    assert [(one["id"], one["score"]) for one in items] == found.pairs()
    assert [one.get("title") for one in items] == (found.titles or [None] * 4)


def test_reasons_are_those_of_the_runtime(both) -> None:
    server, recommender = both
    a, b, c = recommender.recommend([], 3, exclude_seen=False).item_ids
    found = recommender.explain([a, b, a], c)
    answer = server.send("POST", "/v1/explain", {"history": [a, b, a], "item": c}).json
    assert answer["item"]["id"] == c
    assert answer["item"]["score"] == pytest.approx(found.score, abs=1e-5)
    assert [event["id"] for event in answer["events"]] == [a, b, a]
    contributions = [event["contribution"] for event in answer["events"]]
    assert contributions == pytest.approx(found.contributions, abs=1e-5)
    attention = [event.get("attention") for event in answer["events"]]
    assert attention == (found.attention or [None] * 3)


def test_what_cannot_be_explained_or_compared_is_refused(both) -> None:
    server, recommender = both
    is_int = recommender.info.id_type == "int64"
    unknown, wrong = (10**9, "a") if is_int else ("no such item", 5)
    for path, question in (
        ("/v1/similar", {"item": unknown}),
        ("/v1/explain", {"history": [], "item": unknown}),
    ):
        detail = server.send("POST", path, question).problem(422)["detail"]
        assert repr(unknown) in detail and "recommend returns" in detail
        problem = server.send("POST", path, question | {"item": wrong}).problem(422)
        assert (problem["field"], problem["value"]) == ("item", wrong)
        assert "item ids of this file are" in problem["detail"]


def test_a_model_that_knows_nothing_of_items_says_so(start) -> None:
    server = start("tiny-popularity")
    (item,) = server.ask({"history": [], "k": 1}).json["items"]
    problem = server.send("POST", "/v1/similar", {"item": item["id"]}).problem(422)
    assert "empty history" in problem["detail"]


def test_search_finds_every_word_in_any_order_and_case(strings, data) -> None:
    found = Recommender.load(data / "tiny-string.onnx").recommend([], 5, exclude_seen=False)
    place = next(i for i, title in enumerate(found.titles) if " " in title)
    words = found.titles[place].split()
    query = urllib.parse.quote_plus(" ".join(reversed(words)).upper())
    items = strings.send("GET", f"/v1/items?q={query}").json["items"]
    assert {"id": found.item_ids[place], "title": found.titles[place]} in items
    assert all(word.lower() in item["title"].lower() for item in items for word in words)


def test_search_looks_at_ids_where_there_are_no_titles(numbers) -> None:
    answer = numbers.send("GET", "/v1/items?q=12&limit=100").json
    assert answer["n_items"] == 30
    assert answer["items"] and all("12" in str(item["id"]) for item in answer["items"])
    assert len(numbers.send("GET", "/v1/items?limit=7").json["items"]) == 7


def test_a_search_that_makes_no_sense_is_refused(strings) -> None:
    for query, field in (
        ("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"),
        ("limit=1_0", "limit"), ("q=" + "x" * 201, "q"),
    ):  # fmt: skip
        assert strings.send("GET", f"/v1/items?{query}").problem(422)["field"] == field

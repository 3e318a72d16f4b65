"""Answers over HTTP are those of `Recommender`."""

import json
import math
import subprocess
import sys
import urllib.parse
from typing import Any

import pytest

from attnrec.runtime import Recommendations, Recommender

SKUS = ["sku-1", "sku-2", "sku-3"]
NOW = 1_000_000_000
MINUTES = {"timestamps": [NOW - 90, NOW - 60, NOW - 30], "request_time": NOW}
DAYS = MINUTES | {"request_time": NOW + 500_000}


@pytest.fixture(scope="module")
def load(data, app):
    """The application and the recommender of a file."""

    def call(name: str) -> tuple[Any, Recommender]:
        return app(f"tiny-{name}"), Recommender.load(data / f"tiny-{name}.onnx")

    return call


@pytest.fixture(scope="module", params=["string", "int64"])
def pair(request, load, data) -> tuple[Any, Recommender, list[dict[str, Any]]]:
    """Both for one file, and requests that both take."""
    expected = json.loads((data / f"tiny-{request.param}.expected.json").read_text("utf-8"))
    return *load(request.param), [call["recommend"] for call in expected["calls"]]


@pytest.fixture(scope="module", params=["string", "int64", "int8", "markov-chain"])
def both(request, load) -> tuple[Any, Recommender]:
    return load(request.param)


def as_json(found: Recommendations, recommender: Recommender) -> dict[str, Any]:
    titles = found.titles or [None] * len(found)
    items = [
        {"id": item_id, "score": score} | ({} if title is None else {"title": title})
        for item_id, score, title in zip(found.item_ids, found.scores, titles, strict=True)
    ]
    version = (recommender.info.sha256 or "")[:12]
    return {"items": items, "n_known": found.n_known, "model_version": version}


def assert_close(answer: dict[str, Any], found: Recommendations) -> None:
    """Rows of a batch differ from rows alone in the last digits of scores."""
    assert [item["id"] for item in answer["items"]] == found.item_ids
    scores = [item["score"] for item in answer["items"]]
    assert scores == pytest.approx(found.scores, abs=1e-4)
    assert answer["n_known"] == found.n_known


def test_one_row_is_answered_like_recommend(pair) -> None:
    client, recommender, rows = pair
    assert len(rows) >= 30
    for row in rows:
        reply = client.post(row)
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert reply.json == as_json(recommender.recommend(**row), recommender)


def test_a_list_of_rows_is_answered_in_its_order_with_the_policy_of_each(pair) -> None:
    client, recommender, rows = pair
    policies = (None, True, False)
    rows = [{**row, "exclude_seen": policies[i % 3]} for i, row in enumerate(rows)]
    answers = client.post(rows).json
    for answer, row in zip(answers, rows, strict=True):
        assert_close(answer, recommender.recommend(**row))
    assert client.post([]).json == []


@pytest.mark.parametrize(
    ("name", "side_inputs", "differ"),
    [
        (
            "users",
            [
                {}, {"user": None, "user_tags": None}, {"user": 3}, {"user": 999},
                {"user": 3, "user_tags": ["gold"]}, {"user_tags": ["шахматы", "no such tag"]},
                {"user": -1, "user_tags": []},
            ],
            (2,),
        ),
        ("times", [{}, {"timestamps": None, "request_time": None}, MINUTES, DAYS], (2, 3)),
    ],
)  # fmt: skip
def test_side_inputs_are_those_of_recommend(load, name, side_inputs, differ) -> None:
    client, recommender = load(name)
    rows = [{"history": SKUS, "k": 40, **given} for given in side_inputs]
    alone = [client.post(row).json for row in rows]
    for row, *answers in zip(rows, alone, client.post(rows).json, strict=True):
        for answer in answers:
            assert_close(answer, recommender.recommend(**row))
    assert alone[0] == alone[1]
    assert all(alone[place] != alone[0] for place in differ)


def test_scores_and_explanations_take_side_inputs_too(load) -> None:
    client, recommender = load("times")
    row = {"history": SKUS, "items": ["sku-4", "sku-6"], **DAYS}
    scores = client.post(row, "/v1/score").json["scores"]
    assert scores == pytest.approx(recommender.score(SKUS, row["items"], **DAYS), abs=1e-5)
    answer = client.post({"history": SKUS, "item": "sku-4", **DAYS}, "/v1/explain").json
    contributions = [event["contribution"] for event in answer["events"]]
    expected = recommender.explain(SKUS, "sku-4", **DAYS).contributions
    assert contributions == pytest.approx(expected, abs=1e-4)


def test_scores_are_in_the_order_of_the_items_and_null_where_there_is_none(both) -> None:
    client, recommender = both
    a, b, c = recommender.recommend([], 3, exclude_seen=False).item_ids
    unknown = 10**9 if recommender.info.id_type == "int64" else "no such item"
    reply = client.post({"history": [a], "items": [c, unknown, b]}, "/v1/score")
    scores = recommender.score([a], [c, unknown, b])
    assert math.isnan(scores[1])
    assert reply.json["scores"] == [scores[0], None, scores[2]]
    assert reply.json["model_version"] == recommender.info.sha256[:12]


def test_similar_items_are_those_of_the_runtime(both) -> None:
    client, recommender = both
    (item,) = recommender.recommend([], 1, exclude_seen=False).item_ids
    found = recommender.similar(item, 4)
    items = client.post({"item": item, "k": 4}, "/v1/similar").json["items"]
    assert [(one["id"], one["score"]) for one in items] == found.pairs()
    assert [one.get("title") for one in items] == (found.titles or [None] * 4)


def test_explanations_are_those_of_the_runtime(both) -> None:
    client, recommender = both
    a, b, c = recommender.recommend([], 3, exclude_seen=False).item_ids
    found = recommender.explain([a, b, a], c)
    answer = client.post({"history": [a, b, a], "item": c}, "/v1/explain").json
    assert answer["item"]["id"] == c
    assert answer["item"]["score"] == pytest.approx(found.score, abs=1e-5)
    assert [event["id"] for event in answer["events"]] == [a, b, a]
    contributions = [event["contribution"] for event in answer["events"]]
    assert contributions == pytest.approx(found.contributions, abs=1e-4)
    attention = [event.get("attention") for event in answer["events"]]
    assert attention == (found.attention or [None] * 3)


def test_search_finds_every_word_in_any_order_and_case(strings, load) -> None:
    found = load("string")[1].recommend([], 5, exclude_seen=False)
    place = next(i for i, title in enumerate(found.titles) if " " in title)
    words = found.titles[place].split()
    query = urllib.parse.quote_plus(" ".join(reversed(words)).upper())
    items = strings.get(f"/v1/items?q={query}").json["items"]
    assert {"id": found.item_ids[place], "title": found.titles[place]} in items
    assert all(word.lower() in item["title"].lower() for item in items for word in words)


def test_search_looks_at_ids_where_there_are_no_titles(numbers) -> None:
    answer = numbers.get("/v1/items?q=12&limit=100").json
    assert answer["n_items"] == 30
    assert answer["items"] and all("12" in str(item["id"]) for item in answer["items"])
    assert len(numbers.get("/v1/items?limit=7").json["items"]) == 7


def test_the_facts_are_those_of_the_file(both) -> None:
    client, recommender = both
    facts, info = client.get("/v1/model").json, recommender.info
    assert facts["sha256"] == info.sha256
    for name in ("n_items", "profile", "inputs", "user_id_type", "metrics", "parity"):
        assert facts[name] == json.loads(json.dumps(getattr(info, name))), name


def test_a_healthy_server_is_alive_and_ready(both) -> None:
    client, recommender = both
    assert client.get("/healthz").json == {"status": "alive"}
    version = recommender.info.sha256[:12]
    assert client.get("/readyz").json == {"status": "ready", "model_version": version}


def test_the_runtime_without_the_extra_imports_nothing_of_http() -> None:
    code = (
        "import sys, attnrec.runtime; "
        "assert not {'starlette', 'uvicorn', 'msgspec', 'httptools', 'prometheus_client', "
        "'asyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_extra_the_command_prints_how_to_install_it() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from attnrec.cli.main import serve; serve()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.strip().endswith("pip install 'attnrec[serve]'")
    assert "Traceback" not in result.stderr

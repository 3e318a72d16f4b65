"""The fields `timestamps` and `request_time` of a question, and files that know no times."""

from pathlib import Path

import pytest

from attnrec.runtime import Recommender

HISTORY = ["sku-1", "sku-2", "sku-3"]
NOW = 1_000_000_000
MINUTES = {"timestamps": [NOW - 90, NOW - 60, NOW - 30], "request_time": NOW}
DAYS = {"timestamps": [NOW - 90, NOW - 60, NOW - 30], "request_time": NOW + 500_000}


@pytest.fixture(scope="module")
def times(start):
    return start("tiny-times")


def test_times_are_answered_like_recommend(times, data: Path) -> None:
    recommender = Recommender.load(data / "tiny-times.onnx")
    clocks = [{}, MINUTES, {"timestamps": None, "request_time": None}, DAYS]
    rows = [{"history": HISTORY, "k": 40, **clock} for clock in clocks]
    alone = [times.ask(row) for row in rows]
    assert [reply.status for reply in alone] == [200] * len(rows)
    for row, reply, in_list in zip(rows, alone, times.ask(rows).json, strict=True):
        expected = recommender.recommend(**row)
        for answer in (reply.json, in_list):
            assert [item["id"] for item in answer["items"]] == expected.item_ids
            scores = [item["score"] for item in answer["items"]]
            assert scores == pytest.approx(expected.scores, abs=1e-5)
    assert alone[0].json == alone[2].json != alone[1].json != alone[3].json


def test_scores_and_reasons_take_times_too(times, data: Path) -> None:
    recommender = Recommender.load(data / "tiny-times.onnx")
    question = {"history": HISTORY, "items": ["sku-4", "sku-6"], **DAYS}
    scores = times.send("POST", "/v1/score", question).json["scores"]
    expected = recommender.score(HISTORY, ["sku-4", "sku-6"], **DAYS)
    assert scores == pytest.approx(expected, abs=1e-5)
    told = times.send("POST", "/v1/explain", {"history": HISTORY, "item": "sku-4", **DAYS}).json
    contributions = recommender.explain(HISTORY, "sku-4", **DAYS).contributions
    given = [event["contribution"] for event in told["events"]]
    assert given == pytest.approx(contributions, abs=1e-4)


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        ({"request_time": NOW}, "request_time without timestamps"),
        ({"timestamps": [1, 2, 3]}, "timestamps without request_time"),
        ({"timestamps": [1, 2], "request_time": NOW}, "2 times for a history of 3 events"),
        ({"timestamps": [1, 2, 3.5], "request_time": NOW}, "timestamps"),
        ({"timestamps": [1, 2, 2**63], "request_time": NOW}, "timestamps"),
        ({"timestamps": "yesterday", "request_time": NOW}, "timestamps"),
        ({"timestamps": [1, 2, 3], "request_time": "now"}, "request_time"),
    ],
    ids=["no events", "no request", "length", "float", "size", "list", "text"],
)
def test_what_is_no_time_is_refused(times, clock, words) -> None:
    problem = times.ask({"history": HISTORY, **clock}).problem(422)
    assert words in problem["detail"] or problem["field"].startswith(words)
    assert problem["field"].startswith(("timestamps", "request_time"))
    assert "item ids" not in problem["detail"]


def test_times_in_another_unit_are_refused_on_every_path(times) -> None:
    clock = {"timestamps": [time * 1000 for time in MINUTES["timestamps"]], "request_time": NOW}
    for path, question in (
        ("/v1/recommend", {}),
        ("/v1/score", {"items": ["sku-4"]}),
        ("/v1/explain", {"item": "sku-4"}),
    ):
        problem = times.send("POST", path, {"history": HISTORY, **question, **clock}).problem(422)
        assert "looks like milliseconds; send seconds" in problem["detail"], path
    inputs = [
        {"name": "history", "datatype": "BYTES", "shape": [1, 3], "data": HISTORY},
        {"name": "timestamps", "datatype": "INT64", "shape": [1, 3], "data": clock["timestamps"]},
        {"name": "request_time", "datatype": "INT64", "shape": [1], "data": [NOW]},
    ]
    path = "/v2/models/attnrec/infer"
    assert "looks like milliseconds" in times.send("POST", path, {"inputs": inputs}).json["error"]
    inputs[1]["data"] = MINUTES["timestamps"]
    assert times.send("POST", path, {"inputs": inputs}).status == 200


def test_a_file_without_a_clock_says_so(strings) -> None:
    problem = strings.ask({"history": [], "timestamps": [], "request_time": 5}).problem(422)
    assert "does not declare the input 'timestamps'" in problem["detail"]

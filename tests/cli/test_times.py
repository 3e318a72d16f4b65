"""Times of a request, on the command line."""

import json
from pathlib import Path

import pytest

from attnrec.runtime import Recommender

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
TIMES, STRING = FORMAT_1 / "tiny-times.onnx", FORMAT_1 / "tiny-string.onnx"


def test_recommend_takes_times(run) -> None:
    recommender = Recommender.load(TIMES)
    for request_time in (1_000_000_060, 1_000_500_000):
        options = ["--timestamps", "1000000000, 1000000030", "--request-time", request_time]
        outcome = run("recommend", TIMES, "--history", "sku-1,sku-2", "--json", *options)
        assert outcome.code == 0, outcome.err
        answer = json.loads(outcome.out)
        side_inputs = {"timestamps": [1_000_000_000, 1_000_000_030], "request_time": request_time}
        expected = recommender.recommend(["sku-1", "sku-2"], **side_inputs)
        assert (answer["item_ids"], answer["scores"]) == (expected.item_ids, expected.scores)


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        (TIMES, ["--timestamps", "yesterday"], ["'yesterday'", "Unix seconds"]),
        (
            TIMES,
            ["--timestamps", "1000000000000,1000000030000", "--request-time", "1000000060"],
            ["timestamps holds 1000000030000", "looks like milliseconds; send seconds"],
        ),
        (TIMES, ["--timestamps", "1,2"], ["timestamps without request_time", "give both"]),
        (TIMES, ["--request-time", "5"], ["request_time without timestamps"]),
        (STRING, ["--request-time", "5"], ["does not declare the input 'request_time'"]),
    ],
    ids=["text", "milliseconds", "no request", "no events", "no clock"],
)
def test_wrong_times_are_refused_in_one_line(run, file, options, words) -> None:
    outcome = run("recommend", file, "--history", "sku-1,sku-2", *options)
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert all(word in outcome.err for word in words), outcome.err

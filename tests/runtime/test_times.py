"""A file with the inputs timestamps and request_time, used without torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnrec.runtime import Recommender

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
HISTORY = ["sku-1", "sku-2", "sku-3"]
NOW = 1_000_000_000
MINUTES = [NOW - 90, NOW - 60, NOW - 30]


@pytest.fixture(scope="module")
def times() -> Recommender:
    return Recommender.load(FORMAT_1 / "tiny-times.onnx")


def test_the_pause_before_the_request_decides(times: Recommender) -> None:
    soon = times.recommend(HISTORY, timestamps=MINUTES, request_time=NOW)
    later = times.recommend(HISTORY, timestamps=MINUTES, request_time=NOW + 500_000)
    assert soon.scores != pytest.approx(later.scores, abs=1e-2)


def test_without_times_it_answers_as_with_unknown_times(times: Recommender) -> None:
    nothing = times.recommend(HISTORY)
    for given in ([-1, -1, -1], [-5, -(2**63), -1], MINUTES):
        assert times.recommend(HISTORY, timestamps=given, request_time=-1) == nothing
    assert times.recommend(HISTORY, timestamps=[-1] * 3, request_time=NOW) == nothing
    assert times.recommend(HISTORY, timestamps=MINUTES, request_time=NOW) != nothing


def test_only_the_time_since_counts_not_the_date(times: Recommender) -> None:
    now = times.score(HISTORY, HISTORY, timestamps=MINUTES, request_time=NOW)
    shifted = [time + 10**8 for time in MINUTES]
    then = times.score(HISTORY, HISTORY, timestamps=shifted, request_time=NOW + 10**8)
    assert then == pytest.approx(now, abs=1e-5)


def test_the_times_of_unknown_items_go_with_them(times: Recommender) -> None:
    with_unknown = ["sku-1", "no such item", "sku-2", "", "sku-3"]
    given = [MINUTES[0], 7, MINUTES[1], NOW, MINUTES[2]]
    mixed = times.recommend(with_unknown, timestamps=given, request_time=NOW)
    plain = times.recommend(HISTORY, timestamps=MINUTES, request_time=NOW)
    assert mixed.item_ids == plain.item_ids
    assert mixed.scores == pytest.approx(plain.scores, abs=1e-5)


def test_each_row_of_a_batch_has_its_own_times(times: Recommender) -> None:
    histories: list[Any] = [[], HISTORY, ["sku-9"], HISTORY * 5, HISTORY]
    given: list[Any] = [[], MINUTES, [0], MINUTES * 5, None]
    requests: list[Any] = [NOW, NOW, 10**9, NOW + 10**6, None]
    together = times.recommend_batch(histories, 5, timestamps=given, request_times=requests)
    for history, own, at, answer in zip(histories, given, requests, together, strict=True):
        alone = times.recommend(history, 5, timestamps=own, request_time=at)
        assert answer.item_ids == alone.item_ids
        assert answer.scores == pytest.approx(alone.scores, abs=1e-5)


def test_an_event_is_left_out_with_its_time_when_it_is_explained(times: Recommender) -> None:
    item = times.recommend(HISTORY, 1, timestamps=MINUTES, request_time=NOW).item_ids[0]
    why = times.explain(HISTORY, item, timestamps=MINUTES, request_time=NOW)

    def score(places: list[int]) -> float:
        events, own = [HISTORY[i] for i in places], [MINUTES[i] for i in places]
        return times.score(events, [item], timestamps=own, request_time=NOW)[0]

    assert why.score == pytest.approx(score([0, 1, 2]), abs=1e-5)
    without = [why.score - score(rest) for rest in ([1, 2], [0, 2], [0, 1])]
    assert why.contributions == pytest.approx(without, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"timestamps": MINUTES}, ["timestamps without request_time", "give both"]),
        ({"request_time": NOW}, ["request_time without timestamps", "give both"]),
        (
            {"timestamps": MINUTES[:2], "request_time": NOW},
            ["2 times for a history of 3 events", "give one for each"],
        ),
        (
            {"timestamps": [*MINUTES[:2], 1.5], "request_time": NOW},
            ["timestamps[2] is 1.5", "whole numbers", "convert it first"],
        ),
        (
            {"timestamps": [*MINUTES[:2], None], "request_time": NOW},
            ["timestamps[2] is None", "leave missing"],
        ),
        ({"timestamps": MINUTES, "request_time": 1.5e9}, ["request_time", "1500000000.0"]),
        ({"timestamps": MINUTES, "request_time": True}, ["request_time", "True"]),
        ({"timestamps": MINUTES, "request_time": 2**63}, ["no int64"]),
        ({"timestamps": "2024-01-01", "request_time": NOW}, ["timestamps must be a list"]),
    ],
    ids=str,
)
def test_what_is_no_time_is_refused(
    given: dict[str, Any], words: list[str], times: Recommender
) -> None:
    with pytest.raises(ValueError) as error:
        times.recommend(HISTORY, **given)
    assert all(word in str(error.value) for word in words), error.value


MILLISECONDS = {"timestamps": [time * 1000 for time in MINUTES], "request_time": NOW * 1000}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            MILLISECONDS,
            [
                "request_time holds 1000000000000",
                "milliseconds; send seconds, or leave request_time and timestamps out",
            ],
        ),
        (MILLISECONDS | {"request_time": NOW}, ["timestamps holds 999999970000", "milliseconds"]),
        ({"timestamps": MINUTES, "request_time": NOW * 10**6}, ["microseconds"]),
        ({"timestamps": MINUTES, "request_time": NOW * 10**9}, ["nanoseconds"]),
        ({"timestamps": MINUTES, "request_time": 2**63 - 1}, ["it is no time"]),
        ({"timestamps": MINUTES, "request_time": 4_102_444_800}, ["after the year 2100"]),
    ],
    ids=["ms", "ms of events", "us", "ns", "the end of time", "2100"],
)
def test_times_after_2100_in_seconds_are_refused_with_their_unit(
    given: dict[str, Any], words: list[str], times: Recommender
) -> None:
    several = {"timestamps": [given["timestamps"]], "request_times": [given["request_time"]]}
    for call in (
        lambda: times.recommend(HISTORY, **given),
        lambda: times.score(HISTORY, HISTORY, **given),
        lambda: times.explain(HISTORY, "sku-4", **given),
        lambda: times.recommend_batch([HISTORY], **several),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert all(word in str(error.value) for word in [*words, "send seconds"]), error.value


def test_the_last_second_before_2100_is_a_time(times: Recommender) -> None:
    last = 4_102_444_799
    assert times.recommend(HISTORY, timestamps=[last] * 3, request_time=last).n_known == 3


@pytest.mark.parametrize(
    "data",
    [
        {"time_unit": "order", "last_time": None},
        {"time_unit": "datetime", "last_time": "9999-12-31T00:00:00+00:00"},
        {"time_unit": "s", "last_time": "1700000000000 s"},
    ],
    ids=["order", "far future", "forced unit"],
)
def test_a_file_of_a_log_with_such_times_takes_them(
    data: dict[str, Any], changed: Callable[..., bytes], tmp_path: Path
) -> None:
    content = (FORMAT_1 / "tiny-times.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(
        changed(content, "attnrec.data", lambda before: before | data)
    )
    recommender = Recommender.load(tmp_path / "model.onnx")
    assert recommender.recommend(HISTORY, **MILLISECONDS).n_known == 3


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s", "D"])
def test_arrays_of_dates_are_refused_in_every_resolution(unit: str, times: Recommender) -> None:
    dates = np.array(MINUTES, "datetime64[s]").astype(f"datetime64[{unit}]")
    for given in (dates, list(dates), dates.tolist() if unit != "ns" else dates):
        with pytest.raises(ValueError, match=r"timestamps\[0\] is .*send Unix seconds"):
            times.recommend(HISTORY, timestamps=given, request_time=NOW)
    for requests in (dates[:1], [dates[0]]):
        with pytest.raises(ValueError, match=r"request_time\[0\] is .*send Unix seconds"):
            times.recommend_batch([HISTORY], timestamps=[MINUTES], request_times=requests)
    # The remedy of the message, as it stands there.
    seconds = dates.astype("datetime64[s]").astype("int64")
    assert times.recommend(HISTORY, timestamps=seconds, request_time=NOW).n_known == 3

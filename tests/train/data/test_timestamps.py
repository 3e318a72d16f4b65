"""Times of every usual form end as unix seconds in the right order, or as a clear error."""

from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnrec.runtime.errors import DataError
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe, DataReport, TimeUnit

# 2011-12-09 12:50:00 UTC
NOON = 1323435000
# pandas takes some of these for ISO 8601.
NOT_ISO = [
    "now", "today", "NaT", "", "12:50", "2020-01", "2020/01/02", "2020 01 02", "2020-1-2",
    " 2020-01-02", "2020-01-02T24:00", "2020-W01-4", "2020-01-02Z", "1600-01-01",
]  # fmt: skip


def read(times: object, unit: TimeUnit = "auto") -> tuple[Interactions, DataReport]:
    column = pd.Series(times)
    frame = pd.DataFrame({"user_id": 1, "item_id": range(len(column)), "timestamp": column})
    return load_interactions(frame, DataRecipe(time_unit=unit))


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([NOON, NOON + 1, NOON + 2], "s"),
        ([NOON * 1000 + 999, (NOON + 1) * 1000, (NOON + 2) * 1000], "ms"),
        ([NOON * 10**6 + 999_999, (NOON + 1) * 10**6, (NOON + 2) * 10**6], "us"),
        ([NOON * 10**9 + 999_999_999, (NOON + 1) * 10**9, (NOON + 2) * 10**9], "ns"),
        ([NOON + 0.25, NOON + 1.5, NOON + 2.75], "s"),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_the_unit_of_numbers_is_guessed_by_size_and_reported(
    times: list[float], unit: str, as_text: bool
) -> None:
    data, report = read(list(map(str, times)) if as_text else times)
    assert list(data.timestamps) == [NOON, NOON + 1, NOON + 2]
    assert (report.time_unit, report.time_unit_guessed) == (unit, True)
    assert report.first_time == "2011-12-09T12:50:00+00:00"
    assert report.last_time == "2011-12-09T12:50:02+00:00"


@pytest.mark.parametrize(
    "times",
    [
        ["2011-12-09 12:50:00", "2011-12-09 12:50:01", "2011-12-09 12:50:02"],
        ["2011-12-09T12:50", "2011-12-09T12:50:01.5", "2011-12-09T12:50:02.123456789"],
        ["2011-12-09T12:50:00Z", "2011-12-09T12:50:01Z", "2011-12-09T12:50:02Z"],
        ["2011-12-09T13:50:00+01:00", "2011-12-09T07:50:01-0500", "2011-12-09 12:50:02+00"],
        ["2011-12-09 12:50:00", "2011-12-09T13:50:01+01:00", "2011-12-09 12:50:02 UTC"],
    ],
)
def test_iso_text_is_read_with_and_without_zones(times: list[str]) -> None:
    data, report = read(times)
    assert list(data.timestamps) == [NOON, NOON + 1, NOON + 2]
    assert (report.time_unit, report.time_unit_guessed) == ("iso", True)
    assert read(times, "iso")[1].time_unit_guessed is False


def test_dates_are_midnight_utc() -> None:
    days = [date(2011, 12, 9), date(2011, 12, 10), date(1969, 12, 31)]
    from_objects, report = read(pd.Series(days, dtype=object))
    from_text, _ = read([str(day) for day in days])
    assert list(from_objects.timestamps) == list(from_text.timestamps)
    assert list(from_text.timestamps) == [-86400, 1323388800, 1323475200]
    assert (report.time_unit, report.time_unit_guessed) == ("datetime", False)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_datetime_columns_need_no_guess(
    unit: Literal["s", "ms", "us", "ns"], zone: str | None, tmp_path: Path
) -> None:
    times = pd.to_datetime([NOON, NOON + 1, NOON + 2], unit="s", utc=True).as_unit(unit)
    column = times.tz_convert(zone)
    frame = pd.DataFrame({"user_id": 1, "item_id": [1, 2, 3], "timestamp": column})
    frame.to_parquet(tmp_path / "log.parquet")
    for log in (frame, tmp_path / "log.parquet"):
        data, report = load_interactions(log)
        assert list(data.timestamps) == [NOON, NOON + 1, NOON + 2]
        assert report.time_unit == "datetime"


@pytest.mark.parametrize("times", [[3, 1, 2], ["3", "1", "2"], [3.0, 1.0, 2.0]])
def test_small_whole_numbers_are_places_in_an_order(times: object) -> None:
    data, report = read(times)
    assert list(data.timestamps) == [1, 2, 3]
    assert list(data.item_ids[data.item_index]) == [1, 2, 0]
    assert (report.time_unit, report.first_time) == ("order", None)
    assert "order only" in str(report)


def test_a_given_unit_overrides_the_guess() -> None:
    data, report = read([0, 2500, 5000], "ms")
    assert list(data.timestamps) == [0, 2, 5]
    assert (report.time_unit, report.time_unit_guessed) == ("ms", False)
    assert list(read([NOON, 0, 7], "order")[0].timestamps) == [0, 7, NOON]


@pytest.mark.parametrize(
    "times",
    [
        [NOON + 0.75, NOON + 0.5, NOON + 0.25],
        [NOON * 1000 + 3, NOON * 1000 + 2, NOON * 1000 + 1],
        [NOON * 10**9 + 3, NOON * 10**9 + 2, NOON * 10**9 + 1],
        [f"2011-12-09T12:50:00.{part}" for part in ("000000003", "000000002", "000000001")],
        pd.to_datetime([NOON * 10**9 + 3, NOON * 10**9 + 2, NOON * 10**9 + 1]),
    ],
)
def test_events_within_a_second_keep_their_true_order(times: object) -> None:
    data, _ = read(times)
    assert list(data.item_ids[data.item_index]) == [2, 1, 0]
    assert list(data.timestamps) == [NOON] * 3


def test_events_of_the_same_time_keep_the_order_of_the_log() -> None:
    n_events = 1000
    data, _ = read(np.full(n_events, NOON))
    assert list(data.item_ids[data.item_index]) == list(range(n_events))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.datetimes(
            min_value=pd.Timestamp("1973-06-01").to_pydatetime(),
            max_value=pd.Timestamp("2099-12-31").to_pydatetime(),
        ),
        min_size=3,
    )
)
def test_every_form_of_the_same_times_gives_the_same_log(times: list[pd.Timestamp]) -> None:
    column = pd.Series(times, dtype="datetime64[us]")
    micros = column.astype("int64")
    forms = [column, column.dt.tz_localize("UTC"), micros, micros.astype(str)]
    forms.append(pd.Series([time.isoformat() for time in times]))
    forms.append(pd.Series([time.isoformat() + "Z" for time in times]))
    fingerprints = {read(form)[0].fingerprint() for form in forms}
    assert len(fingerprints) == 1


@pytest.mark.parametrize(
    ("times", "unit", "problem"),
    [
        ([1.0, float("nan"), 2.0], "auto", "row 2, .*missing"),
        ([1.0, 2.0, float("inf")], "auto", "row 3, .*inf is no time"),
        (pd.to_datetime(["2020-01-01", "NaT", "2020-01-03"]), "auto", "row 2, .*missing"),
        (["2020-01-01", "2020-02-30", "2020-01-03"], "auto", "row 2, .*'2020-02-30' is no time"),
        (["2020-01-01", "01/02/2020", "2020-01-03"], "auto", "row 2, .*write it like 2011-12-09"),
        (["2020-01-01T12:00Z", "2020-01-02", "now"], "auto", "row 3, .*'now' is no time"),
        (["2020-01-01", "9999-12-31", "2020-01-02"], "auto", "row 2, .*years 1678 and 2261"),
        (["1", "2", "2020-01-01"], "auto", "row 3, .*'2020-01-01' is not a number"),
        (["1", "2", ""], "auto", "row 3, .*'' is not a number"),
        (["", "", ""], "auto", "row 1, .*'' is no time"),
        *((["2020-01-01", text], "auto", "row 2, .* is no time between") for text in NOT_ISO),
        (["1", "2", "x"], "s", "row 3, .*'x' is not a number.*`time_unit` is s"),
        ([1, 2, 3], "iso", "row 1, .*leave `time_unit=iso` out"),
        (pd.to_datetime(["2020-01-01"] * 3), "s", "leave `time_unit=s` out"),
        ([NOON, 0, NOON], "auto", "row 2, .*0 looks like a place in an order.*`time_unit`"),
        ([NOON, NOON * 1000, NOON], "auto", "row 1, .*unix time in s, .*unix time in ms"),
        (
            [20111209125000] * 3,
            "auto",
            "row 1, .*looks like a date, YYYYMMDD.*write it like 2011-12-09",
        ),
        ([0.5, 1.5, 2.5], "auto", "row 1, .*0.5 is no whole number"),
        ([1e30, 1e30, 1e30], "s", "row 1, .*beyond int64"),
        (np.array([1, 2, 2**64 - 1], np.uint64), "s", "row 3, .*beyond int64"),
        (np.array([NOON] * 3, np.float32), "auto", "float cannot hold a unix time exactly"),
        ([True, False, True], "auto", "type bool is no time"),
    ],
)
def test_a_time_that_cannot_be_trusted_is_refused_with_its_row(
    times: object, unit: TimeUnit, problem: str
) -> None:
    with pytest.raises(DataError, match=problem):
        read(times, unit)


@pytest.mark.parametrize(
    ("times", "unit", "read_as"),
    [
        ([20200303, 20200304, 20191231], "order", "a place in an order"),
        ([2020030312, 2020030400, 2019123123], "s", "a unix time in s"),
        ([202003031215, 202003040000, 201912312359], "ms", "a unix time in ms"),
    ],
)
def test_numbers_that_look_like_dates_are_read_as_such_numbers_with_a_hint(
    times: list[int], unit: TimeUnit, read_as: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(times)[1].time_unit == unit
    assert f"'timestamp': {times[0]} looks like a date, YYYYMMDD" in caplog.text
    assert f"is read as {read_as}; if it is a date, write it like 2011-12-09" in caplog.text
    assert f"if not, give `time_unit={unit}`" in caplog.text
    caplog.clear()
    read(times, unit)
    assert not caplog.text


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([20200303, 20200304, 20201332], "auto"),
        ([1, 2, 3], "auto"),
        ([NOON, NOON, NOON], "auto"),
        ([NOON, NOON, NOON], "s"),
        ([0, 2500, 5000], "ms"),  # 1970, and no other unit makes a likely year of it
    ],
)
def test_numbers_of_a_likely_unit_get_no_hint(
    times: list[int], unit: TimeUnit, caplog: pytest.LogCaptureFixture
) -> None:
    read(times, unit)
    assert not caplog.text


@pytest.mark.parametrize(
    ("times", "unit", "year", "right"),
    [
        ([NOON * 1000] * 3, "s", 43907, "ms"),
        ([NOON] * 3, "ms", 1970, "s"),
        ([NOON * 10**9] * 3, "us", 43907, "ns"),
    ],
)
def test_a_given_unit_that_makes_no_likely_year_is_reported_with_the_one_that_does(
    times: list[int], unit: TimeUnit, year: int, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(times, unit)[1].time_unit == unit
    assert f"{times[0]} is in the year {year} with `time_unit={unit}`" in caplog.text
    assert f"with `time_unit={right}` in 2011" in caplog.text

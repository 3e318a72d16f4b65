"""A time column in any usual form to an exact sort key and whole unix seconds."""

import logging
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnrec.runtime.errors import DataError
from attnrec.train.data.recipe import TimeUnit
from attnrec.train.data.tables import RawTable, first_failure, shown

logger = logging.getLogger(__name__)

_Numbers = NDArray[np.int64] | NDArray[np.float64]

_TICKS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

# Unix seconds of 1973-03-03 and of 2100-01-01: between them a number is taken for a time.
_EARLIEST, _LATEST = 10**8, 4_102_444_800

_ENOUGH = 1000  # numbers that show that a column does not hold dates

# Up to here float32 holds every whole number.
_FLOAT32_WHOLE = 2**24

# How ISO 8601 begins: a whole date, alone or before a time of day.
_DATE = r"\A\d{4}-\d\d-\d\d(?:[T ]\d\d|\z)"
_FIRST_TIME, _LAST_TIME = pd.Timestamp.min.tz_localize("UTC"), pd.Timestamp.max.tz_localize("UTC")
_NOT_ISO = "is a number, not ISO 8601 text"
_ISO_EXAMPLES = "2011-12-09, 2011-12-09 12:50:00.5, 2011-12-09T12:50:00+01:00"


@dataclass(frozen=True, eq=False)
class EventTimes:
    """The time of each row, once exact and once in seconds."""

    key: _Numbers
    """Sort key in the precision of the source (n_rows,)."""
    seconds: NDArray[np.int64]
    """Unix seconds, rounded down; the place in the order for unit "order" (n_rows,)."""
    unit: str
    """"s", "ms", "us", "ns", "iso" (text), "datetime" (a typed column) or "order"."""
    guessed: bool
    """Whether the unit was guessed from the values."""


class _Column(NamedTuple):
    """A column under examination, with what an error message needs."""

    raw: RawTable
    name: str

    def error(self, row: int, problem: str, remedy: str = "") -> DataError:
        value = self.raw.columns[self.name][row].as_py()
        return self.raw.error(self.name, row, f"{shown(value)} {problem}", remedy)


def read_times(raw: RawTable, column: str, unit: TimeUnit) -> EventTimes:
    """Read `column`; "auto" guesses the unit of numbers by their size.

    Absolute values below 1e8 are places in an order; from 1e8 (March 1973) to the year 2100 they
    are seconds, the same range times 1e3 is milliseconds, times 1e6 microseconds, times 1e9
    nanoseconds. Values of different units in one column, or between these ranges, are an error
    that `unit` resolves. Text that is no number is ISO 8601; without a zone it is UTC. Columns
    of a date or datetime type need no guess. Raises `DataError` with the row of a bad value.
    """
    where = _Column(raw, column)
    values = raw.decoded(column)
    if values.null_count:
        row = pc.index(values.is_null(), True).as_py()
        raise raw.error(column, row, "the time is missing; fill it in or drop the row")
    kind = values.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _typed_times(where, values, unit)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numeric_times(where, _numbers(where, values), unit)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_times(where, values, unit)
    raise raw.column_error(column, f"type {kind} is no time; use unix seconds or ISO 8601 text")


def _typed_times(where: _Column, values: Any, unit: TimeUnit) -> EventTimes:
    if unit not in ("auto", "iso"):
        problem = f"the column is of type {values.type}, which has a unit of its own"
        raise where.raw.column_error(where.name, problem, f"leave `time_unit={unit}` out")
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("s"))
    key: NDArray[np.int64] = values.cast(pa.int64()).to_numpy()
    seconds = key // _TICKS_PER_SECOND[values.type.unit]
    return EventTimes(key, seconds, "datetime", guessed=False)


def _text_times(where: _Column, values: Any, unit: TimeUnit) -> EventTimes:
    # The first value says which kind of column this was meant to be.
    if unit in ("auto", "iso"):
        try:
            values.slice(0, 1).cast(pa.float64())
        except pa.ArrowInvalid:
            return _iso_times(where, values, guessed=unit == "auto")
    for kind in (pa.int64(), pa.float64()):
        try:
            return _numeric_times(where, values.cast(kind).to_numpy(), unit)
        except pa.ArrowInvalid as error:
            cause = error
    row = first_failure(values, lambda part: part.cast(pa.float64()))
    remedy = "" if unit == "auto" else f"`time_unit` is {unit}"
    raise where.error(row, "is not a number; correct or drop the row", remedy) from cause


def _iso_times(where: _Column, values: Any, guessed: bool) -> EventTimes:
    parts, n_before = [], 0
    for chunk in values.chunks:  # short ones: pandas makes a Python object of each text
        if pc.any(pc.ends_with(chunk, "UTC")).as_py():  # as BigQuery and others write the zone
            chunk = pc.replace_substring_regex(chunk, r" ?UTC\z", "Z")
        texts = chunk.to_numpy(zero_copy_only=False)
        times = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce", cache=False)
        # pandas also takes "now", a month without a day and 2011/12/09 for ISO 8601.
        dated = pc.match_substring_regex(chunk, _DATE).to_numpy(zero_copy_only=False)
        valid = dated & (times >= _FIRST_TIME) & (times <= _LAST_TIME)
        if not valid.all():
            problem = f"is no time between the years 1678 and 2261; write it like {_ISO_EXAMPLES}"
            raise where.error(n_before + int(np.argmin(valid)), problem)
        parts.append(times.as_unit("ns").asi8)
        n_before += len(chunk)
    key = np.concatenate(parts)
    return EventTimes(key, key // _TICKS_PER_SECOND["ns"], "iso", guessed)


def _numbers(where: _Column, values: Any) -> _Numbers:
    kind = pa.int64() if pa.types.is_integer(values.type) else pa.float64()
    try:
        numbers: _Numbers = values.cast(kind).to_numpy()
    except pa.ArrowInvalid as error:
        row = first_failure(values, lambda part: part.cast(kind))
        raise where.error(row, "is beyond int64") from error
    coarse = pa.types.is_float32(values.type) or pa.types.is_float16(values.type)
    if coarse and np.nanmax(np.abs(numbers), initial=0) >= _FLOAT32_WHOLE:
        # Neighbouring float32 values are 128 seconds apart at today's unix time.
        problem = f"type {values.type} cannot hold a unix time exactly; write int64 or float64"
        raise where.raw.column_error(where.name, problem)
    return numbers


def _numeric_times(where: _Column, numbers: _Numbers, unit: TimeUnit) -> EventTimes:
    if unit == "iso":
        raise where.error(0, _NOT_ISO, "leave `time_unit=iso` out")
    finite = np.isfinite(numbers)
    if not finite.all():
        raise where.error(int(np.argmin(finite)), "is no time; drop the row")
    chosen = _guess_unit(where, numbers) if unit == "auto" else unit
    whole = _whole_numbers(where, numbers)
    if chosen == "order" and not np.array_equal(whole, numbers):
        problem = "is no whole number, as a place in an order must be"
        raise where.error(int(np.argmax(whole != numbers)), problem, "give `time_unit`")
    if unit == "auto":
        _hint_at_dates(where, numbers, chosen)
    else:
        _hint_at_unit(where, numbers, chosen)
    ticks = _TICKS_PER_SECOND.get(chosen, 1)
    seconds = whole if ticks == 1 else whole // ticks
    return EventTimes(numbers, seconds, chosen, guessed=unit == "auto")


def _sizes(numbers: _Numbers) -> _Numbers:
    """Absolute values, without a copy where none is negative. -2^63 has none in int64."""
    return numbers if numbers.min() >= 0 else np.abs(numbers.astype(np.float64))


def _whole_numbers(where: _Column, numbers: _Numbers) -> NDArray[np.int64]:
    """The numbers rounded down. Integers stay as they are: float64 has no room for nanoseconds."""
    if numbers.dtype == np.int64:
        return numbers.astype(np.int64, copy=False)
    sizes = np.abs(numbers)
    if sizes.max() >= 2.0**63:
        raise where.error(int(np.argmax(sizes)), "is beyond int64")
    return np.floor(numbers).astype(np.int64)


def _guess_unit(where: _Column, numbers: _Numbers) -> str:
    sizes = _sizes(numbers)
    low, high = int(np.argmin(sizes)), int(np.argmax(sizes))
    unit_low, unit_high = _unit_of(sizes[low]), _unit_of(sizes[high])
    if unit_high is None:
        if _look_like_dates(numbers):
            raise where.error(high, f"looks like a date, YYYYMMDD; write it like {_ISO_EXAMPLES}")
        problem = "is no likely unix time in s, ms, us or ns"
        raise where.error(high, problem, "give `time_unit`")
    if unit_low != unit_high:
        problem = (
            f"looks like {_described(unit_low)}, but the column also holds {numbers[high]}, "
            f"which looks like {_described(unit_high)}; drop the row"
        )
        raise where.error(low, problem, "or give `time_unit`")
    return unit_high


def _hint_at_dates(where: _Column, numbers: _Numbers, chosen: str) -> None:
    """Say so where what is read as a place in an order, or as a unix time, may be a date."""
    if _look_like_dates(numbers):
        logger.warning(
            "%s, column %r: %d looks like a date, YYYYMMDD, and is read as %s; if it is a date, "
            "write it like %s; if not, give `time_unit=%s`",
            where.raw.name, where.name, numbers[0], _described(chosen), _ISO_EXAMPLES, chosen,
        )  # fmt: skip


def _look_like_dates(numbers: _Numbers) -> bool:
    """Whether all are YYYYMMDD from 1900 to 2100, perhaps with hours, minutes and seconds."""
    n_digits = len(f"{numbers[0]:.0f}")
    if n_digits not in (8, 10, 12, 14):
        return False
    if len(numbers) > _ENOUGH and not _look_like_dates(numbers[:_ENOUGH]):
        return False
    rest = numbers.astype(np.float64)  # 14 digits are exact
    bounds = [(0, 59)] * ((n_digits - 10) // 2) + [(0, 23)] * (n_digits > 8) + [(1, 31), (1, 12)]
    for low, high in bounds:
        rest, part = np.divmod(rest, 100)
        if not ((low <= part) & (part <= high)).all():
            return False
    return bool(((rest >= 1900) & (rest <= 2100)).all())


def _hint_at_unit(where: _Column, numbers: _Numbers, given: str) -> None:
    """Say so where the unit that was given makes no likely year, and another one does."""
    sizes = _sizes(numbers)
    likely = _unit_of(sizes.min())
    if likely not in _TICKS_PER_SECOND or likely != _unit_of(sizes.max()):
        return
    if given in _TICKS_PER_SECOND and given != likely:
        years = [_year(float(numbers[0]) / _TICKS_PER_SECOND[unit]) for unit in (given, likely)]
        logger.warning(
            "%s, column %r: %s is in the year %d with `time_unit=%s`, with `time_unit=%s` in %d",
            where.raw.name, where.name, numbers[0], years[0], given, likely, years[1],
        )  # fmt: skip


def _year(seconds: float) -> int:
    """The year of unix seconds, also far beyond what calendars know."""
    return 1970 + math.floor(seconds / 31_556_952)  # of a mean year


def _described(unit: str | None) -> str:
    if unit is None:
        return "no likely time"
    return "a place in an order" if unit == "order" else f"a unix time in {unit}"


def _unit_of(size: float) -> str | None:
    if size < _EARLIEST:
        return "order"
    for unit, ticks in _TICKS_PER_SECOND.items():
        if _EARLIEST * ticks <= size < _LATEST * ticks:
            return unit
    return None

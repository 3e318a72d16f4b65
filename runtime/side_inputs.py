"""User, user tags, timestamps and request time: inputs that only files of some models declare."""

from collections.abc import Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from attnrec.runtime.answers import Recommendations
from attnrec.runtime.arguments import IdArray, id_lists, id_row, stack
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.rules import CheckedRules

UserIds = Sequence[int | str | None] | np.ndarray[Any, Any]
Tags = Sequence[str] | np.ndarray[Any, Any]
Times = Sequence[int] | np.ndarray[Any, Any]
RequestTimes = Sequence[int | None] | np.ndarray[Any, Any]


_LATEST = 4_102_444_800
"""Unix seconds of 2100-01-01: no clock shows more, so such a number is in another unit."""
_FEW = 64
_UNITS = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


class SideInputs(NamedTuple):
    """The side inputs of a request, a value for each history; None: not given."""

    users: UserIds | None = None
    user_tags: Sequence[Tags | None] | None = None
    timestamps: Sequence[Times | None] | None = None
    request_times: RequestTimes | None = None

    @classmethod
    def of_one(cls, *row: Any) -> "SideInputs":
        """The side inputs of a single history."""
        return cls(*(None if value is None else [value] for value in row))

    def of(self, rows: Sequence[int]) -> "SideInputs":
        """The side inputs of some of the histories."""
        own: list[Any] = [None if all_ is None else [all_[row] for row in rows] for all_ in self]
        return SideInputs(*own)


class CheckedSideInputs:
    """The side inputs of many histories, checked.

    `ValueError` for one that the file does not declare, and for a wrong id, tag or time.
    """

    def __init__(
        self, info: ModelInfo, given: SideInputs, lengths: Sequence[int], rules: Any = None
    ) -> None:
        """lengths: events of each history. None, as a whole or in a row, is a missing value.

        rules: as in `CheckedRules`; a file with rules is fed with empty ones.
        """
        for name, value in zip(names.CALLER_INPUTS, given, strict=True):
            if value is not None and name not in info.inputs:
                raise undeclared(info, name)
        self._info = info
        self._rows: dict[str, IdArray] = {}
        self._tags: list[IdArray] | None = None
        self._timestamps: list[IdArray] | None = None
        n_rows = len(lengths)
        if names.USER in info.inputs:
            self._rows[names.USER] = _users(info, given.users, n_rows)
        if names.USER_TAGS in info.inputs:
            self._tags = _tags(given.user_tags, n_rows)
        if names.TIMESTAMPS in info.inputs:
            self._timestamps, self._rows[names.REQUEST_TIME] = _times(given, lengths)
        self.rules = CheckedRules(info, rules, n_rows) if info.rules or rules is not None else None

    def check_unit(self) -> "CheckedSideInputs":
        """Returns itself; `ValueError` for times in another unit, see `check_seconds`."""
        if self._timestamps is not None:
            check_seconds(self._info, names.REQUEST_TIME, self._rows[names.REQUEST_TIME])
            for times in self._timestamps:
                check_seconds(self._info, names.TIMESTAMPS, times)
        return self

    def with_unknown_tags(self, answer: Recommendations, row: int) -> Recommendations:
        """The answer with the unknown tags of its request."""
        return answer if self.rules is None else self.rules.with_unknown_tags(answer, row)

    def inputs_of_one(self) -> dict[str, IdArray]:
        """The inputs of the graph for the only history."""
        arrays = dict(self._rows) | ({} if self.rules is None else self.rules.inputs([0]))
        if self._tags is not None:
            arrays[names.USER_TAGS] = self._tags[0][None]
        if self._timestamps is not None:
            arrays[names.TIMESTAMPS] = self._timestamps[0][None]
        return arrays

    def inputs(self, rows: Sequence[int]) -> dict[str, IdArray]:
        """The inputs of the graph for some of the histories."""
        arrays = {name: values[rows] for name, values in self._rows.items()}
        if self.rules is not None:
            arrays |= self.rules.inputs(rows)
        if self._tags is not None:
            tags = [self._tags[row] for row in rows]
            arrays[names.USER_TAGS] = stack(tags, "string", names.PADDING["string"])
        if self._timestamps is not None:
            times = [self._timestamps[row] for row in rows]
            arrays[names.TIMESTAMPS] = stack(times, "int64", names.NO_TIME)
        return arrays


def _users(info: ModelInfo, users: UserIds | None, n_rows: int) -> IdArray:
    """(n_rows,)"""
    id_type = info.user_id_type or "string"
    unknown = names.PADDING[id_type]
    rows = [None] * n_rows if users is None else id_lists("users", users, n_rows, "ids of users")
    return id_row(
        "users", [unknown if user is None else user for user in rows], id_type, "user ids"
    )


def _tags(tags: Sequence[Tags | None] | None, n_rows: int) -> list[IdArray]:
    """(A,) of each row."""
    what = "lists of user tags"
    lists = [()] * n_rows if tags is None else id_lists("user_tags", tags, n_rows, what)
    return [
        id_row(f"user_tags[{i}]", () if own is None else own, "string", "user tags")
        for i, own in enumerate(lists)
    ]


def _times(given: SideInputs, lengths: Sequence[int]) -> tuple[list[IdArray], IdArray]:
    """Timestamps (T,) of each history, and request times (n_rows,); -1 where none is given."""
    n_rows, what = len(lengths), "times"
    if (given.timestamps is None) is not (given.request_times is None):
        raise _one_without_other(given.timestamps is None)
    if given.timestamps is None or given.request_times is None:
        no_events = np.empty(0, dtype=np.int64)
        return [no_events] * n_rows, np.full(n_rows, names.NO_TIME, dtype=np.int64)
    request_times = id_lists(names.REQUEST_TIME, given.request_times, n_rows, what)
    lists = id_lists(names.TIMESTAMPS, given.timestamps, n_rows, f"lists of {what}")
    timestamps = []
    for row, (times, length) in enumerate(zip(lists, lengths, strict=True)):
        if (times is None) is not (request_times[row] is None):
            raise _one_without_other(times is None)
        name = f"{names.TIMESTAMPS}[{row}]" if n_rows > 1 else names.TIMESTAMPS
        timestamps.append(id_row(name, () if times is None else times, "int64", what))
        if times is not None and len(timestamps[-1]) != length:
            raise ValueError(
                f"{name} has {len(timestamps[-1])} times for a history of {length} events; give "
                "one for each, -1 where it is not known"
            )
    known = [names.NO_TIME if time is None else time for time in request_times]
    return timestamps, id_row(names.REQUEST_TIME, known, "int64", what)


def check_seconds(info: ModelInfo, name: str, times: IdArray) -> None:
    """`ValueError` for times of an input that are after the year 2100 in seconds.

    Training guesses the unit of a log, an answer cannot. A file of a log whose own times are no
    seconds, or are later, accepts any time.
    """
    # Of few numbers, max of Python is faster than that of numpy.
    latest = max(times.ravel().tolist(), default=0) if times.size < _FEW else int(times.max())
    if latest < _LATEST or not _has_usual_times(info):
        return
    units = [unit for unit, ticks in _UNITS.items() if latest < _LATEST * ticks]
    looks = f"it looks like {units[0]}" if units else "it is no time"
    unless = "-1 where the time is not known"
    if name == names.REQUEST_TIME:
        unless = f"or leave {names.REQUEST_TIME} and {names.TIMESTAMPS} out"
    raise ValueError(
        f"{name} holds {latest}, which is after the year 2100 in Unix seconds: {looks}; "
        f"send seconds, {unless}"
    )


def _has_usual_times(info: ModelInfo) -> bool:
    """Whether the log of the file had times in seconds, all before the year 2100."""
    last = str(info.data.get("last_time") or "")  # "N s" where no calendar knows it
    return info.data.get("time_unit") != "order" and last < "2100" and not last.endswith(" s")


def _one_without_other(has_request: bool) -> ValueError:
    given, missing = names.TIMESTAMPS, names.REQUEST_TIME
    if has_request:
        given, missing = missing, given
    return ValueError(f"{given} without {missing} has no effect; give both, or neither")


def check_inputs(declared: Set[str], info: ModelInfo) -> None:
    """`ModelFileError` for inputs that this version cannot fill."""
    unknown = declared - {*names.REQUIRED_INPUTS, *names.CALLER_INPUTS}
    unknown -= {*names.RULE_INPUTS} if info.rules else set()
    if info.user_id_type is None:
        unknown |= declared & {names.USER}
    if unknown:
        raise ModelFileError(
            f"the file wants the inputs {sorted(unknown)}, which this version of attnrec "
            "cannot feed: upgrade attnrec"
        )


def undeclared(info: ModelInfo, name: str) -> ValueError:
    """The refusal of an input that the file does not have."""
    return ValueError(
        f"this file does not declare the input {name!r} "
        f"(it declares: {', '.join(info.inputs)}); leave it out"
    )

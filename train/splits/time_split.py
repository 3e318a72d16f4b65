"""A cut in time: what lies before it is trained on, what lies after it is asked for.

    trained on  |  validation window  |  test window
                ^ valid_from          ^ test_from   ^ end of the log

A user is asked if there is an event before the window and one inside. So nothing is learned from
what other people did later, which leave-one-out cannot promise (Ji et al. 2023, "A Critical
Study on Data Leakage in Recommender System Offline Evaluation").
"""

import math
import time
from dataclasses import replace
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.errors import DataError, counted
from attnrec.train.data.interactions import Interactions
from attnrec.train.splits.config import Part, Targets, TimeSplit, unix_seconds

DAY = 86_400
_DAYS = 7.0  # of a window, where nothing is given


class Cuts(NamedTuple):
    """Unix seconds at which windows begin; the last one ends before `end`."""

    valid_from: int
    test_from: int
    end: int

    def window(self, part: Part) -> tuple[int, int]:
        """Start and end of the window of a part."""
        return (self.valid_from, self.test_from) if part == "valid" else self[1:]


def cuts_of(split: TimeSplit, log: Interactions) -> Cuts:
    """The windows of this log. `DataError` for a cut that leaves nothing on a side of it."""
    first, last = int(log.timestamps.min()), int(log.timestamps.max())
    end = last + 1
    if split.test_from is not None:
        test_from = unix_seconds(split.test_from)
    elif split.test_share is not None:
        test_from = _newest(log, split.test_share)
    else:
        test_from = end - round(DAY * (split.test_days or _DAYS))
    if split.valid_days is not None:
        valid_from = test_from - round(DAY * split.valid_days)
    elif split.test_share is not None:
        valid_from = _newest(log, 2 * split.test_share)
    else:
        valid_from = test_from - (end - test_from)
    cuts = Cuts(valid_from, test_from, end)
    _check_order(split, first, cuts, last)
    return cuts


class Asked(NamedTuple):
    """Users with targets, and where these lie in the log."""

    users: NDArray[np.int64]  # number of each (n,)
    start: NDArray[np.int64]  # place of the first target (n,)
    stop: NDArray[np.int64]  # behind the last one (n,)

    def some(self, chosen: NDArray[np.int64]) -> "Asked":
        """Those at these places."""
        return Asked(*(part[chosen] for part in self))


def n_before(log: Interactions, seconds: int) -> NDArray[np.int64]:
    """Events of each user before that time (n_users,)."""
    until = np.concatenate([[0], np.cumsum(log.timestamps < seconds)])
    return np.diff(until[log.offsets])


def before(log: Interactions, seconds: int) -> Interactions:
    """The log as it was at that time: users who had no event yet are not in it."""
    kept, n_kept = log.timestamps < seconds, n_before(log, seconds)
    users = n_kept > 0
    tags, weights = log.user_tags, log.weights
    return replace(
        log,
        user_ids=log.user_ids[users],
        offsets=np.concatenate([[0], np.cumsum(n_kept[users])]),
        item_index=log.item_index[kept],
        timestamps=log.timestamps[kept],
        user_tags=None if tags is None else tags[users],
        weights=None if weights is None else weights[kept],
    )


def asked_in(log: Interactions, start: int, stop: int, targets: Targets) -> Asked:
    """Who is asked in the window from `start` to before `stop`, and for which events."""
    n_start, n_stop = n_before(log, start), n_before(log, stop)
    users = np.flatnonzero((n_start > 0) & (n_stop > n_start))
    first, behind = log.offsets[users] + n_start[users], log.offsets[users] + n_stop[users]
    if targets == "first":
        behind = first + 1
    elif targets == "last":
        first = behind - 1
    return Asked(users, first, behind)


def n_cold_users(log: Interactions, start: int, stop: int) -> int:
    """Users with an event in the window and none before it."""
    return int(np.count_nonzero((n_before(log, start) == 0) & (n_before(log, stop) > 0)))


def later_than_targets(trained: NDArray[np.int64], targets: NDArray[np.int64]) -> dict[str, float]:
    """How much of the training is newer than the targets, by the times of both, in seconds."""
    trained = np.sort(trained)
    later = 1 - np.searchsorted(trained, targets, side="right") / len(trained)  # (n_targets,)
    return {
        "targets_before_training": round(float(np.mean(later > 0)), 4),
        "later_training_events": round(float(np.mean(later)), 4),
    }


def check_somebody(split: TimeSplit, log: Interactions) -> None:
    """`DataError` where nobody can be asked in a window, with the length that would do."""
    cuts, parts = cuts_of(split, log), get_args(Part)[::-1]
    given = [name for name in ("test_from", "test_share") if getattr(split, name) is not None]
    for part in parts:
        start, stop = cuts.window(part)
        if len(asked_in(log, start, stop, "all").users):
            continue
        days = max(1, math.ceil((stop - start) / DAY))
        n_users = 0
        while not n_users and stop - days * DAY > log.timestamps.min():
            days *= 2
            n_users = len(asked_in(log, stop - days * DAY, stop, "all").users)
        window = "test" if part == "test" else "validation"
        instead = f" instead of `{given[0]}`" if given and part == "test" else ""
        raise DataError(
            f"nobody can be asked in the {window} window, from {shown(start)} to {shown(stop)}: "
            "no user has an event in it and one before it",
            f"with {days} days there would be {n_users:,}: give `{part}_days={days}`{instead}"
            if n_users
            else "no longer one would do: use split leave-one-out",
        )


def protocol_of(split: TimeSplit, log: Interactions) -> str:
    """How the log is cut, in words."""
    cuts = cuts_of(split, log)
    what = {
        "all": "all that a user takes there",
        "first": "the first event of a user there",
        "last": "the last event of a user there, after all the others",
    }[split.targets]
    when = "at the time of the first" if split.ask_at == "first" else "at the cut"
    return (
        f"time: trained on what lies before {shown(cuts.valid_from)}, validated from there to "
        f"before {shown(cuts.test_from)}, tested from there to {shown(cuts.end - 1)}; users with "
        f"an event before a window are asked {when} for {what}; whole catalogue ranked; ties "
        "count against the model"
    )


def check_times(split: TimeSplit, log: Interactions, time_unit: str) -> None:
    """`DataError` for a log of this unit that has only an order, or whose clocks are wrong."""
    if time_unit == "order":
        raise DataError(
            "the log has an order and no times, so it cannot be cut in time",
            "name a column of times with `time_col`, set its unit with `time_unit`, or use split "
            "leave-one-out",
        )
    if split.test_from is None:
        _refuse_future(log, int(log.timestamps.max()))


def shown(seconds: int) -> str:
    """Date and time in UTC."""
    return str(np.datetime64(seconds, "s")).replace("T", " ") + " UTC"


def _newest(log: Interactions, share: float) -> int:
    """Time from which on this share of the events lie, or a little more."""
    n = len(log.timestamps)
    place = min(n - 1, int(n * (1 - share)))
    return int(np.partition(log.timestamps, place)[place])


def _refuse_future(log: Interactions, last: int) -> None:
    """`DataError` for clocks that are wrong: the window would hold next to nothing else."""
    tomorrow = int(time.time()) + DAY
    if last >= tomorrow:
        n = int(np.count_nonzero(log.timestamps >= tomorrow))
        raise DataError(
            f"{counted(n, 'event')} with a time in the future, the last at {shown(last)}, and "
            "windows are counted back from the end",
            "drop these rows, correct `time_unit`, or give `test_from`",
        )


def _check_order(split: TimeSplit, first: int, cuts: Cuts, last: int) -> None:
    log = f"the log goes from {shown(first)} to {shown(last)}"
    test_from = shown(cuts.test_from)
    if not first < cuts.test_from <= last:
        raise DataError(
            f"the test window begins at {test_from}, and {log}: the cut must lie inside",
            "give fewer `test_days`" if split.test_from is None else "give another `test_from`",
        )
    if not first < cuts.valid_from < cuts.test_from:
        raise DataError(
            f"the validation window begins at {shown(cuts.valid_from)}, that of the test at "
            f"{test_from}, and {log}: nothing would be left to train on",
            "give fewer `valid_days`, or a shorter test window",
        )

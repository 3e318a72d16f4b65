"""What an evaluation predicts: histories, their targets, and which of them are unseen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.errors import DataError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.format import LONGEST
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.recipe import Part, SplitName

MANY = 0.5
"""Share of the held-out events with the time of the event before from which on a log is one of
baskets."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Histories and targets of an evaluation: raw ids, as a client of the file would send them."""

    histories: list[IdArray]
    """Events before the target, oldest first, one array per user; the newest LONGEST."""
    targets: IdArray
    """What came next (n_targets,), user by user; an item counts once in a session."""
    users: IdArray
    """Raw user ids (n_users,)."""
    offsets: NDArray[np.int64] | None = None
    """Start of each user's targets and the total (n_users + 1,); None: one target each."""
    timestamps: list[NDArray[np.int64]] = field(default_factory=list)
    """Unix seconds of the events of `histories`."""
    request_times: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Unix seconds of each user's first target (n_users,)."""
    user_tags: list[tuple[str, ...]] | None = None
    """Tags of each user; None: the log has none."""
    older: Mapping[int, IdArray] = field(default_factory=dict)
    """Events before those of `histories`, by number of the user, at most LONGEST: seen as well."""
    n_left_out: int = 0
    """Users without a target here, because the model has seen theirs."""
    sample_of: int | None = None
    """Users that these were drawn from; None: these are all."""

    def between(self, start: int, stop: int) -> "HeldOut":
        """The same of the users from `start` to before `stop`."""
        times = self.timestamps[start:stop], self.request_times[start:stop]
        older = {n - start: ids for n, ids in self.older.items() if start <= n < stop}
        own = *times, self.user_tags and self.user_tags[start:stop], older
        histories, users = self.histories[start:stop], self.users[start:stop]
        if self.offsets is None:
            return HeldOut(histories, self.targets[start:stop], users, None, *own)
        offsets = self.offsets[start : stop + 1]
        targets = self.targets[offsets[0] : offsets[-1]]
        return HeldOut(histories, targets, users, offsets - offsets[0], *own)

    def side_inputs(self, inputs: Sequence[str]) -> dict[str, Any]:
        """The side inputs of a model that declares `inputs`, by the argument of a request."""
        given: dict[str, Any] = {"users": self.users} if names.USER in inputs else {}
        # With the user come the stored tags.
        if names.USER_TAGS in inputs and not given and self.user_tags is not None:
            given["user_tags"] = self.user_tags
        if names.TIMESTAMPS in inputs:
            given |= {"timestamps": self.timestamps, "request_times": self.request_times}
        return given

    def n_targets(self) -> NDArray[np.int64]:
        """Targets of each user (n_users,)."""
        if self.offsets is None:
            return np.ones(len(self.histories), dtype=np.int64)
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class Unseen:
    """Where the events begin that a model has not seen."""

    start: NDArray[np.int64]
    """Place in the log of the first such event of each user, or the user's end (n_users,)."""
    reason: str
    """Why an earlier target does not count, to be read after "they are"."""

    def and_of(self, other: "Unseen | None") -> "Unseen":
        """The events of the same log that neither of two models has seen."""
        if other is None or other.reason == self.reason:
            return self
        start = np.maximum(self.start, other.start)
        return Unseen(start, f"{self.reason}, or {other.reason}")


def newest_time(log: Interactions, n_seen: NDArray[np.int64]) -> int:
    """Unix seconds of the newest of the first `n_seen` events of each user (n_users,)."""
    last = log.offsets[:-1] + n_seen - 1
    return int(log.timestamps[last[n_seen > 0]].max())


def after_time(log: Interactions, seconds: int, model: str) -> Unseen:
    """Events after this time. model: the name of the model that has seen the others."""
    user = np.repeat(np.arange(log.n_users), np.diff(log.offsets))
    n_seen = np.bincount(user[log.timestamps <= seconds], minlength=log.n_users)
    newest = f"{np.datetime64(seconds, 's')} UTC"
    return Unseen(
        log.offsets[:-1] + n_seen, f"not after {newest}, the newest event that {model} has seen"
    )


def after_sequences(
    log: Interactions, before: Interactions, n_seen: NDArray[np.int64], model: str
) -> Unseen:
    """What follows the first `n_seen` events (n_users of `before`,) of a user, for logs of orders.

    A user whose events do not begin with those that were seen has no unseen event, and neither
    has a user who is not in `before`: the same person may have another id there.
    """
    item_of = {item: number for number, item in enumerate(log.item_ids.tolist())}
    items = np.array([item_of.get(item, -1) for item in before.item_ids.tolist()])
    # One text among the ids of a log makes texts of them all, in that log alone.
    known = {str(user): number for number, user in enumerate(before.user_ids.tolist())}
    start = log.offsets[1:].copy()
    for user, user_id in enumerate(log.user_ids.tolist()):
        if (number := known.get(str(user_id))) is None:
            continue
        seen = items[before.sequence(number)[: n_seen[number]]]
        if np.array_equal(log.sequence(user)[: len(seen)], seen):
            start[user] = log.offsets[user] + len(seen)
    return Unseen(start, f"not behind the events of a user that {model} has seen")


def held_out_targets(
    log: Interactions,
    name: SplitName,
    part: Part,
    most_users: int | None = None,
    unseen: Unseen | None = None,
) -> HeldOut:
    """The targets of every user, or of some, with 3 events, or 3 sessions, or more."""
    if part not in get_args(Part):
        raise ValueError(f"no part {part!r}; there are: {', '.join(get_args(Part))}")
    cuts = _cuts(log, name)
    if part == "valid":
        start, stop = cuts.valid, cuts.test
    else:
        start, stop = cuts.test, log.offsets[cuts.users + 1]
    fresh = np.ones(len(start), bool) if unseen is None else start >= unseen.start[cuts.users]
    n_fresh = int(np.count_nonzero(fresh))
    chosen = _sample(np.flatnonzero(fresh), most_users)
    targets = _targets(log, name, cuts.users[chosen], start[chosen], stop[chosen])
    sample_of = n_fresh if len(chosen) < n_fresh else None
    return replace(targets, n_left_out=len(fresh) - n_fresh, sample_of=sample_of)


def last_training_targets(log: Interactions, name: SplitName, most_users: int) -> HeldOut:
    """The training events, or sessions, before the validation targets, as if held out.

    Of at most that many users, and only of users with a history before it.
    """
    cuts = _cuts(log, name)
    chosen = _sample(np.flatnonzero(cuts.trained > log.offsets[cuts.users]), most_users)
    return _targets(log, name, cuts.users[chosen], cuts.trained[chosen], cuts.valid[chosen])


def every_history(log: Interactions) -> HeldOut:
    """Every user with the whole history and no target. The request is made at the last event."""
    stop = log.offsets[1:]
    last = np.where(np.diff(log.offsets) > 0, log.timestamps[stop - 1], names.NO_TIME)
    own = _before(log, np.arange(log.n_users), stop)
    return HeldOut(targets=log.item_ids[:0], request_times=last, **own)


def events_before(log: Interactions, name: SplitName, part: Part) -> NDArray[np.int64]:
    """Events of each user before the targets of `part`, all of a user without any (n_users,)."""
    cuts, n_events = _cuts(log, name), np.diff(log.offsets)
    stop = cuts.valid if part == "valid" else cuts.test
    n_events[cuts.users] = stop - log.offsets[cuts.users]
    return n_events


def _sample(numbers: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    """At most so many of these numbers, ascending, always the same ones."""
    if most is None or most >= len(numbers):
        return numbers
    return np.sort(np.random.default_rng(0).choice(numbers, most, replace=False))


def _targets(
    log: Interactions,
    name: SplitName,
    users: NDArray[np.int64],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
) -> HeldOut:
    """The events in [start, stop) of the log (n,) as targets of the users of these numbers."""
    own = _before(log, users, start) | {"request_times": log.timestamps[start]}
    if name == "leave-one-out":
        return HeldOut(targets=log.item_ids[log.item_index[start]], **own)
    lengths = stop - start
    user = np.repeat(np.arange(len(lengths)), lengths)
    at = np.arange(len(user)) + np.repeat(start - np.cumsum(lengths) + lengths, lengths)
    _, first = np.unique(user * log.n_items + log.item_index[at], return_index=True)
    first.sort()  # back in the order of the log
    n_targets = np.bincount(user[first], minlength=len(lengths))
    offsets = np.concatenate([[0], np.cumsum(n_targets)])
    return HeldOut(targets=log.item_ids[log.item_index[at[first]]], offsets=offsets, **own)


def _before(
    log: Interactions, users: NDArray[np.int64], stop: NDArray[np.int64]
) -> dict[str, Any]:
    """The fields of `HeldOut` for users of these numbers, whose histories end before `stop`."""
    first = log.offsets[users]
    newest = np.maximum(first, stop - LONGEST)
    before = np.maximum(first, newest - LONGEST)
    bounds = [*zip(newest, stop, strict=True)]

    def ids(start: int, stop: int) -> IdArray:
        return log.item_ids[log.item_index[start:stop]]

    return {
        "histories": [ids(a, b) for a, b in bounds],
        "timestamps": [log.timestamps[a:b] for a, b in bounds],
        "users": log.user_ids[users],
        "user_tags": None if log.user_tags is None else log.user_tags[users].tolist(),
        "older": {int(n): ids(before[n], newest[n]) for n in np.flatnonzero(newest > first)},
    }


class _Cuts(NamedTuple):
    """Where the histories of the users with targets are divided."""

    users: NDArray[np.int64]  # number of each (n,)
    trained: NDArray[np.int64]  # place of the training event, or session, before `valid` (n,)
    valid: NDArray[np.int64]  # place of the first validation target in the log (n,)
    test: NDArray[np.int64]  # place of the first test target (n,)


def _cuts(log: Interactions, name: SplitName) -> _Cuts:
    if name == "leave-one-out":
        users = np.flatnonzero(np.diff(log.offsets) >= 3)
        ends = log.offsets[users + 1]
        return _Cuts(users, ends - 3, ends - 2, ends - 1)
    opens = np.ones(log.n_events, dtype=bool)  # whether an event is the first of a session
    opens[1:] = log.timestamps[1:] != log.timestamps[:-1]
    opens[log.offsets[:-1][np.diff(log.offsets) > 0]] = True
    first = np.flatnonzero(opens)  # (n_sessions,)
    until = np.searchsorted(first, log.offsets)  # sessions before each user, and all
    users = np.flatnonzero(np.diff(until) >= 3)
    if not len(users):
        raise DataError(
            f"no user has 3 sessions (events at 3 different times), the most is "
            f"{np.diff(until).max(initial=0)}: last-session has no targets. Use leave-one-out"
        )
    last = until[users + 1] - 1
    return _Cuts(users, first[last - 2], first[last - 1], first[last])


def same_time_share(log: Interactions) -> float:
    """Share of the validation events that have the time of the event before.

    Near 1, the task is to complete a basket rather than to predict the next visit.
    """
    target = log.offsets[1:][np.diff(log.offsets) >= 3] - 2
    return float(np.mean(log.timestamps[target] == log.timestamps[target - 1]))


def n_last_session_users(log: Interactions) -> int:
    """Users with targets under last-session."""
    try:
        return len(_cuts(log, "last-session").users)
    except DataError:
        return 0


def basket_note(metrics: Mapping[str, Any]) -> str | None:
    """A note where most held-out events have the time of the event before; else None.

    metrics: those of a run. The other split is offered only where at least a quarter of the users
    have targets under it.
    """
    share = metrics.get("same_time_targets")
    if share is None or share <= MANY:
        return None
    note = (
        f"{share:.0%} of the held-out events have the time of the event before: here the task is "
        "to complete a basket"
    )
    valid = metrics["valid"]
    if metrics.get("last_session_users", 0) < valid.get("sample_of", valid["n_users"]) / 4:
        return note
    return f"{note}; --split last-session predicts the next one"

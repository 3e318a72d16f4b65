"""What an evaluation predicts: histories, their targets, and which of them are unseen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.errors import DataError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.format import LONGEST
from attnrec.train.data.interactions import Interactions
from attnrec.train.splits.config import Part, SplitBy, SplitName, TimeSplit
from attnrec.train.splits.time_split import Asked, asked_in, cuts_of, n_before, n_cold_users


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
    n_cold_users: int | None = None
    """Of a window: users who have their first event in it, who cannot be asked."""
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
    by: SplitBy,
    part: Part,
    most_users: int | None = None,
    unseen: Unseen | None = None,
) -> HeldOut:
    """The targets of every user, or of some, who can be asked.

    These have 3 events, or 3 sessions, or more; or, where the log is cut in time, an event before
    the window and one in it.
    """
    if part not in get_args(Part):
        raise ValueError(f"no part {part!r}; there are: {', '.join(get_args(Part))}")
    asked, moment, n_cold = _asked(log, by, part), None, None
    if isinstance(by, TimeSplit):
        window = cuts_of(by, log).window(part)
        n_cold = n_cold_users(log, *window)
        moment = window[0] if by.ask_at == "cut" else None
    fresh = np.ones(len(asked.start), bool)
    if unseen is not None:
        fresh = asked.start >= unseen.start[asked.users]
    n_fresh = int(np.count_nonzero(fresh))
    chosen = _sample(np.flatnonzero(fresh), most_users)
    sample_of = n_fresh if len(chosen) < n_fresh else None
    return replace(
        targets_of(log, by, asked.some(chosen), moment),
        n_left_out=len(fresh) - n_fresh,
        sample_of=sample_of,
        n_cold_users=n_cold,
    )


def last_training_targets(log: Interactions, by: SplitBy, most_users: int) -> HeldOut:
    """The training events, or sessions, before the validation targets, as if held out.

    Of at most that many users, and only of users with a history before it.
    """
    asked = _last_trained(log, by)
    chosen = _sample(np.flatnonzero(asked.start > log.offsets[asked.users]), most_users)
    return targets_of(log, by, asked.some(chosen))


def every_history(log: Interactions) -> HeldOut:
    """Every user with the whole history and no target. The request is made at the last event."""
    stop = log.offsets[1:]
    last = np.where(np.diff(log.offsets) > 0, log.timestamps[stop - 1], names.NO_TIME)
    own = _before(log, np.arange(log.n_users), stop)
    return HeldOut(targets=log.item_ids[:0], request_times=last, **own)


def events_before(log: Interactions, by: SplitBy, part: Part) -> NDArray[np.int64]:
    """Events of each user before the targets of `part`, all of a user without any (n_users,).

    Where the log is cut in time, before the window.
    """
    if isinstance(by, TimeSplit):
        return n_before(log, cuts_of(by, log).window(part)[0])
    asked, n_events = _asked(log, by, part), np.diff(log.offsets)
    n_events[asked.users] = asked.start - log.offsets[asked.users]
    return n_events


def _sample(numbers: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    """At most so many of these numbers, ascending, always the same ones."""
    if most is None or most >= len(numbers):
        return numbers
    return np.sort(np.random.default_rng(0).choice(numbers, most, replace=False))


def targets_of(log: Interactions, by: SplitBy, asked: Asked, moment: int | None = None) -> HeldOut:
    """What users are asked for; moment: Unix seconds of all requests, None: the first target's."""
    users, start, stop = asked
    requests = log.timestamps[start] if moment is None else np.full(len(users), moment)
    own = _before(log, users, start) | {"request_times": requests}
    if by == "leave-one-out" or (isinstance(by, TimeSplit) and by.targets != "all"):
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


def _asked(log: Interactions, by: SplitBy, part: Part) -> Asked:
    """The users with targets in this part, and where the targets lie in the log."""
    if isinstance(by, TimeSplit):
        return asked_in(log, *cuts_of(by, log).window(part), by.targets)
    users, (_, valid, test) = last_of_users(log, by)
    return (
        Asked(users, valid, test)
        if part == "valid"
        else Asked(users, test, log.offsets[users + 1])
    )


def _last_trained(log: Interactions, by: SplitBy) -> Asked:
    """The last event, or session, of users before their validation targets."""
    if isinstance(by, TimeSplit):
        n_trained = events_before(log, by, "valid")
        users = np.flatnonzero(n_trained)
        stop = log.offsets[users] + n_trained[users]
        return Asked(users, stop - 1, stop)
    users, (trained, valid, _) = last_of_users(log, by)
    return Asked(users, trained, valid)


def last_of_users(
    log: Interactions, by: SplitName
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
    """Users with targets (n,), and where their last three events, or sessions, begin, 3 x (n,)."""
    if by == "leave-one-out":
        users = np.flatnonzero(np.diff(log.offsets) >= 3)
        ends = log.offsets[users + 1]
        return users, (ends - 3, ends - 2, ends - 1)
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
    return users, (first[last - 2], first[last - 1], first[last])

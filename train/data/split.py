"""Who is trained on and who is asked, and the catalogue that follows from it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.errors import DataError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.format import LONGEST
from attnrec.train.data.held_out import HeldOut, ItemIds
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.protocols import Part, SplitName
from attnrec.train.data.unseen import Unseen
from attnrec.train.data.users import Users


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items that can be recommended: those with a training event, most frequent first."""

    item_ids: ItemIds
    """Raw ids (N,); item r of the model, counted from 1, is item_ids[r - 1]."""
    n_events: NDArray[np.int64]
    """Training events of each item (N,)."""
    titles: NDArray[np.object_] | None
    """Titles (N,), or None."""
    attributes: NDArray[np.object_] | None = None
    """What describes each item (N,), a tuple of texts; or None."""

    @property
    def n_items(self) -> int:
        """Number of items, N."""
        return len(self.item_ids)


@dataclass(frozen=True, eq=False)
class Sequences:
    """What a model may learn from: rows of the catalogue, flat, one slice per user."""

    offsets: NDArray[np.int64]
    """Start of each user's events and the total (n_users + 1,)."""
    rows: NDArray[np.int32]
    """Catalogue row of each event (n_events,), 1 to N, oldest first within a user."""
    weights: NDArray[np.float32] | None = None
    """Weight of each event in training (n_events,); None: all weigh 1."""
    timestamps: NDArray[np.int64] | None = None
    """Unix seconds of each event (n_events,); None: not known."""


@dataclass(frozen=True)
class Split:
    """A log divided for training and evaluation, or (`final`) trained on as a whole."""

    interactions: Interactions
    """The whole prepared log."""
    catalogue: Catalogue
    """Items with at least one training event."""
    sequences: Sequences
    """Training events."""
    name: SplitName | None
    """How it was divided; None: every event is trained on and nothing is left to evaluate with."""
    unseen: Unseen | None = None
    """Targets that may be asked for; None: all of what is held out."""

    @property
    def final(self) -> bool:
        """Whether every event is trained on."""
        return self.name is None

    def sizes(self) -> dict[str, int]:
        """What decides the shapes of a model."""
        n_users, n_tags = len(self.users.ids), len(self.users.tags)
        return {"n_items": self.catalogue.n_items, "n_users": n_users, "n_tags": n_tags}

    @cached_property
    def users(self) -> Users:
        """The users of the log, for models that ask for them."""
        return Users.of(self.interactions)

    def held_out(self, part: Part, most_users: int | None = None) -> HeldOut:
        """Histories and targets of every user who is long enough to be asked.

        most_users: ask at most that many of them, always the same ones.
        """
        if self.name is None:
            raise ValueError("a final run has trained on every event; evaluate the run before it")
        return held_out_targets(self.interactions, self.name, part, most_users, self.unseen)

    def n_seen(self) -> NDArray[np.int64]:
        """Events of each user that training and validation look at (n_users,)."""
        log = self.interactions
        n_seen = np.diff(log.offsets)
        if self.name is not None:
            cuts = _cuts(log, self.name)
            n_seen[cuts.asked] = cuts.test - log.offsets[cuts.asked]
        return n_seen

    def seen(self, most_users: int) -> HeldOut:
        """Questions whose answers were trained on: the last before those of validation.

        Of at most that many of the users who are asked, always the same ones; of those alone who
        have a history before it. An answer that is far better here than there was memorized.
        """
        if self.name is None:
            raise ValueError("a final run has no validation that this could stand beside")
        log, cuts = self.interactions, _cuts(self.interactions, self.name)
        able = np.flatnonzero(cuts.seen > log.offsets[cuts.asked])
        chosen = _always_the_same(able, min(most_users, len(able)))
        users, start, stop = cuts.asked[chosen], cuts.seen[chosen], cuts.valid[chosen]
        return _questions(log, self.name, users, start, stop)

    def everybody(self) -> HeldOut:
        """Every user with the whole history; nothing came next, so there are no targets."""
        log, stop = self.interactions, self.interactions.offsets[1:]
        # Asked when the last event was: nobody knows what comes next.
        now = np.where(np.diff(log.offsets) > 0, log.timestamps[stop - 1], names.NO_TIME)
        asked = _asked(log, np.arange(log.n_users), stop)
        return HeldOut(targets=log.item_ids[:0], request_times=now, **asked)


def held_out_targets(
    log: Interactions,
    name: SplitName,
    part: Part,
    most_users: int | None = None,
    unseen: Unseen | None = None,
) -> HeldOut:
    """What is asked of each user, or of some, with 3 events, or 3 sessions, or more."""
    if part not in get_args(Part):
        raise ValueError(f"no part {part!r}; there are: {', '.join(get_args(Part))}")
    cuts = _cuts(log, name)
    if part == "valid":
        start, stop = cuts.valid, cuts.test
    else:
        start, stop = cuts.test, log.offsets[cuts.asked + 1]
    fresh = np.ones(len(start), bool) if unseen is None else start >= unseen.start[cuts.asked]
    chosen = np.flatnonzero(fresh)
    if most_users is not None and most_users < len(chosen):
        chosen = _always_the_same(chosen, most_users)
    asked = _questions(log, name, cuts.asked[chosen], start[chosen], stop[chosen])
    return replace(asked, n_left_out=int(np.count_nonzero(~fresh)))


def _always_the_same(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Some of these numbers, ascending."""
    return np.sort(np.random.default_rng(0).choice(numbers, count, replace=False))


def _questions(
    log: Interactions,
    name: SplitName,
    asked: NDArray[np.int64],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
) -> HeldOut:
    """Ask the users of these numbers for what lies in [start, stop) of the log (n_asked,)."""
    told = _asked(log, asked, start) | {"request_times": log.timestamps[start]}
    if name == "leave-one-out":
        return HeldOut(targets=log.item_ids[log.item_index[start]], **told)
    lengths = stop - start
    user = np.repeat(np.arange(len(lengths)), lengths)
    at = np.arange(len(user)) + np.repeat(start - np.cumsum(lengths) + lengths, lengths)
    _, first = np.unique(user * log.n_items + log.item_index[at], return_index=True)
    first.sort()  # back in the order of the log
    n_targets = np.bincount(user[first], minlength=len(lengths))
    offsets = np.concatenate([[0], np.cumsum(n_targets)])
    return HeldOut(targets=log.item_ids[log.item_index[at[first]]], offsets=offsets, **told)


def _asked(log: Interactions, asked: NDArray[np.int64], stop: NDArray[np.int64]) -> dict[str, Any]:
    """What a `HeldOut` says of users with these numbers, whose histories end before `stop`."""
    ids, first = log.item_ids[log.item_index], log.offsets[asked]
    newest = np.maximum(first, stop - LONGEST)
    before = np.maximum(first, newest - LONGEST)
    bounds = [*zip(newest, stop, strict=True)]
    return {
        "histories": [ids[a:b] for a, b in bounds],
        "timestamps": [log.timestamps[a:b] for a, b in bounds],
        "users": log.user_ids[asked],
        "user_tags": None if log.user_tags is None else log.user_tags[asked].tolist(),
        "older": {int(n): ids[before[n] : newest[n]] for n in np.flatnonzero(newest > first)},
    }


class _Cuts(NamedTuple):
    """Where the histories of the users are divided who are asked."""

    asked: NDArray[np.int64]  # number of each user (n_asked,)
    seen: NDArray[np.int64]  # place of the training event, or session, before it (n_asked,)
    valid: NDArray[np.int64]  # place of the first validation target in the log (n_asked,)
    test: NDArray[np.int64]  # place of the first test target (n_asked,)


def _cuts(log: Interactions, name: SplitName) -> _Cuts:
    if name == "leave-one-out":
        asked = np.flatnonzero(np.diff(log.offsets) >= 3)
        ends = log.offsets[asked + 1]
        return _Cuts(asked, ends - 3, ends - 2, ends - 1)
    opens = np.ones(log.n_events, dtype=bool)  # whether an event is the first of a session
    opens[1:] = log.timestamps[1:] != log.timestamps[:-1]
    opens[log.offsets[:-1][np.diff(log.offsets) > 0]] = True
    first = np.flatnonzero(opens)  # (n_sessions,)
    until = np.searchsorted(first, log.offsets)  # sessions before each user, and all
    asked = np.flatnonzero(np.diff(until) >= 3)
    if not len(asked):
        raise DataError(
            f"no user has 3 sessions (events at 3 different times), the most is "
            f"{np.diff(until).max(initial=0)}: last-session has nobody to ask. Use leave-one-out"
        )
    last = until[asked + 1] - 1
    return _Cuts(asked, first[last - 2], first[last - 1], first[last])


def same_time_share(log: Interactions) -> float:
    """Share of the validation events that have the time of the event before.

    Near 1, the task is to complete a basket rather than to foresee the next visit.
    """
    target = log.offsets[1:][np.diff(log.offsets) >= 3] - 2
    return float(np.mean(log.timestamps[target] == log.timestamps[target - 1]))


def n_last_session_users(log: Interactions) -> int:
    """How many users last-session would ask."""
    try:
        return len(_cuts(log, "last-session").asked)
    except DataError:
        return 0


def divide(log: Interactions, name: SplitName) -> Split:
    """Train on what comes before the validation targets, and on users who are not asked."""
    cuts = _cuts(log, name)
    n_train = np.diff(log.offsets)
    n_train[cuts.asked] = cuts.valid - log.offsets[cuts.asked]
    return _split(log, n_train, name)


def all_events(log: Interactions) -> Split:
    """Train on everything, for the model that is shipped after its quality is known."""
    return _split(log, np.diff(log.offsets), None)


def _split(log: Interactions, n_train: NDArray[np.int64], name: SplitName | None) -> Split:
    """Train on the first `n_train` events of each user (n_users,)."""
    lengths = np.diff(log.offsets)
    place = np.arange(log.n_events) - np.repeat(log.offsets[:-1], lengths)
    trained = place < np.repeat(n_train, lengths)
    items = log.item_index[trained]
    counts = np.bincount(items, minlength=len(log.item_ids))
    # Most frequent first, equal counts by id: the order does not depend on the order of the
    # file, and TopK's rule for equal scores (lower row first) favours the frequent item.
    by_id = np.argsort(log.item_ids, kind="stable")
    order = by_id[np.argsort(-counts[by_id], kind="stable")]
    order = order[counts[order] > 0]
    row_of_item = np.zeros(len(log.item_ids), dtype=np.int32)
    row_of_item[order] = np.arange(1, len(order) + 1)
    catalogue = Catalogue(
        item_ids=log.item_ids[order],
        n_events=counts[order],
        titles=None if log.titles is None else log.titles[order],
        attributes=None if log.item_attributes is None else log.item_attributes[order],
    )
    offsets = np.concatenate([[0], np.cumsum(n_train)])
    weights = None if log.weights is None else log.weights[trained]
    sequences = Sequences(offsets, row_of_item[items], weights, log.timestamps[trained])
    return Split(log, catalogue, sequences, name)

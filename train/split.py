"""Who is trained on and who is asked: leave-one-out, and the catalogue that follows from it."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnrec.train.interactions import Interactions
from attnrec.train.users import Users

ItemIds = NDArray[np.int64] | NDArray[np.object_]
Part = Literal["valid", "test"]

PROTOCOL = (
    "leave-one-out: per user the last event is the test target, the second last the validation "
    "target, the rest is trained on; whole catalogue ranked; ties count against the model"
)


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Sequences:
    """What a model may learn from: rows of the catalogue, flat, one slice per user."""

    offsets: NDArray[np.int64]
    """Start of each user's events and the total (n_users + 1,)."""
    rows: NDArray[np.int32]
    """Catalogue row of each event (n_events,), 1 to N, oldest first within a user."""
    weights: NDArray[np.float32] | None = None
    """Weight of each event in the loss (n_events,); None: all weigh 1."""


@dataclass(frozen=True)
class HeldOut:
    """The questions of an evaluation: raw ids, as a customer of the file would send them."""

    histories: list[ItemIds]
    """Events before the target, oldest first, one array per user."""
    targets: ItemIds
    """The event that came next (n_users,)."""
    users: ItemIds
    """Who is asked: raw user ids (n_users,)."""


@dataclass(frozen=True)
class Split:
    """A log divided for training and evaluation, or (`final`) trained on as a whole."""

    interactions: Interactions
    """The whole prepared log."""
    catalogue: Catalogue
    """Items with at least one training event."""
    sequences: Sequences
    """Training events."""
    final: bool
    """True: every event is trained on and nothing is left to evaluate with."""

    def sizes(self) -> dict[str, int]:
        """What decides the shapes of a model."""
        n_users, n_tags = len(self.users.ids), len(self.users.tags)
        return {"n_items": self.catalogue.n_items, "n_users": n_users, "n_tags": n_tags}

    @cached_property
    def users(self) -> Users:
        """The users of the log, for models that ask for them."""
        return Users.of(self.interactions)

    def held_out(self, part: Part) -> HeldOut:
        """Histories and targets of every user with at least 3 events."""
        if self.final:
            raise ValueError("a final run has trained on every event; evaluate the run before it")
        return leave_one_out_targets(self.interactions, part)

    def everybody(self) -> HeldOut:
        """Every user with the whole history; nothing came next, so there are no targets."""
        log = self.interactions
        ids: ItemIds = log.item_ids[log.item_index]
        return HeldOut([ids[a:b] for a, b in pairwise(log.offsets)], ids[:0], log.user_ids)


def leave_one_out_targets(log: Interactions, part: Part) -> HeldOut:
    """Last ("test") or second last ("valid") event of each user with at least 3 events."""
    held_back = 1 if part == "test" else 2
    asked = np.flatnonzero(np.diff(log.offsets) >= 3)
    starts = log.offsets[asked]
    targets = log.offsets[asked + 1] - held_back
    ids = log.item_ids[log.item_index]  # (n_events,) raw
    histories = [ids[a:b] for a, b in zip(starts, targets, strict=True)]
    return HeldOut(histories, ids[targets], log.user_ids[asked])


def same_time_share(log: Interactions) -> float:
    """Share of the validation events that have the time of the event before.

    Near 1, the task is to complete a basket rather than to foresee the next visit.
    """
    target = log.offsets[1:][np.diff(log.offsets) >= 3] - 2
    return float(np.mean(log.timestamps[target] == log.timestamps[target - 1]))


def leave_one_out(log: Interactions) -> Split:
    """Train on all but the last two events of each user with at least 3 events."""
    lengths = np.diff(log.offsets)
    n_train = np.where(lengths >= 3, lengths - 2, lengths)
    place = np.arange(log.offsets[-1]) - np.repeat(log.offsets[:-1], lengths)
    return _split(log, place < np.repeat(n_train, lengths), n_train, final=False)


def all_events(log: Interactions) -> Split:
    """Train on everything, for the model that is shipped after its quality is known."""
    return _split(log, np.ones(log.offsets[-1], dtype=bool), np.diff(log.offsets), final=True)


def _split(
    log: Interactions, trained: NDArray[np.bool_], n_train: NDArray[np.int64], *, final: bool
) -> Split:
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
    return Split(log, catalogue, Sequences(offsets, row_of_item[items], weights), final)

"""What is trained on and what is held out, and the catalogue that follows from it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.model_file import format as names
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.users import Users, check_texts
from attnrec.train.splits.config import PROTOCOLS, Part, SplitBy, SplitName, TimeSplit
from attnrec.train.splits.held_out import (
    HeldOut,
    Unseen,
    events_before,
    every_history,
    held_out_targets,
    last_training_targets,
)
from attnrec.train.splits.time_split import (
    check_somebody,
    check_times,
    cuts_of,
    later_than_targets,
    protocol_of,
    shown,
)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items that can be recommended: those with a training event, most frequent first."""

    item_ids: IdArray
    """Raw ids (N,); item r of the model, counted from 1, is item_ids[r - 1]."""
    n_events: NDArray[np.int64]
    """Training events of each item (N,)."""
    titles: NDArray[np.object_] | None
    """Titles (N,), or None."""
    attributes: NDArray[np.object_] | None = None
    """What describes each item (N,), a tuple of texts; or None."""
    texts: NDArray[np.object_] | None = None
    """Texts other than the title (N,), or None."""
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Numbers by the column they come from (N,), NaN where unknown."""
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Vectors by the column they come from (N, width), zeros where unknown."""

    @classmethod
    def of(cls, log: Interactions, n_events: NDArray[np.int64]) -> "Catalogue":
        """All items of a log, in its order, with events of each (n_items,)."""
        described = (log.titles, log.item_attributes, log.item_texts)
        return cls(log.item_ids, n_events, *described, log.item_numbers, log.item_vectors)

    def some(self, chosen: NDArray[Any]) -> "Catalogue":
        """Those at these places."""
        texts = (self.titles, self.attributes, self.texts)
        titles, attributes, others = (None if part is None else part[chosen] for part in texts)
        numbers = {name: values[chosen] for name, values in self.numbers.items()}
        vectors = {name: values[chosen] for name, values in self.vectors.items()}
        ids, n_events = self.item_ids[chosen], self.n_events[chosen]
        return Catalogue(ids, n_events, titles, attributes, others, numbers, vectors)

    @property
    def n_items(self) -> int:
        """Number of items, N."""
        return len(self.item_ids)

    @property
    def id_type(self) -> names.IdType:
        """Type of the item ids in a model file."""
        return "int64" if self.item_ids.dtype == np.int64 else "string"

    def has_words(self) -> bool:
        """Whether an item has a title, a text or an attribute."""
        described = (self.titles, self.attributes, self.texts)
        return any(known is not None and known.astype(bool).any() for known in described)

    def is_described(self) -> bool:
        """Whether an item has words or a vector."""
        return self.has_words() or bool(self.vectors)

    def check(self) -> None:
        """`ValueError` if a file of it would answer wrongly: reserved, repeated or broken ids."""
        ids = self.item_ids.tolist()
        if not ids:
            raise ValueError("the catalogue is empty; train on a log with events")
        padding = names.PADDING[self.id_type]
        if padding in ids:
            raise ValueError(
                f"the catalogue holds the item id {padding!r}, which stands for padding; rename it"
            )
        if len(set(ids)) != len(ids):
            twice = next(item_id for item_id, n in Counter(ids).items() if n > 1)
            raise ValueError(
                f"the catalogue holds the item id {twice!r} twice; rename one of them"
            )
        titles = [] if self.titles is None else self.titles.tolist()
        check_texts("the items", (*ids, *titles) if self.id_type == "string" else titles)


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
    by: SplitBy | None
    """How it was divided; None: every event is trained on and nothing is left to evaluate with."""
    unseen: Unseen | None = None
    """Events that may be targets; None: all that are held out."""

    @property
    def final(self) -> bool:
        """Whether every event is trained on."""
        return self.by is None

    @property
    def name(self) -> SplitName | None:
        """The kind of division."""
        return "time" if isinstance(self.by, TimeSplit) else self.by

    @property
    def protocol(self) -> str:
        """How targets were chosen, in words."""
        assert self.by is not None
        if isinstance(self.by, TimeSplit):
            return protocol_of(self.by, self.interactions)
        return PROTOCOLS[self.by]

    def sizes(self) -> dict[str, int]:
        """What decides the shapes of a model."""
        n_users, n_tags = len(self.users.ids), len(self.users.tags)
        return {"n_items": self.catalogue.n_items, "n_users": n_users, "n_tags": n_tags}

    def check_ids(self, inputs: Sequence[str]) -> None:
        """`ValueError` for ids that the file of a model with these inputs could not hold."""
        self.catalogue.check()
        if inputs:
            self.users.check()

    @cached_property
    def users(self) -> Users:
        """The users of the log, for models with user inputs."""
        return Users.of(self.interactions)

    def held_out(self, part: Part, most_users: int | None = None) -> HeldOut:
        """Histories and targets of every user with enough events.

        most_users: at most that many of them, always the same ones.
        """
        if self.by is None:
            raise ValueError("a final run has trained on every event; evaluate the run before it")
        return held_out_targets(self.interactions, self.by, part, most_users, self.unseen)

    def in_time(self, time_unit: str) -> dict[str, Any]:
        """What is known of the times of targets, as `RunMetrics` names it; {}: nothing."""
        log = self.interactions
        if isinstance(self.by, TimeSplit):
            cuts = [shown(seconds) for seconds in cuts_of(self.by, log)]
            return {"time_split": {**vars(self.by), "cuts": cuts}}
        if time_unit == "order":
            return {}
        trained = self.sequences.timestamps
        assert self.by is not None and trained is not None
        return later_than_targets(trained, self.held_out("test").request_times)

    def n_seen(self) -> NDArray[np.int64]:
        """Events of each user that training and validation look at (n_users,)."""
        if self.by is None:
            return np.diff(self.interactions.offsets)
        return events_before(self.interactions, self.by, "test")

    def seen(self, most_users: int) -> HeldOut:
        """Targets that were trained on: the last ones before those of validation.

        Of at most that many of the users with held-out targets, always the same ones, and only of
        those with a history before it. Far better metrics here than in validation are the
        overfitting gap.
        """
        if self.by is None:
            raise ValueError("a final run has no validation to compare these targets with")
        return last_training_targets(self.interactions, self.by, most_users)

    def everybody(self) -> HeldOut:
        """Every user with the whole history; there are no targets, since nothing follows."""
        return every_history(self.interactions)


def divide(log: Interactions, by: SplitBy, *, time_unit: str | None = None) -> Split:
    """Train on what comes before the validation targets, and on all of users without targets.

    time_unit: that of the log, which is then checked: `DataError` where it cannot be cut in time.
    """
    if by == "time":
        by = TimeSplit()
    if time_unit is not None and isinstance(by, TimeSplit):
        check_times(by, log, time_unit)
        check_somebody(by, log)
    return _split(log, events_before(log, by, "valid"), by)


def all_events(log: Interactions) -> Split:
    """Train on everything, for the model that is shipped after its quality is known."""
    return _split(log, np.diff(log.offsets), None)


def _split(log: Interactions, n_train: NDArray[np.int64], by: SplitBy | None) -> Split:
    """Train on the first `n_train` events of each user (n_users,)."""
    n_others = np.diff(log.offsets) - n_train
    runs = np.column_stack([n_train, n_others]).ravel()  # events of a user: trained on, then not
    trained = np.repeat(np.resize([True, False], len(runs)), runs)
    items = log.item_index[trained]
    counts = np.bincount(items, minlength=len(log.item_ids))
    # Most frequent first, equal counts by id: the order does not depend on the order of the
    # file, and TopK's rule for equal scores (lower row first) favours the frequent item.
    by_id = np.argsort(log.item_ids, kind="stable")
    order = by_id[np.argsort(-counts[by_id], kind="stable")]
    order = order[counts[order] > 0]
    row_of_item = np.zeros(len(log.item_ids), dtype=np.int32)
    row_of_item[order] = np.arange(1, len(order) + 1)
    catalogue = Catalogue.of(log, counts).some(order)
    offsets = np.concatenate([[0], np.cumsum(n_train)])
    weights = None if log.weights is None else log.weights[trained]
    sequences = Sequences(offsets, row_of_item[items], weights, log.timestamps[trained])
    return Split(log, catalogue, sequences, by)

"""From a split to tensors: windows over the whole past by length, or pairs with negatives."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnrec.train.data.users import Users
from attnrec.train.splits.split import Sequences, Split

_REDRAWS = 20
# Share of the unknown users who have no tags either: requests of both kinds are learned.
_WITHOUT_TAGS = 0.5


def left_pad(histories: Sequence[NDArray[np.integer]], max_len: int, padding: int = 0) -> Tensor:
    """The newest `max_len` rows of each history, (B, T) int64, `padding` on the left.

    T is the longest of them and at least 1: an empty history is row 0, the start token.
    """
    length = max([1, *(min(len(h), max_len) for h in histories)])
    padded = np.full((len(histories), length), padding, dtype=np.int64)
    for row, history in zip(padded, histories, strict=True):
        newest = history[-length:]
        row[length - len(newest) :] = newest
    return torch.from_numpy(padded)


@dataclass(frozen=True, eq=False)
class Batch:
    """The tensors of one training step."""

    history_index: Tensor
    """Row of the event before each target (B, T), left-padded; 0 at the start of a history."""
    targets: Tensor
    """Row of the target event (B, T), 0 for padding."""
    weights: Tensor | None
    """How much each target counts (B, T) float32; None: all alike."""
    user: Tensor
    """Row of each user (B,), from 1."""
    user_tags: Tensor
    """Rows of the tags of each user (B, A), 0 for none."""
    timestamps: Tensor | None = None
    """Time of each event before a target (B, T), -1 at the start of a history and at padding."""
    request_time: Tensor | None = None
    """Time of the last target of each row (B,)."""
    negatives: Tensor | None = None
    """Rows of items that the user has not had (B, K), for models that learn from pairs."""

    def context(self, inputs: Sequence[str]) -> dict[str, Tensor]:
        """The inputs that a model declares in addition to the history."""
        return {name: getattr(self, name) for name in inputs}

    def rows(self, part: slice) -> "Batch":
        """Some of its histories."""
        return self._each(lambda tensor: tensor[part])

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        moved: dict[str, Any] = {
            name: value if value is None else change(value) for name, value in vars(self).items()
        }
        return Batch(**moved)


class Epoch:
    """The batches of one pass; each is made when it is needed, their number is known before."""

    def __init__(self, n_batches: int, batches: Iterator[Batch]) -> None:
        self._n_batches, self._batches = n_batches, batches

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[Batch]:
        return self._batches


class Batches(Protocol):
    """The training events as batches, in another order every epoch."""

    def epoch(self, rng: np.random.Generator) -> "Epoch":
        """All of them once; `rng` alone decides the order."""


class SequenceBatches:
    """Every training event is a target once an epoch, after at most `max_len` events before it."""

    def __init__(
        self, sequences: Sequences, max_len: int, batch_events: int, users: Users | None = None
    ) -> None:
        """batch_events: positions of a batch, padding included; constant work per step."""
        self._max_len = max_len
        self._batch_events = max(batch_events, max_len)
        # Nothing is held for every event beyond the sequences themselves.
        self._sequences = sequences
        n_users = len(sequences.offsets) - 1
        self._tag_rows = np.zeros((n_users + 1, 0), np.int64) if users is None else users.tag_rows

    def epoch(self, rng: np.random.Generator) -> Epoch:
        """Batches in random order, rows of similar length together."""
        starts, stops = self._windows(rng)
        lengths = stops - starts
        # Sorted by length, so that a batch holds next to no padding; equal lengths are shuffled.
        order = np.lexsort((rng.random(len(lengths)), lengths))
        batches = list(self._cut(order, lengths))
        rows = (batches[i] for i in rng.permutation(len(batches)))
        return Epoch(len(batches), (self._gather(starts[own], stops[own]) for own in rows))

    def _windows(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cut each user's events into windows; long histories at a new random place each epoch."""
        offsets, longest = self._sequences.offsets, self._max_len
        n_events = np.diff(offsets)
        shift = np.where(n_events > longest, rng.integers(0, longest, len(n_events)), 0)
        n_windows = -(-(shift + n_events) // longest)
        until = np.cumsum(n_windows)
        place = np.arange(until[-1]) - np.repeat(until - n_windows, n_windows)
        begin = np.maximum(place * longest - np.repeat(shift, n_windows), 0)
        starts = np.repeat(offsets[:-1], n_windows) + begin
        return starts, np.append(starts[1:], offsets[-1])

    def _cut(
        self, order: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Iterator[NDArray[np.int64]]:
        """Runs of `order` (ascending lengths) that fill `batch_events` positions each."""
        start = 0
        for stop in range(1, len(order) + 1):
            full = stop == len(order)
            if not full:
                full = (stop - start + 1) * lengths[order[stop]] > self._batch_events
            if full:
                yield order[start:stop]
                start = stop

    def _gather(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Batch:
        rows, offsets = self._sequences.rows, self._sequences.offsets
        times, weights = self._sequences.timestamps, self._sequences.weights
        user = np.searchsorted(offsets, starts, side="right")  # (B,), from 1
        width = int((stops - starts).max())
        at = stops[:, None] + np.arange(-width, 0)  # (B, T)
        inside = at >= starts[:, None]
        at = np.maximum(at, 0)
        begun = inside & (at > offsets[user - 1, None])  # else the start token, or padding
        inputs = np.where(begun, rows[at - 1], 0).astype(np.int64)
        targets = np.where(inside, rows[at], 0).astype(np.int64)
        timed: dict[str, torch.Tensor] = {}
        if times is not None:
            timed["timestamps"] = torch.from_numpy(np.where(begun, times[at - 1], -1))
            timed["request_time"] = torch.from_numpy(times[stops - 1])
        return Batch(
            history_index=torch.from_numpy(inputs),
            targets=torch.from_numpy(targets),
            weights=None if weights is None else torch.from_numpy(weights[at]),
            user=torch.from_numpy(user),
            user_tags=torch.from_numpy(self._tag_rows[user]),
            **timed,
        )


class PairBatches:
    """Every training event once an epoch, in random order, each with its own negatives."""

    def __init__(
        self, split: Split, batch_events: int, n_negatives: int, user_dropout: float
    ) -> None:
        """batch_events: pairs of a batch, negatives included; constant work per step.

        user_dropout: share of the events whose user becomes row 0, so that the answer to an
        unknown user is learned; half of these lose their tags as well.
        """
        self._batch_events = max(1, batch_events // (1 + n_negatives))
        self._n_negatives = n_negatives
        self._user_dropout = user_dropout
        self._n_items = split.catalogue.n_items
        self._items = split.sequences.rows.astype(np.int64)  # (n_events,)
        n_events = np.diff(split.sequences.offsets)
        self._user = np.repeat(np.arange(1, len(n_events) + 1), n_events)  # (n_events,)
        self._weights = split.sequences.weights
        self._tag_rows = split.users.tag_rows
        self._taken = np.unique(self._key(self._user, self._items))

    def epoch(self, rng: np.random.Generator) -> Epoch:
        """All events once; `rng` decides their order, the negatives and the unknown users."""
        order = rng.permutation(len(self._items))
        negatives = self.draw(self._user[order], rng)
        unknown = rng.random(len(order)) < self._user_dropout
        untagged = unknown & (rng.random(len(order)) < _WITHOUT_TAGS)
        user = np.where(unknown, 0, self._user[order])
        tagged = np.where(untagged, 0, self._user[order])

        def batch(start: int) -> Batch:
            part = slice(start, start + self._batch_events)
            events = order[part]
            weights = None if self._weights is None else self._weights[events, None]
            return Batch(
                history_index=torch.zeros(len(events), 1, dtype=torch.int64),
                targets=torch.from_numpy(self._items[events, None]),
                weights=None if weights is None else torch.from_numpy(weights),
                user=torch.from_numpy(user[part]),
                user_tags=torch.from_numpy(self._tag_rows[tagged[part]]),
                negatives=torch.from_numpy(negatives[part]),
            )

        starts = range(0, len(order), self._batch_events)
        return Epoch(len(starts), map(batch, starts))

    def _key(self, user: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
        return user * (self._n_items + 1) + items

    def draw(self, user: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Items (len(user), K), uniform among those that are not in the user's events.

        Who has nearly everything may keep a few of the own items after the last redraw.
        """
        shape = (len(user), self._n_negatives)
        drawn = rng.integers(1, self._n_items + 1, shape)
        for _ in range(_REDRAWS):
            key = self._key(user[:, None], drawn)
            place = np.minimum(np.searchsorted(self._taken, key), len(self._taken) - 1)
            hit = self._taken[place] == key
            if not hit.any():
                break
            drawn[hit] = rng.integers(1, self._n_items + 1, int(hit.sum()))
        return drawn

"""From events to pairs: who took what, beside items that the same user has not taken."""

import numpy as np
import torch
from numpy.typing import NDArray

from attnrec.train.data.batches import Batch, Epoch
from attnrec.train.data.split import Split

_REDRAWS = 20
_WITHOUT_TAGS = 0.5  # of the strangers: some bring tags, some nothing


class PairBatches:
    """Every training event once an epoch, in random order, each with its own negatives."""

    def __init__(
        self, split: Split, batch_events: int, n_negatives: int, user_dropout: float
    ) -> None:
        """batch_events: pairs of a batch, negatives included; constant work per step.

        user_dropout: share of the events whose user becomes row 0, so that the answer to a
        stranger is learned; half of these lose their tags as well.
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
        """All events once; `rng` decides their order, the negatives and who is a stranger."""
        order = rng.permutation(len(self._items))
        negatives = self.draw(self._user[order], rng)
        stranger = rng.random(len(order)) < self._user_dropout
        untagged = stranger & (rng.random(len(order)) < _WITHOUT_TAGS)
        user = np.where(stranger, 0, self._user[order])
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

"""Counts without any model of taste: the baselines to beat.

    popularity           score(j) = log(1 + n_j), of all training events or of the last days
    personal frequency   score(j) = how often j is in the history + 0.9 n_j / max n

n_j counts training events. The logarithm changes no list; it keeps the scores of large logs
within the range where float32 tells neighbours apart. In personal frequency, the baseline for
baskets, n_j adds less than one event of the customer's own and orders what the customer never
took. Where seen items are excluded only that order is left, so it equals popularity there.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnrec.train.models.base import CountModel
from attnrec.train.models.configs import PersonalFrequencyConfig, PopularityConfig
from attnrec.train.splits.split import Sequences, Split


class Popularity(CountModel):
    """score(j) = log(1 + training events of j), by their weights where they have some."""

    config: PopularityConfig

    def __init__(self, config: PopularityConfig) -> None:
        super().__init__()
        self.config = config
        self.log_count: Tensor
        self.register_buffer("log_count", torch.zeros(config.n_items + 1))

    def fit(self, split: Split) -> None:
        """Count the events of every item."""
        sequences, n_rows = split.sequences, self.config.n_items + 1
        newest, weights = _newest(sequences, self.config.last_days), sequences.weights
        weights = None if weights is None else weights[newest]
        counts = np.bincount(sequences.rows[newest], weights, minlength=n_rows)
        self.log_count.copy_(torch.from_numpy(counts).double().log1p())

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """The counts for every row of the batch: (B, N + 1)."""
        return self.log_count.expand(history_index.shape[0], -1)


class PersonalFrequency(CountModel):
    """Counts within the history, the rest by popularity."""

    config: PersonalFrequencyConfig

    def __init__(self, config: PersonalFrequencyConfig) -> None:
        super().__init__()
        self.config = config
        self.item_prior: Tensor  # (N + 1,) below 1
        self.register_buffer("item_prior", torch.zeros(config.n_items + 1))

    def fit(self, split: Split) -> None:
        """Count the events of every item."""
        rows = split.sequences.rows[_newest(split.sequences, self.config.last_days)]
        counts = np.bincount(rows, minlength=self.config.n_items + 1)
        self.item_prior.copy_(torch.from_numpy(0.9 * counts / max(1, int(counts.max()))))

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """Events of each item in the history (B, T), and its prior: (B, N + 1)."""
        known = (history_index > 0).to(self.item_prior.dtype)  # (B, T)
        nothing = torch.zeros_like(self.item_prior).expand(history_index.shape[0], -1)
        # The prior is added once, after the counting, so that no sum of fractions rounds.
        return nothing.scatter_add(1, history_index, known) + self.item_prior


def _newest(sequences: Sequences, days: float | None) -> NDArray[np.bool_]:
    """Which training events lie in the last days, (n_events,); None: all of them."""
    if days is None:
        return np.ones(len(sequences.rows), np.bool_)
    times = sequences.timestamps
    assert times is not None
    newest: NDArray[np.bool_] = times > times.max() - 86_400 * days
    return newest

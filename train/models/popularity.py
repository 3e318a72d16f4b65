"""Popularity: the same answer for everybody, the baseline below which nothing is worth its cost.

    score(j) = log(1 + n_j)

n_j counts training events, by their weights where they have some. The logarithm changes no list;
it keeps the scores of large logs within the range where float32 tells neighbours apart.
"""

import numpy as np
import torch
from torch import Tensor

from attnrec.train.data.split import Split
from attnrec.train.models.base import CountModel
from attnrec.train.models.counted_configs import PopularityConfig


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
        counts = np.bincount(sequences.rows, sequences.weights, minlength=n_rows)
        self.log_count.copy_(torch.from_numpy(counts).double().log1p())

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """The counts for every row of the batch: (B, N + 1)."""
        return self.log_count.expand(history_index.shape[0], -1)

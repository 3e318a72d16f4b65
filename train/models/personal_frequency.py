"""Personal frequency: what this customer takes most, the baseline to beat for baskets.

    score(j) = how often j is in the history + 0.9 n_j / max n

n_j counts training events: less than one event of one's own, it orders what the customer never
took. Where seen items are excluded nothing but that order is left, so it equals popularity there.
"""

import torch
from torch import Tensor

from attnrec.train.data.split import Split
from attnrec.train.models.base import CountModel
from attnrec.train.models.counted_configs import PersonalFrequencyConfig


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
        counts = torch.bincount(
            torch.from_numpy(split.sequences.rows).long(), minlength=self.config.n_items + 1
        )
        self.item_prior.copy_(0.9 * counts.double() / max(1, int(counts.max())))

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """Events of each item in the history (B, T), and its prior: (B, N + 1)."""
        known = (history_index > 0).to(self.item_prior.dtype)  # (B, T)
        nothing = torch.zeros_like(self.item_prior).expand(history_index.shape[0], -1)
        # The prior is added once, after the counting, so that no sum of fractions rounds.
        return nothing.scatter_add(1, history_index, known) + self.item_prior

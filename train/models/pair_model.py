"""What models of (user, item) pairs share: the vector of the user, and how pairs are learned.

The history of such a model only excludes items from the answer.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from attnrec.train.layers.losses import pair_cross_entropy
from attnrec.train.models.base import LearnedModel, ScoreModel
from attnrec.train.models.configs import PairConfig
from attnrec.train.splits.batches import Batch, Batches, PairBatches
from attnrec.train.splits.split import Split

INITIAL_SPREAD = 0.05
"""Standard deviation of a new vector: short, so that popularity is learned first, then taste."""


class UserVectors(nn.Module):
    """Vector of a user (row 0: of a cold user), plus the mean of those of the tags."""

    def __init__(self, config: PairConfig, dim: int) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(config.n_users + 1, dim)
        nn.init.normal_(self.user_embedding.weight, std=INITIAL_SPREAD)
        if config.n_tags:
            self.tag_embedding = nn.Embedding(config.n_tags + 1, dim, padding_idx=0)
            # From 0: a tag counts as far as it was learned.
            nn.init.zeros_(self.tag_embedding.weight)

    def forward(self, user: Tensor, user_tags: Tensor | None = None) -> Tensor:
        """Rows of users (B,) and of their tags (B, A) -> (B, dim)."""
        vectors: Tensor = self.user_embedding(user)
        if user_tags is None:
            return vectors
        n_tags = (user_tags > 0).sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
        mean: Tensor = self.tag_embedding(user_tags).sum(dim=1) / n_tags
        return vectors + mean


class PairModel(ScoreModel, LearnedModel):
    """Learned by binary cross-entropy from pairs that happened and pairs that did not."""

    config: PairConfig

    @property
    def inputs(self) -> tuple[str, ...]:
        """The user, and the tags where the log has any."""
        return ("user", "user_tags") if self.config.n_tags else ("user",)

    @abstractmethod
    def pair_logits(self, items: Tensor, **context: Tensor) -> Tensor:
        """Logits (B, C) of rows of items (B, C), equal to those columns of `scores`."""

    def batches(self, split: Split, batch_events: int) -> Batches:
        """Every event with its negatives."""
        config = self.config
        return PairBatches(split, batch_events, config.n_negatives, config.user_dropout)

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean binary cross-entropy; an event and its negatives have the weight of the event."""
        assert batch.negatives is not None
        items = torch.cat([batch.targets, batch.negatives], dim=1)  # (B, 1 + K)
        logits = self.pair_logits(items, **batch.context(self.inputs))
        return pair_cross_entropy(logits, None if batch.weights is None else batch.weights[:, 0])

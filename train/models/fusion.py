"""Fusion: attention and counts in one model, because they are right about different things.

    score(j) = table @ state + w log(r_j / sum(r) + floor)

The state is that of `sasrec`, r the decayed transitions of `markov-chain`: what attention learns
from all that is alike, and what the log says of exactly these items. Added logarithms multiply
probabilities, a product of experts (Hinton 2002, "Training products of experts by minimizing
contrastive divergence", equation 1): an item has to please both, and below the floor the counts
say nothing. Attention is trained by itself and the counts are counted; validation chooses how fast
a history fades for the counts, and then w.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attnrec.train.checks import check_number
from attnrec.train.models.markov_chain import MarkovChain, MarkovChainConfig
from attnrec.train.models.sasrec import SASRec, SASRecConfig
from attnrec.train.split import Split

_WEIGHTS = (0.1, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
_UNTUNED_WEIGHT, _UNTUNED_DECAY = 1.0, 0.7  # while it is trained
_LEAST_SUM = 1e-6  # below the prior of the most frequent item: no NaN even without any count


@dataclass(frozen=True)
class FusionConfig(SASRecConfig):
    """Attention as in `sasrec`, and how the counts are made and added."""

    fading_sum: bool = True
    """Add the fading sum of the history, through one matrix, to what the blocks find."""
    count_weight: float | None = None
    """Weight of the counts against attention, w; None: validation chooses."""
    count_floor: float = 1e-3
    """Share of the counts that every item has: how far counts can speak against an item."""
    history_decay: float | None = None
    """Weight of an event against the one after it, for the counts; None: validation chooses."""
    n_neighbours: int = MarkovChainConfig.n_neighbours
    """Strongest transitions kept per item, M; the file grows with N * M."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count_weight is not None:
            check_number("count_weight", self.count_weight, lowest=0)
        check_number("count_floor", self.count_floor, above=0)
        self.chain()

    def chain(self) -> MarkovChainConfig:
        """The same for the counts alone."""
        decay = _UNTUNED_DECAY if self.history_decay is None else self.history_decay
        return MarkovChainConfig(self.n_items, history_decay=decay, n_neighbours=self.n_neighbours)


class Fusion(SASRec):
    """`SASRec`, to whose scores those of a `MarkovChain` are added."""

    config: FusionConfig

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.chain = MarkovChain(config.chain())

    def prepare(self, split: Split) -> None:
        """Count the transitions."""
        super().prepare(split)
        self.chain.fit(split)

    def added_scores(self, history_index: Tensor) -> Tensor:
        """w log(r / sum(r) + floor): (B, T) -> (B, N + 1)."""
        weight = self.config.count_weight
        counted = self.chain.scores(history_index[:, -self.chain.config.max_len :])
        share = counted / counted.sum(dim=-1, keepdim=True).clamp(min=_LEAST_SUM)
        logarithm = torch.log(share + self.config.count_floor)  # (B, N + 1)
        return logarithm * (_UNTUNED_WEIGHT if weight is None else weight)

    def tune(self, validate: Callable[[], float]) -> None:
        """Choose the decay of the counts, then their weight, unless they were given."""
        if self.config.history_decay is None:
            self._choose("history_decay", MarkovChain.decays, validate)
        if self.config.count_weight is None:
            self._choose("count_weight", _WEIGHTS, validate)

    def _choose(
        self, setting: str, values: Sequence[float], validate: Callable[[], float]
    ) -> None:
        quality = {}
        for value in values:
            self._set(setting, value)
            quality[value] = validate()
        self._set(setting, max(values, key=quality.__getitem__))

    def _set(self, setting: str, value: float) -> None:
        chosen: dict[str, Any] = {setting: value}
        self.config = replace(self.config, **chosen)
        self.chain.config = self.config.chain()

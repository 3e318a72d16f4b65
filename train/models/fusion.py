"""Fusion: attention and counts in one model, because they are right about different things.

    score(j) = table @ state + w log(r_j / sum(r) + floor) + v log(e_j / sum(e) + floor)

The state is that of `sasrec`, r the decayed transitions of `markov-chain` from the newest 20
events, e what is above 0 of `ease` from the newest `max_len` events, whatever their order. Older
events for EASE as well changed validation NDCG@10 by -2, 0 and +1 % on three logs
(benchmarks/accuracy/LOG.md, section 21). Added logarithms multiply probabilities, a product of
experts (Hinton 2002, "Training products of experts by minimizing contrastive divergence", equation
1): an item needs a good score from all, and below the floor the counts decide nothing. Attention
is trained by itself, the others are counted; validation chooses the history decay of the
transitions, then w and v.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnrec.train.checks import check_number
from attnrec.train.models.ease import Ease, EaseConfig
from attnrec.train.models.markov_chain import MarkovChain, MarkovChainConfig
from attnrec.train.models.sasrec import SASRec, SASRecConfig
from attnrec.train.split import Split

MOST_EASE_ITEMS = 20_000  # three matrices of this width, squared, are 4.8 GB
_WEIGHTS = (0.1, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
_EASE_WEIGHTS = (0.0, 0.3, 0.5, 0.7, 1.0, 1.4)
_UNTUNED_WEIGHT, _UNTUNED_DECAY, _UNTUNED_EASE = 1.0, 0.7, 0.5  # while it is trained
_LEAST_SUM = 1e-6  # below the prior of the most frequent item: no NaN even without any count


@dataclass(frozen=True)
class FusionConfig(SASRecConfig):
    """Attention as in `sasrec`, and how the counts are made and added."""

    fading_sum: bool = True
    """Add the decayed sum of the item vectors, through one matrix, to the output of the blocks."""
    count_weight: float | None = None
    """Weight of the counted transitions against attention, w; None: chosen by validation."""
    count_floor: float = 1e-3
    """Least share of the counts that an item gets: below it, counts say nothing about the item."""
    history_decay: float | None = None
    """Weight of an event relative to the next one, for the counts; None: chosen by validation."""
    ease: bool = False
    """Add EASE, which looks at the newest `max_len` events without their order."""
    ease_weight: float | None = None
    """Weight of EASE against attention, v; None: chosen by validation, which may choose 0."""
    ease_regularization: float = 300.0
    """Lambda of EASE."""
    n_neighbours: int = 100
    """Strongest transitions, and strongest entries of EASE, kept for each item, M; the size of the
    file grows with N * M."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count_weight is not None:
            check_number("count_weight", self.count_weight, lowest=0)
        check_number("count_floor", self.count_floor, above=0)
        self.chain()
        if not isinstance(self.ease, bool):
            raise ValueError(f"ease must be true or false, not {self.ease!r}")
        if self.ease and self.n_items > MOST_EASE_ITEMS:
            raise ValueError(
                f"ease is for {MOST_EASE_ITEMS:,} items at most, and here are {self.n_items:,}: "
                "leave it out (ease=false), or drop rare items with --min-item-events"
            )
        if self.ease_weight is not None:
            check_number("ease_weight", self.ease_weight, lowest=0)
        check_number("ease_regularization", self.ease_regularization, above=0)

    def chain(self) -> MarkovChainConfig:
        """The same for the transitions alone."""
        decay = _UNTUNED_DECAY if self.history_decay is None else self.history_decay
        return MarkovChainConfig(self.n_items, history_decay=decay, n_neighbours=self.n_neighbours)

    def solved(self) -> EaseConfig:
        """The same for EASE alone."""
        strength, kept = self.ease_regularization, self.n_neighbours
        return EaseConfig(self.n_items, regularization=strength, n_neighbours=kept)


class Fusion(SASRec):
    """`SASRec`, to whose scores those of a `MarkovChain` are added, and those of `Ease`."""

    config: FusionConfig
    ease: Ease | None

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.chain = MarkovChain(config.chain())
        self.ease = None
        if config.ease:
            self.ease = Ease(config.solved())
        self._answered: dict[Hashable, Tensor] | None = None

    def prepare(self, split: Split) -> None:
        """Count the transitions, solve EASE."""
        super().prepare(split)
        self.chain.fit(split)
        if self.ease is not None:
            self.ease.fit(split)

    def added_scores(self, history_index: Tensor) -> Tensor:
        """The weighted logarithms of both shares: (B, T) -> (B, N + 1)."""
        weight, ease_weight = self.config.count_weight, self.config.ease_weight
        # Row 0 has no neighbours: with padding the length is one number, in the file a constant.
        n_counted = self.chain.config.max_len
        newest = F.pad(history_index, (n_counted, 0))[:, -n_counted:]  # (B, n_counted)
        counted = self.chain.scores(newest)
        added = self._log_share(counted) * (_UNTUNED_WEIGHT if weight is None else weight)
        if self.ease is None:
            return added
        liked = self.ease.scores(history_index).clamp(min=0)
        return added + self._log_share(liked) * (
            _UNTUNED_EASE if ease_weight is None else ease_weight
        )

    def last_states(self, history_index: Tensor, item_table: Tensor, **context: Tensor) -> Tensor:
        """As in `sasrec`; in `tune`, which moves no weight of theirs, computed once a question."""
        if self._answered is None:
            return super().last_states(history_index, item_table, **context)
        told = (history_index, *context.values())
        question = tuple((tensor.shape, tensor.cpu().numpy().tobytes()) for tensor in told)
        if question not in self._answered:
            states = super().last_states(history_index, item_table, **context)
            self._answered[question] = states
        return self._answered[question]

    def _log_share(self, counted: Tensor) -> Tensor:
        """log(r / sum(r) + floor): (B, N + 1) -> (B, N + 1)."""
        share = counted / counted.sum(dim=-1, keepdim=True).clamp(min=_LEAST_SUM)
        return torch.log(share + self.config.count_floor)

    def tune(self, validate: Callable[[], float]) -> None:
        """Choose the decay of the transitions, then both weights, unless they were given."""
        self._answered = {}
        try:
            self._choose_all(validate)
        finally:
            self._answered = None

    def _choose_all(self, validate: Callable[[], float]) -> None:
        if self.config.history_decay is None:
            self._choose("history_decay", MarkovChain.decays, validate)
        is_free = self.config.count_weight is None
        if is_free:
            self._choose("count_weight", _WEIGHTS, validate)
        if self.ease is None or self.config.ease_weight is not None:
            return
        self._choose("ease_weight", _EASE_WEIGHTS, validate)
        if self.config.ease_weight == 0:
            self.ease = None
            self.config = replace(self.config, ease=False, ease_weight=None)
        elif is_free:  # transitions may leave some of their say to EASE
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

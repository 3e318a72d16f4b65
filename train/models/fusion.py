"""Fusion: attention and counts in one model, because they are right about different things.

    score(j) = table @ state + w log(r_j / sum(r) + floor) + v log(e_j / sum(e) + floor)

Its parts:

    attention         the blocks of `sasrec` make the state
    history decay     the decayed sum of the item vectors, in the state (`sasrec_recency`)
    time bias         where the log has times, in the state (`sasrec_recency`)
    transitions, r    those of `markov-chain`, from the newest 20 events
    EASE, e           what is above 0 of `ease`, from the newest `max_len` events without order

Older events for EASE as well changed validation NDCG@10 by -2, 0 and +1 % on three logs
(benchmarks/accuracy/LOG.md, section 21). Added logarithms multiply probabilities, a product of
experts (Hinton 2002, "Training products of experts by minimizing contrastive divergence", equation
1): an item needs a good score from all, and below the floor the counts decide nothing. Attention
is trained by itself, the others are counted; validation chooses the history decay of the
transitions, then w and v.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnrec.train.data.split import Split
from attnrec.train.models.ease import Ease
from attnrec.train.models.fusion_config import FusionConfig
from attnrec.train.models.markov_chain import MarkovChain
from attnrec.train.models.sasrec_recency import RecencySASRec

_WEIGHTS = (0.1, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
_EASE_WEIGHTS = (0.0, 0.3, 0.5, 0.7, 1.0, 1.4)
_UNTUNED_WEIGHT, _UNTUNED_EASE = 1.0, 0.5  # while it is trained
_LEAST_SUM = 1e-6  # below the prior of the most frequent item: no NaN even without any count


class Fusion(RecencySASRec):
    """`RecencySASRec`, to whose scores those of a `MarkovChain` and of `Ease` are added."""

    config: FusionConfig
    adds_scores = True
    ease: Ease | None

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.chain = MarkovChain(config.chain())
        self.ease = None
        if config.ease:
            self.ease = Ease(config.solved())
        self._tuned_states: dict[bytes, Tensor] | None = None

    def prepare(self, split: Split) -> None:
        """Count the transitions, solve EASE."""
        self.chain.fit(split)
        if self.ease is not None:
            self.ease.fit(split)

    @property
    def n_choices(self) -> int:
        """What `tune` tries, which it does not if it was given."""
        config = self.config
        n_weights = 0 if config.count_weight is not None else len(_WEIGHTS)
        n = n_weights + (0 if config.history_decay is not None else len(MarkovChain.decays))
        if self.ease is not None and config.ease_weight is None:
            n += len(_EASE_WEIGHTS) + n_weights
        return n

    def added_scores(self, history_index: Tensor) -> Tensor:
        """The weighted logarithms of the shares of both counts: (B, T) -> (B, N + 1)."""
        weight, ease_weight = self.config.count_weight, self.config.ease_weight
        # Row 0 has no neighbours: with padding the length is one number, in the file a constant.
        n_counted = self.chain.config.max_len
        newest = F.pad(history_index, (n_counted, 0))[:, -n_counted:]  # (B, n_counted)
        counted = self.chain.scores(newest)
        added = self._log_share(counted) * (_UNTUNED_WEIGHT if weight is None else weight)
        if self.ease is None:
            return added
        positive = self.ease.scores(history_index).clamp(min=0)
        return added + self._log_share(positive) * (
            _UNTUNED_EASE if ease_weight is None else ease_weight
        )

    def states(self, item_vectors: Tensor, known: Tensor, **context: Tensor) -> Tensor:
        """As in `sasrec`, (B, T, D); within `tune` the last state alone, (B, 1, D).

        `tune` changes no weight of attention, so there it is computed once for equal inputs.
        """
        if self._tuned_states is None:
            return super().states(item_vectors, known, **context)
        key = hashlib.sha256()
        for tensor in (item_vectors, known, *context.values()):
            key.update(f"{tensor.shape}".encode())
            key.update(tensor.cpu().numpy().tobytes())
        if key.digest() not in self._tuned_states:
            states = super().states(item_vectors, known, **context)
            self._tuned_states[key.digest()] = states[:, -1:].clone()
        return self._tuned_states[key.digest()]

    def _log_share(self, counted: Tensor) -> Tensor:
        """log(r / sum(r) + floor): (B, N + 1) -> (B, N + 1)."""
        share = counted / counted.sum(dim=-1, keepdim=True).clamp(min=_LEAST_SUM)
        return torch.log(share + self.config.count_floor)

    def tune(self, validate: Callable[[], float]) -> None:
        """Choose the decay of the transitions, then both weights, unless they were given."""
        with self.choosing():
            self._choose_all(validate)

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """For a block that only validates: states are computed once for equal inputs."""
        self._tuned_states = {}
        try:
            yield
        finally:
            self._tuned_states = None

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
        elif is_free:  # with EASE, a smaller weight of the transitions may be better
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

"""Fusion: attention and counts in one model, because they are right about different things.

    score(j) = table @ state + w log(1 + r_j / (floor sum(r))) + v log(1 + e_j / (floor sum(e)))
               + u log(1 + c_j / (floor sum(c)))

Its parts:

    attention         the blocks of `sasrec` make the state
    history decay     the decayed sum of the item vectors, in the state (`sasrec_recency`)
    time bias         where the log has times, in the state (`sasrec_recency`)
    transitions, r    those of `markov-chain`, from the newest 20 events
    EASE, e           what is above 0 of `ease`, from the newest `max_len` events without order
    content, c        where items are described: those described alike, from the newest 20 events
    trend             where validation lies after a cut in time: what is popular now (`trend`)

Counts of histories are in `counted_experts`. Older events for EASE as well changed validation
NDCG@10 by -2, 0 and +1 % on three logs (benchmarks/accuracy/LOG.md, section 21). Added logarithms
multiply probabilities, a product of experts (Hinton 2002, "Training products of experts by
minimizing contrastive divergence", equation 1): an item needs a good score from all, and far below
the floor the counts decide nothing. Attention is trained by itself, and its epochs are compared
without the others, which are counted; then validation chooses the history decay of the
transitions, w, v, u, and the weights once more beside u, and last the trend.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from attnrec.train.models.choices import Validate, best_of, near
from attnrec.train.models.counted_experts import CountedExperts
from attnrec.train.models.fusion_config import FusionConfig
from attnrec.train.models.markov_chain import MarkovChain
from attnrec.train.models.sasrec_recency import RecencySASRec
from attnrec.train.models.trend import Trend
from attnrec.train.splits.split import Split

_WEIGHTS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
_EASE_WEIGHTS = (0.0, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
_CONTENT_WEIGHTS = (0.0, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
_CONTENT_DECAYS = (0.6, 0.8, 1.0)
_VECTOR_SHARES = (0.0, 0.3, 0.5, 0.7, 1.0)
_TREND_WEIGHTS = (0.0, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.0)
_HALF_LIVES = (1.0, 7.0, 30.0, 90.0)  # days
_FIRST_WEIGHT, _FIRST_EASE, _FIRST_CONTENT, _FIRST_TREND = 1.0, 0.5, 0.5, 0.7
_CERTAIN = 1.96  # standard errors of a paired gain: its 95 % interval is above 0


class Fusion(RecencySASRec):
    """`RecencySASRec`, to whose scores those of `CountedExperts` are added."""

    config: FusionConfig
    adds_scores = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.counts = CountedExperts(config)
        if config.trend:
            self.trend = Trend(config)
        self._tuned_states: dict[bytes, Tensor] | None = None

    def prepare(self, split: Split) -> None:
        """Count the transitions, solve EASE, compare what describes the items."""
        self.counts.fit(split)
        if self.config.trend:
            self.trend.fit(split)

    @property
    def n_choices(self) -> int:
        """What `tune` tries at most, which it does not if it was given."""
        config = self.config
        n_weights = 0 if config.count_weight is not None else len(_WEIGHTS)
        n_counts = n_weights
        if config.ease and config.ease_weight is None:
            n_counts += len(_EASE_WEIGHTS) + n_weights
        n = n_counts + (0 if config.history_decay is not None else len(MarkovChain.decays))
        if config.content:
            n += n_counts
            n += 0 if config.content_vectors is not None else len(_VECTOR_SHARES)
            n += 0 if config.content_decay is not None else len(_CONTENT_DECAYS)
            n += 0 if config.content_weight is not None else 2 * len(_CONTENT_WEIGHTS)
        if config.trend:
            n += 0 if config.trend_half_life is not None else len(_HALF_LIVES)
            n += 0 if config.trend_weight is not None else 2 + len(_TREND_WEIGHTS)
        return n

    def added_scores(self, history_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, K), and the weighted logarithms of their shares of the counts."""
        return self.counts.added_scores(history_index)

    def trend_scores(self, **context: Tensor) -> Tensor | None:
        """What is popular at the time of a request, (B, N + 1)."""
        return self.trend.at(context["request_time"]) if self.config.trend else None

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
        free = {name for name, value in vars(self.config).items() if value is None}
        if "count_weight" in free:
            self._set("count_weight", _FIRST_WEIGHT)
        if self.config.ease and "ease_weight" in free:
            self._set("ease_weight", _FIRST_EASE)
        if "history_decay" in free:
            self._choose("history_decay", MarkovChain.decays, validate)
        self._choose_counts(free, validate)
        if self.config.content:
            self._choose_content(free, validate)
        if self.config.trend:
            self._choose_trend(free, validate)
        if not (self.config.count_weight or self.config.ease_weight):
            self.counts.leave_out_counts()

    def _choose_counts(self, free: set[str], validate: Callable[[], float]) -> None:
        """The weights of transitions and EASE, beside what has one already."""
        if "count_weight" in free:
            self._choose("count_weight", _WEIGHTS, validate)
        if self.config.ease and "ease_weight" in free:
            self._choose("ease_weight", _EASE_WEIGHTS, validate)
            if self.config.ease_weight == 0:
                self.counts.leave_out_ease()
                self.config = self.counts.config
            elif "count_weight" in free:  # with EASE, a smaller one may be better
                self._choose("count_weight", _WEIGHTS, validate)

    def _choose_content(self, free: set[str], validate: Callable[[], float]) -> None:
        """How content is compared, and its weight; then those of the counts beside it."""
        is_free = "content_weight" in free
        if is_free:
            self._set("content_weight", _FIRST_CONTENT)
        if "content_vectors" in free:
            self._choose("content_vectors", _VECTOR_SHARES, validate)
        if "content_decay" in free:
            self._choose("content_decay", _CONTENT_DECAYS, validate)
        if is_free:
            self._choose("content_weight", _CONTENT_WEIGHTS, validate)
        if self.config.content_weight:
            self._choose_counts(free, validate)
            if is_free:
                self._choose("content_weight", _CONTENT_WEIGHTS, validate)
        if is_free and self.config.content_weight == 0:
            self.counts.leave_out_content()
            self.config = self.counts.config

    def _choose_trend(self, free: set[str], validate: Callable[[], float]) -> None:
        """Its half-life and weight; it is left out unless the same users certainly gain by it."""
        is_free = "trend_weight" in free
        if is_free:
            self._set("trend_weight", _FIRST_TREND)
        if "trend_half_life" in free:
            self._choose("trend_half_life", _HALF_LIVES, validate)
        if is_free:
            self._choose("trend_weight", _TREND_WEIGHTS, validate)
        if is_free and not self._helps("trend_weight", validate):
            del self.trend
            without: dict[str, Any] = dict.fromkeys(("trend_weight", "trend_half_life"))
            self.config = self.counts.config = replace(self.config, trend=False, **without)
            why = "tried, and the users of the validation do not certainly gain by it"
            self.reasons = {**self.reasons, "trend": why}

    def _helps(self, weight: str, validate: Callable[[], float]) -> bool:
        """Whether the paired 95 % interval of what a weight above 0 gains lies above 0."""
        chosen = getattr(self.config, weight)
        if not chosen:
            return False
        assert isinstance(validate, Validate)
        of_users = []
        for value in (chosen, 0.0):
            self._set(weight, value)
            validate()
            of_users.append(validate.of_users)
        self._set(weight, chosen)
        gain = of_users[0] - of_users[1]  # (n_users,)
        least = float(gain.mean() - _CERTAIN * gain.std() / math.sqrt(len(gain)))
        reason = f"{self.reasons[weight]}; gained by the same users: at least {least:+.4f}"
        self.reasons = {**self.reasons, weight: reason}
        return least > 0

    def _choose(
        self, setting: str, values: Sequence[float], validate: Callable[[], float]
    ) -> None:
        tried = {}
        for value in near(values, self.chosen_before.get(setting)):
            self._set(setting, value)
            tried[value] = validate()
        best, reason = best_of(tried)
        self._set(setting, best)
        self.reasons = {**self.reasons, setting: reason}

    def _set(self, setting: str, value: float) -> None:
        chosen: dict[str, Any] = {setting: value}
        self.config = replace(self.config, **chosen)
        self.counts.config = self.config
        if self.config.trend:
            self.trend.config = self.config
        if setting == "trend_half_life":
            self.trend.compare()
        if setting == "content_vectors":
            self.counts.compare_content()

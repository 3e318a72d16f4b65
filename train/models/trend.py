"""What is popular now: how much more often an item was taken lately than over the whole log.

    lift(j)     = log((r_j + s) / (r p_j + s))
    added(j, t) = weight 2^(-(t - T) / fade) lift(j)

r_j counts the events of j, each halved with every half-life that it lies before the newest event
of the log, at T; r is the sum of all r_j; p_j is the share of j in all events; s = 5 events keep
rare items near 0. A trend passes, so what is added fades with the time t of the request, slowly:
what was new lately stays in demand far longer than a half-life. Without a time, and before T, it
is as if asked at T.
"""

import numpy as np
import torch
from torch import Tensor

from attnrec.train.models.base import CountModel
from attnrec.train.models.fusion_config import FusionConfig
from attnrec.train.splits.split import Sequences, Split
from attnrec.train.splits.time_split import DAY

_SHRINK = 5.0
_FIRST_HALF_LIFE = 30.0


class Trend(CountModel):
    """One number an item, and the time from which on it fades."""

    config: FusionConfig

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.lift: Tensor  # (N + 1,)
        self.until: Tensor  # () Unix seconds, T
        self.register_buffer("lift", torch.zeros(config.n_items + 1))
        self.register_buffer("until", torch.zeros((), dtype=torch.int64))
        self._counted: list[Sequences] = []  # in a list it is no part of a run

    def fit(self, split: Split) -> None:
        """Compare the newest events with all."""
        self._counted = [split.sequences]
        self.compare()

    def compare(self) -> None:
        """Take over the lift by the half-life of the settings, after `fit`."""
        (counted,) = self._counted
        rows, times = counted.rows, counted.timestamps
        assert times is not None and len(times)
        until = int(times.max())
        half_life = self.config.trend_half_life or _FIRST_HALF_LIFE
        recent = 0.5 ** ((until - times) / (DAY * half_life))
        weights = np.ones(len(rows)) if counted.weights is None else counted.weights
        n_rows = self.config.n_items + 1
        events, lately = (np.bincount(rows, w, n_rows) for w in (weights, weights * recent))
        expected = lately.sum() * events / events.sum()
        lift = np.log((lately + _SHRINK) / (expected + _SHRINK))  # (N + 1,), 0 at row 0
        self.lift.copy_(torch.from_numpy(lift))
        self.until.fill_(until)

    def at(self, request_time: Tensor) -> Tensor:
        """What is added to every score at these times (B,), Unix seconds: (B, N + 1)."""
        age = (torch.maximum(request_time, self.until) - self.until).float()
        weight = (self.config.trend_weight or 0.0) * torch.exp(age * self.decay)  # (B,)
        return weight.unsqueeze(1) * self.lift

    @property
    def decay(self) -> float:
        """Logarithm of what a second leaves of it."""
        return -float(np.log(2)) / (DAY * self.config.trend_fade)

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """The trend alone: (B, T) -> (B, N + 1)."""
        return self.at(context["request_time"])

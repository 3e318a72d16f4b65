"""How far a training is, by its epochs and by its time, and where it ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.distributed import from_first

_WARMUP = 0.04  # share of all steps
_LAST_LEARNING_RATE = 0.02  # of the peak
_SLOWER = 1.15  # an estimate is exceeded by less


class Pace:
    """Epochs count as fractions, seconds from the first batch on."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        stop_after: float | None = None,
        length: float | None = None,
        expected: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """stop_after: epochs after which training ends; None: all of the configuration.

        length: epochs over which the learning rate falls, likewise. expected: seconds of the
        checks after an epoch, and of all that follows the last one; `max_minutes` includes them.
        """
        self.stop_after = stop_after or config.schedule.epochs
        self._length = length or config.schedule.epochs
        self._most_seconds = None if config.max_minutes is None else 60 * config.max_minutes
        self._checks, self._after = (_SLOWER * seconds for seconds in expected)

    def learning_rate_factor(self, epochs: float, seconds: float) -> float:
        """Share of the peak learning rate; whichever of epochs and time is farther decides."""
        return learning_rate_factor(max(epochs / self._length, self._share_of_time(seconds)))

    def is_over(self, epochs: float, seconds: float) -> bool:
        """Whether there is no further step."""
        return epochs >= self.stop_after or self.is_out_of_time(seconds)

    def is_out_of_time(self, seconds: float) -> bool:
        """Whether the rest is needed for what follows the last step."""
        return self._share_of_time(seconds) >= 1

    def _share_of_time(self, seconds: float) -> float:
        if self._most_seconds is None:
            return 0.0
        # In all processes the same, because the learning rate depends on it.
        return from_first(seconds / max(self._most_seconds - self._checks - self._after, 1e-9))

    @contextmanager
    def checking(self) -> Iterator[None]:
        """For the checks of an epoch: the next take as long."""
        began = time.monotonic()
        yield
        seconds = _SLOWER * (time.monotonic() - began)
        if self._checks:
            self._after *= seconds / self._checks
            self._checks = seconds


def learning_rate_factor(done: float) -> float:
    """Share of the peak learning rate when `done` (0 to 1) of training is over."""
    if done < _WARMUP:
        return max(done, 1e-3) / _WARMUP
    return max(_LAST_LEARNING_RATE, (1 - done) / (1 - _WARMUP))

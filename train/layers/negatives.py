"""Negatives that a whole batch shares, drawn from the catalogue."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnrec.train.checks import check_number, check_whole


class SharedNegatives:
    """Draws K rows of the catalogue: uniformly, or the more often the more frequent an item is.

    The expected counts of the items are laid end to end, most frequent first; the line is K long
    and one place is drawn in every unit of it. So an item comes as often as it should, hardly
    ever twice, every draw has its share of frequent and of rare items, and K of N = K items are
    all of them. A draw takes K searches, whatever N is.
    """

    log_expected_counts: Tensor
    """Log of how often each item is expected in one draw (N,) float32; none above 0."""

    def __init__(
        self, n_negatives: int, n_events: NDArray[np.integer], power: float = 0.0
    ) -> None:
        """n_negatives: K, at most N; n_events: training events of each item (N,), 1 or more.

        power: an item is drawn in proportion to n_events ** power, but no more than once: 0 is
        uniform, 1 as in the log, 0.75 between them (Mikolov et al. 2013, section 2.2); below 10.
        `ValueError` for anything else.
        """
        check_whole("n_negatives", n_negatives)
        check_number("power", power, lowest=0, below=10)
        if n_negatives > len(n_events):
            raise ValueError(
                f"`n_negatives={n_negatives}` is more than the catalogue's {len(n_events)} items; "
                "draw fewer, or use the loss over the whole catalogue"
            )
        if n_events.min() < 1:
            raise ValueError("an item without a training event cannot be drawn; leave it out")
        order = np.argsort(-n_events, kind="stable")
        counts = _expected_counts(n_negatives, n_events[order] / n_events.max(), power)
        ends = counts.cumsum()
        log_counts = np.empty(len(counts), dtype=np.float32)
        log_counts[order] = np.log(counts)
        self.log_expected_counts = torch.from_numpy(log_counts)
        self._n_negatives = n_negatives
        self._rows = torch.from_numpy(order)
        self._ends = torch.from_numpy(ends)  # (N,) float64, the last is K

    def to(self, device: torch.device) -> None:
        """Draw on that device from now on; nothing happens where that is so already."""
        self.log_expected_counts = self.log_expected_counts.to(device)
        self._rows, self._ends = self._rows.to(device), self._ends.to(device)

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """Rows (K,) int64, counted from 0; `generator` alone decides, None: torch's own."""
        k, device = self._n_negatives, self._ends.device
        places = torch.rand(k, dtype=torch.float64, generator=generator, device=device)  # (K,)
        places += torch.arange(k, device=device)
        found = torch.searchsorted(self._ends, places, right=True)  # (K,)
        return self._rows[found.clamp_(max=len(self._rows) - 1)]  # rounding may end before K


def _expected_counts(
    n_negatives: int, frequency: NDArray[np.float64], power: float
) -> NDArray[np.float64]:
    """Counts (N,) that sum to K, in proportion to frequency ** power, cut at 1.

    frequency: (N,), descending.
    """
    parts = frequency**power  # (N,)
    rest = parts[::-1].cumsum()[::-1]  # (N,): parts from here on
    n_left = n_negatives - np.arange(len(parts))  # (N,): negatives for them, if all before are 1
    first = int(np.argmax(parts * n_left <= rest))  # below 1 from here on
    counts = np.ones(len(parts))
    counts[first:] = np.minimum(parts[first:] * n_left[first] / rest[first], 1)
    return counts

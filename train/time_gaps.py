"""How long ago each event was when somebody asks, as something a model can learn from.

A history is not only an order. Whether the request comes ten seconds after the last event or ten
days says whether the visit goes on, and which of the events belong to it. Zhai et al. 2024,
"Actions Speak Louder than Words", arXiv 2402.17152, section 3.2, add to attention a bias that
depends on the time from an event to the request, by a table of buckets. Here the bias is
interpolated between the rows of such a table: no rounding of a processor can then move a gap to
the next bucket, and an exported file answers like the model.

Times are Unix seconds. Below 0, in an event or in the request, they are unknown.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

INPUTS = ("timestamps", "request_time")
"""What a model with time gaps asks for: (B, T) of the events, and (B,) of the request."""

_KNOTS = 17  # the last one at 2^30 seconds, 34 years
_UNKNOWN = 0  # row of the tables for gaps that are not known; those of the knots follow


class Gaps(NamedTuple):
    """Where gaps lie on a logarithmic scale of time: between a knot and the one after it."""

    row: Tensor
    """Row of the knot before it in the tables, or `_UNKNOWN`; int64 of any shape."""
    part: Tensor
    """How far it is on the way to the next knot, 0 to 1, of the same shape."""


def gaps_between(asked_at: Tensor, timestamps: Tensor) -> Gaps:
    """From events to requests: int64 seconds of shapes that fit.

    No gap at all lies at knot 0, a second at 1.5; with every knot the time grows fourfold.
    """
    known = (asked_at >= 0) & (timestamps >= 0)
    gap = (asked_at - timestamps).clamp(min=0)
    place = torch.log2(1 + gap.float()) / 2 + (gap > 0)
    place = place.clamp(max=_KNOTS - 1) * known
    below = place.floor()
    return Gaps((below.long() + 1) * known, place - below)


def moments(context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """When each position asks for what comes next, and when its event was, both (B, T).

    A position asks at the time of the event after it, the last one at the time of the request.
    Without that time none of a row is used, so that there are two kinds of rows and not three.
    """
    timestamps, request_time = (context[name] for name in INPUTS)
    timestamps = torch.where(request_time.unsqueeze(1) >= 0, timestamps, -1)
    return torch.cat([timestamps[:, 1:], request_time.unsqueeze(1)], dim=1), timestamps


def forget_times(context: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The same with a share of the requests at an unknown time: whoever asks may not know it."""
    request_time = context["request_time"]
    forgotten = torch.rand(request_time.shape, device=request_time.device) < share
    return {**context, "request_time": torch.where(forgotten, -1, request_time)}


class TimeGaps(nn.Module):
    """What the gaps add: to the scores of attention, to the fading sum, and to the events.

    Each is a table with a row for every knot; between two knots it is interpolated.
    """

    def __init__(self, hidden_dim: int, n_blocks: int, n_heads: int) -> None:
        """All of it is 0 at first: a young model knows only the order."""
        super().__init__()
        rows = _KNOTS + 2  # for the unknown, and after the last knot
        self.of_heads = nn.ParameterList(torch.zeros(rows, n_heads) for _ in range(n_blocks))
        self.of_sum = nn.Parameter(torch.zeros(rows, 1))
        self.of_event = nn.Parameter(torch.zeros(rows, hidden_dim))

    def heads(self, block: int, gaps: Gaps) -> Tensor:
        """Prior of the attention scores of a block: gaps (B, Q, T) -> (B, H, Q, T)."""
        return _interpolated(self.of_heads[block], gaps).permute(0, 3, 1, 2)

    def fading(self, gaps: Gaps) -> Tensor:
        """Prior of the fading sum: gaps (B, Q, T) -> (B, Q, T)."""
        return _interpolated(self.of_sum, gaps).squeeze(-1)

    def events(self, gaps: Gaps) -> Tensor:
        """What is added to the vector of an event: gaps (B, T) -> (B, T, D)."""
        return _interpolated(self.of_event, gaps)


def _interpolated(table: Tensor, gaps: Gaps) -> Tensor:
    """table (rows, X), gaps (...) -> (..., X)."""
    # Not `embedding`: so many rows of so small a table go back twelve times as slowly there.
    rows = gaps.row.flatten()
    before, after = (table.index_select(0, rows + step) for step in (0, 1))
    added = before + (after - before) * gaps.part.flatten().unsqueeze(-1)
    return added.view(*gaps.row.shape, -1)

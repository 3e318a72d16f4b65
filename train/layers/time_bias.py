"""How long before a request each event was, as something that a model can learn from.

A history is not only an order. Whether the request comes ten seconds after the last event or ten
days shows whether the visit goes on, and which of the events belong to it. Zhai et al. 2024,
"Actions Speak Louder than Words", arXiv 2402.17152, section 3.2, add to attention a bias that
depends on the time from an event to the request, by a table of buckets. Here the bias is
interpolated between the rows of such a table: no rounding of a processor can then move a time to
the next bucket, and an exported file answers like the model.

Times are Unix seconds. Below 0, in an event or in the request, they are unknown.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

INPUTS = ("timestamps", "request_time")
"""Inputs of a model with time bias: (B, T) of the events, and (B,) of the request."""

N_KNOTS = 17  # the last one at 2^30 seconds, 34 years
UNKNOWN = -2.0  # place of a time that is not known: farther than 1 from every knot


class TimeBias(nn.Module):
    """What times add: to the scores of attention, to those of the decayed sum, and to events.

    Each is a table with a row for every knot and one for what is unknown; between two knots it is
    interpolated.
    """

    def __init__(self, hidden_dim: int, n_heads: int, n_blocks: int = 1) -> None:
        """All of it is 0 at first: a model starts with the order alone."""
        super().__init__()
        self.n_heads = n_heads
        rows = N_KNOTS + 1  # R, with that for the unknown
        self.of_pair = nn.Parameter(torch.zeros(n_blocks * n_heads + 1, rows))
        self.of_event = nn.Parameter(torch.zeros(rows, hidden_dim))

    def forward(self, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What is added to events, (B, T, D), and to scores, (B, X + 1, T, T).

        X heads of attention, those of the last block last; then the decayed sum.
        """
        requested_at, timestamps = moments(context)
        of_event = shares_of_rows(place_of(requested_at, timestamps))  # (B, R, T)
        of_pair = place_of(requested_at.unsqueeze(2), timestamps.unsqueeze(1))  # (B, T, T)
        flat = torch.matmul(self.of_pair, shares_of_rows(of_pair).flatten(2))  # (B, X + 1, T * T)
        on_scores = flat.view(of_pair.shape[0], -1, *of_pair.shape[1:])
        return torch.matmul(of_event.mT, self.of_event), on_scores


def place_of(requested_at: Tensor, timestamps: Tensor) -> Tensor:
    """Place of a time among the knots, from 0 to 16, or -2 where it is unknown.

    requested_at, timestamps: int64 seconds that fit. No time at all lies at the first knot, a
    second half way between the second and the third; with every knot the time grows fourfold.
    """
    known = (requested_at >= 0) & (timestamps >= 0)
    seconds = (requested_at - timestamps).clamp(min=0)
    place = torch.log2(1 + seconds.float()) / 2 + (seconds > 0)
    return torch.where(known, place.clamp(max=N_KNOTS - 1), UNKNOWN)


def shares_of_rows(place: Tensor) -> Tensor:
    """How a place is shared by the rows of the tables: (B, ...) -> (B, R, ...), 1 in sum.

    Between two knots the nearer row takes more. Row 0 is for what is unknown.
    """
    rows = torch.tensor([UNKNOWN, *range(N_KNOTS)], device=place.device)  # (R,)
    rows = rows.view(-1, *[1] * (place.dim() - 1))
    return (1 - (place.unsqueeze(1) - rows).abs()).relu()


def moments(context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """When the next event of each position is requested, and when its own was, both (B, T).

    The next event is requested at its own time, the last one at the time of the request. Without
    the time of the request none of a row is used, so that there are two kinds of rows, not three.
    """
    timestamps, request_time = (context[name] for name in INPUTS)
    timestamps = torch.where(request_time.unsqueeze(1) >= 0, timestamps, -1)
    return torch.cat([timestamps[:, 1:], request_time.unsqueeze(1)], dim=1), timestamps


def forget_times(context: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The same with a share of the requests at an unknown time: a request may leave it out."""
    request_time = context["request_time"]
    forgotten = torch.rand(request_time.shape, device=request_time.device) < share
    return {**context, "request_time": torch.where(forgotten, -1, request_time)}

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

import torch
from torch import Tensor, nn

INPUTS = ("timestamps", "request_time")
"""What a model with time gaps asks for: (B, T) of the events, and (B,) of the request."""

_KNOTS = 17  # the last one at 2^30 seconds, 34 years
_UNKNOWN = -2.0  # place of a gap that is not known: farther than 1 from every knot


def gaps_between(asked_at: Tensor, timestamps: Tensor) -> Tensor:
    """Where gaps lie among the rows of the tables: int64 seconds that fit (B, ...) -> (B, R, ...).

    A gap between two knots is shared by their rows, the nearer one takes more. Row 0 is for what
    is not known. No gap at all lies at the first knot, a second half way between the second and
    the third; with every knot the time grows fourfold. In an exported file it is how far each
    knot is reached, from 0 to 1, for which `TimeBias` uses the steps of its tables.
    """
    known = (asked_at >= 0) & (timestamps >= 0)
    gap = (asked_at - timestamps).clamp(min=0)
    place = torch.log2(1 + gap.float()) / 2 + (gap > 0)
    place = torch.where(known, place.clamp(max=_KNOTS - 1), _UNKNOWN)
    if torch.compiler.is_exporting():
        # Half as many steps over (B, R, T, T): how far it is from the knot before to this one.
        start = torch.tensor([_UNKNOWN - 1, _UNKNOWN, *range(_KNOTS - 1)], device=place.device)
        return (place.unsqueeze(1) - start.view(-1, *[1] * (place.dim() - 1))).clamp(0, 1)
    rows = torch.tensor([_UNKNOWN, *range(_KNOTS)], device=place.device)  # (R,)
    rows = rows.view(-1, *[1] * (place.dim() - 1))
    return (1 - (place.unsqueeze(1) - rows).abs()).relu()


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


class TimeBias(nn.Module):
    """What the gaps add: to the scores of attention, to the fading sum, and to the events.

    Each is a table with a row for every knot; between two knots it is interpolated. In the
    exported file a product of matrices does that sooner than looking up rows.
    """

    def __init__(self, hidden_dim: int, n_blocks: int, n_heads: int) -> None:
        """All of it is 0 at first: a young model knows only the order."""
        super().__init__()
        self.n_heads = n_heads
        rows = _KNOTS + 1  # R, with that for the unknown
        self.of_pair = nn.Parameter(torch.zeros(n_blocks * n_heads + 1, rows))
        self.of_event = nn.Parameter(torch.zeros(rows, hidden_dim))

    def pairs(self, gaps: Tensor) -> Tensor:
        """Priors of all heads and of the fading sum: gaps (B, R, Q, T) -> (B, X, Q, T)."""
        flat = torch.matmul(_by_gap(self.of_pair), gaps.flatten(2))  # (B, X, Q * T)
        return flat.view(gaps.shape[0], -1, *gaps.shape[2:])

    def heads(self, block: int, pairs: Tensor) -> Tensor:
        """Of these, those of the heads of a block: (B, H, Q, T)."""
        return pairs[:, block * self.n_heads : (block + 1) * self.n_heads]

    def events(self, gaps: Tensor) -> Tensor:
        """What is added to the vector of an event: gaps (B, R, T) -> (B, T, D)."""
        return torch.matmul(gaps.mT, _by_gap(self.of_event.mT).mT)


def _by_gap(table: Tensor) -> Tensor:
    """A table (..., R) for what `gaps_between` returns: in an exported file, its steps."""
    if not torch.compiler.is_exporting():
        return table
    return torch.cat([table[..., :1], table[..., 1:] - table[..., :-1]], dim=-1)


def of_sum(pairs: Tensor | None) -> Tensor | None:
    """Of the priors of `TimeBias.pairs`, that of the fading sum: (B, Q, T)."""
    return None if pairs is None else pairs[:, -1]

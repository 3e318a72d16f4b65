"""How long ago each event was when somebody asks, as something a model can learn from.

A history is not only an order. Whether the request comes ten seconds after the last event or ten
days says whether the visit goes on, and which of the events belong to it. Zhai et al. 2024,
"Actions Speak Louder than Words", arXiv 2402.17152, section 3.2, add to attention a bias that
depends on the time from an event to the request. Here the bias is a smooth function of the
logarithm of that time, and not a table of buckets: no rounding of a processor can then move a gap
to the next bucket.

Times are Unix seconds. Below 0, in an event or in the request, they are unknown.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from attnrec.train.attention import linear

INPUTS = ("timestamps", "request_time")
"""What a model with time gaps asks for: (B, T) of the events, and (B,) of the request."""

_FEATURES = 4
_LOG_SCALE = 0.1  # log(1 + seconds) is 18 for two years


def gap_features(asked_at: Tensor, timestamps: Tensor) -> Tensor:
    """What a model sees of gaps: int64 seconds of any shapes that fit -> (..., 4).

    The logarithm of the gap, its square, whether there is none, and whether the gap is unknown.
    """
    known = ((asked_at >= 0) & (timestamps >= 0)).float()
    gap = (asked_at - timestamps).clamp(min=0).float()
    logarithm = torch.log(1 + gap) * _LOG_SCALE
    features = [logarithm * known, logarithm * logarithm * known, (gap <= 0) * known, 1 - known]
    return torch.stack(features, dim=-1)


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
    """What the gaps add: to the scores of attention, to the fading sum, and to the events."""

    def __init__(self, hidden_dim: int, n_blocks: int, n_heads: int) -> None:
        """All of it is 0 at first: a young model knows only the order."""
        super().__init__()
        sizes = [n_heads] * n_blocks
        self.to_heads = nn.ModuleList(nn.Linear(_FEATURES, n, bias=False) for n in sizes)
        self.to_sum = nn.Linear(_FEATURES, 1, bias=False)
        self.to_event = nn.Linear(_FEATURES, hidden_dim, bias=False)
        for layer in (*self.to_heads, self.to_sum, self.to_event):
            nn.init.zeros_(layer.weight)

    def heads(self, block: int, features: Tensor) -> Tensor:
        """Prior of the attention scores of a block: (B, Q, T, 4) -> (B, H, Q, T)."""
        layer = self.to_heads[block]
        assert isinstance(layer, nn.Linear)
        return linear(layer, features).permute(0, 3, 1, 2)

    def fading(self, features: Tensor) -> Tensor:
        """Prior of the fading sum: (B, Q, T, 4) -> (B, Q, T)."""
        return linear(self.to_sum, features).squeeze(-1)

    def events(self, features: Tensor) -> Tensor:
        """What is added to the vector of an event: (B, T, 4) -> (B, T, D)."""
        return linear(self.to_event, features)

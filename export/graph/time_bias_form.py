"""The time bias as a file computes it: by the steps of its tables, for few positions."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from attnrec.train.layers.time_bias import (
    INPUTS,
    N_KNOTS,
    UNKNOWN,
    TimeBias,
    moments,
    place_of,
)


class TimeBiasForm(TimeBias):
    """Also for the last position alone."""

    def earlier(self, context: Mapping[str, Tensor]) -> list[Tensor]:
        """What is added to the scores of the timed blocks before the last, (B, H, T, T) each."""
        n_heads = self.n_heads
        if len(self.of_pair) == n_heads + 1:
            return []
        asked, timestamps = moments(context)
        place = place_of(asked.unsqueeze(2), timestamps.unsqueeze(1))  # (B, T, T)
        start = torch.tensor([UNKNOWN - 1, UNKNOWN, *range(N_KNOTS - 1)]).view(-1, 1, 1)
        reached = (place.unsqueeze(1) - start).clamp(0, 1).flatten(2)  # (B, R, T * T)
        flat = torch.matmul(_steps(self.of_pair[: -n_heads - 1]), reached)
        on_scores = flat.view(place.shape[0], -1, *place.shape[1:])  # (B, X, T, T)
        return [*torch.split(on_scores, n_heads, dim=1)]

    def last(self, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What is added to events, (B, T, D), and to scores of the last position, (B, H + 1, T).

        By the steps of the tables from knot to knot, for the gaps to the next event and to the
        request side by side.
        """
        timestamps, request_time = (context[name] for name in INPUTS)
        asked = request_time.unsqueeze(1)  # (B, 1)
        is_asked = asked >= 0
        known = (timestamps >= 0) & is_asked  # (B, T)
        following = torch.cat([timestamps[:, 1:], asked], dim=1)
        both_known = known & torch.cat([known[:, 1:], is_asked], dim=1)
        seconds = torch.cat([following - timestamps, asked - timestamps], dim=1)  # (B, 2 T)
        seconds = seconds.clamp(min=0, max=1 << 2 * (N_KNOTS - 2)).float()
        place = torch.log1p(seconds) * (0.5 / math.log(2)) + seconds.clamp(max=1)
        place = torch.where(torch.cat([both_known, known], dim=1), place, UNKNOWN)
        start = torch.tensor([UNKNOWN - 1, UNKNOWN, *range(N_KNOTS - 1)])  # (R,)
        # How far it is from the knot before to each knot, from 0 to 1.
        reached = (place.unsqueeze(2) - start).clamp(0, 1)  # (B, 2 T, R)
        length = timestamps.shape[1]
        on_events = torch.matmul(reached[:, :length], _steps(self.of_event.mT).mT)
        of_last = self.of_pair[-self.n_heads - 1 :]
        return on_events, torch.matmul(_steps(of_last), reached[:, length:].mT)


def _steps(table: Tensor) -> Tensor:
    """A table (..., R) as its first row and the differences of neighbours."""
    return torch.cat([table[..., :1], table[..., 1:] - table[..., :-1]], dim=-1)

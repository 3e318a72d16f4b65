"""States on the unit sphere, divided by the temperature: what makes cosine logits."""

import torch
import torch.nn.functional as F
from torch import Tensor

_NEXT_TO_NOTHING = 1e-24  # added to the mean of the squares, which may be 0


def on_sphere(x: Tensor, temperature: float) -> Tensor:
    """Vectors (..., D) in their direction, 1 / temperature long; zeros stay zeros."""
    if torch.compiler.is_exporting():
        # One node in ONNX instead of six: the length is sqrt(D) times the root mean square.
        dim = x.shape[-1]
        scale = torch.full((dim,), dim**-0.5 / temperature)
        return F.rms_norm(x, (dim,), scale, _NEXT_TO_NOTHING)
    return F.normalize(x, dim=-1) / temperature

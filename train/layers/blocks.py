"""Transformer blocks: self-attention and a feed-forward network, each added to what was there."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.train.layers.attention import multi_head_attention


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, hidden_dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(hidden_dim)
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.key_value = nn.Linear(hidden_dim, 2 * hidden_dim)
        self.attention_output = nn.Linear(hidden_dim, hidden_dim)
        self.feed_forward_norm = nn.LayerNorm(hidden_dim)
        self.expand = nn.Linear(hidden_dim, 4 * hidden_dim)
        self.contract = nn.Linear(4 * hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, visible: Tensor, prior: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Transform x (B, T, D) -> (B, T, D); visible: bool (B, 1, T, T), prior: (B, H, T, T).

        causal: of what is visible, nothing newer than the position that looks. Linear layers see
        two dimensions (B * T, D), because then each becomes one Gemm with its bias in ONNX.
        """
        dim = x.shape[-1]
        flat = x.reshape(-1, dim)
        normed = self.attention_norm(flat)
        key, value = self._keys_and_values(normed, x.shape)
        query = self.query(normed).view(x.shape)  # (B, T, D)
        attended = multi_head_attention(
            query, key, value, visible, self.n_heads, prior, causal=causal
        )
        return self._add(flat, attended.reshape(flat.shape)).view(x.shape)

    def _keys_and_values(self, normed: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """(B * T, D) -> both (B, T, D)."""
        dim = shape[-1]
        if torch.compiler.is_exporting():
            # Two products instead of a copy of both halves, and without what a bias of the keys
            # would add to all scores of a query alike.
            to_key, to_value = self.key_value.weight.chunk(2)
            value = F.linear(normed, to_value, self.key_value.bias[dim:])
            return F.linear(normed, to_key).view(shape), value.view(shape)
        key, value = self.key_value(normed).view(*shape[:2], 2 * dim).split(dim, dim=-1)
        return key, value

    def last(self, x: Tensor, seen: Tensor, prior: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The last position alone, (B, D), and how much of every other it took, (B, T).

        seen: bool (B, T), what it looks at; rows without any hold the same everywhere, so they
        may look at all of it. prior: that of the last position alone, (B, H, 1, T).

        Keys and values of the others are not made: q . (W_k n) = (W_k^T q) . n, and the sum of
        W_v n is W_v of the sum. That takes D^2 multiplications instead of T D^2. The bias of the
        keys adds the same to every score, which softmax does not see.
        """
        normed = self.attention_norm(x)  # (B, T, D)
        to_key, to_value = self.key_value.weight.chunk(2)  # (D, D)
        of_head = self._of_head(x)  # (H, D)
        query = self.query(normed[:, -1]).unsqueeze(1)  # (B, 1, D)
        asked = (query * (of_head / math.sqrt(x.shape[-1] / self.n_heads))) @ to_key  # (B, H, D)
        scores = asked @ normed.mT  # (B, H, T)
        if prior is not None:
            scores = scores + prior.squeeze(2)
        scores = torch.where(seen.unsqueeze(1), scores, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        found = (weights @ normed).view(-1, x.shape[-1])  # (B * H, D)
        value = F.linear(found, to_value, self.key_value.bias.chunk(2)[1])
        attended = (value.view(-1, *of_head.shape) * of_head).sum(dim=1)  # (B, D)
        return self._add(x[:, -1], attended), weights.mean(dim=1)

    def _of_head(self, x: Tensor) -> Tensor:
        """1 where a dimension belongs to a head, (H, D)."""
        heads = torch.eye(self.n_heads, device=x.device, dtype=x.dtype)
        return heads.repeat_interleave(x.shape[-1] // self.n_heads, dim=1)

    def _add(self, flat: Tensor, attended: Tensor) -> Tensor:
        """Both residual connections: (B * Q, D), (B * Q, D) -> (B * Q, D)."""
        x: Tensor = flat + self.dropout(self.attention_output(attended))
        wide = F.gelu(self.expand(self.feed_forward_norm(x)))  # (B * Q, 4 D)
        news: Tensor = self.dropout(self.contract(wide))
        return x + news

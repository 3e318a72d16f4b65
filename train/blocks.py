"""Transformer blocks: self-attention and a feed-forward network, each added to what was there."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.train.attention import attend_by_heads, multi_head_attention
from attnrec.train.dropout import Dropout


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
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, visible: Tensor, prior: Tensor | None = None) -> Tensor:
        """Transform x (B, T, D) -> (B, T, D); visible: bool (B, 1, T, T), prior: (B, H, T, T).

        Linear layers see two dimensions (B * T, D), because then each becomes one Gemm with its
        bias in ONNX.
        """
        normed, key, value = self._compared(x)
        query = self.query(normed).view(x.shape)  # (B, T, D)
        attended = multi_head_attention(query, key, value, visible, self.n_heads, prior)
        return self._add(x.reshape(-1, x.shape[-1]), attended).view(x.shape)

    def last(
        self, x: Tensor, visible: Tensor, prior: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The last position alone, (B, D), and how much of every other it took, (B, T).

        prior: that of the last position alone, (B, H, 1, T).
        """
        normed, key, value = self._compared(x)
        query = self.query(normed.view(x.shape)[:, -1]).unsqueeze(1)  # (B, 1, D)
        attended, weights = attend_by_heads(
            query, key, value, visible[:, :, -1:], self.n_heads, prior
        )
        return self._add(x[:, -1], attended), weights[:, 0]

    def _compared(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What queries are made of (B * T, D), keys and values (B, T, D)."""
        batch, length, dim = x.shape
        normed = self.attention_norm(x.reshape(-1, dim))
        key, value = self.key_value(normed).view(batch, length, 2 * dim).split(dim, dim=-1)
        return normed, key, value

    def _add(self, flat: Tensor, attended: Tensor) -> Tensor:
        """Both residual connections: (B * Q, D), (B, Q, D) -> (B * Q, D)."""
        news = self.attention_output(attended.reshape(flat.shape))
        return self.add_feed_forward(self.add_attention(flat, news))

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """The first residual connection: (B * Q, D), (B * Q, D) -> (B * Q, D)."""
        news: Tensor = self.dropout(attended)
        return x + news

    def add_feed_forward(self, x: Tensor) -> Tensor:
        """The second one, with its network: (B * Q, D) -> (B * Q, D)."""
        wide = F.gelu(self.expand(self.feed_forward_norm(x)))  # (B * Q, 4 D)
        news: Tensor = self.dropout(self.contract(wide))
        return x + news


class LiGRBlock(TransformerBlock):
    """Pre-norm block with gates: x + attention(norm(x)) * sigmoid(W x), likewise feed-forward.

    Borisyuk et al. 2025, "From Features to Transformers: Redefining Ranking for Scalable Impact",
    arXiv 2502.03417: what x is decides how much of the news it takes. The feed-forward network is
    SwiGLU (Shazeer 2020, arXiv 2002.05202), contract(silu(gate(x)) * expand(x)), as in eSASRec
    (Tikhonovich et al. 2025, arXiv 2508.06450), which found these blocks better for SASRec.
    """

    def __init__(self, hidden_dim: int, n_heads: int, dropout: float) -> None:
        super().__init__(hidden_dim, n_heads, dropout)
        self.attention_gate = nn.Linear(hidden_dim, hidden_dim)
        self.feed_forward_gate = nn.Linear(hidden_dim, hidden_dim)
        self.expand_gate = nn.Linear(hidden_dim, 4 * hidden_dim)

    def add_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        """x + attended * sigmoid(W x)."""
        news: Tensor = self.dropout(attended * torch.sigmoid(self.attention_gate(x)))
        return x + news

    def add_feed_forward(self, x: Tensor) -> Tensor:
        """x + swiglu(norm(x)) * sigmoid(W x)."""
        normed = self.feed_forward_norm(x)  # (B * Q, D)
        wide = F.silu(self.expand_gate(normed)) * self.expand(normed)  # (B * Q, 4 D)
        gate = torch.sigmoid(self.feed_forward_gate(x))  # (B * Q, D)
        news: Tensor = self.dropout(self.contract(wide) * gate)
        return x + news

"""Multi-head self-attention (Vaswani et al. 2017, eq. 1), written once for training and export."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def multi_head_attention(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor, n_heads: int
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, in each of `n_heads` slices of the hidden dimension.

    query: (B, Q, D); key, value: (B, T, D); visible: bool (B, 1, Q, T), True where the query may
    look. Every query must see at least one key, or its row is NaN. Returns (B, Q, D).
    """
    if torch.compiler.is_exporting():
        # One standard ONNX node on 3-D tensors; the kernel below would become a dozen
        # transposes and reshapes around it. Parity at export covers the difference.
        onnx_attended: Tensor = torch.onnx.ops.attention(
            query, key, value, visible, q_num_heads=n_heads, kv_num_heads=n_heads
        )[0]
        return onnx_attended

    def heads(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], n_heads, -1).transpose(1, 2)  # (B, H, T, D / H)

    attended = F.scaled_dot_product_attention(
        heads(query), heads(key), heads(value), attn_mask=visible
    )
    return attended.transpose(1, 2).flatten(2)  # (B, Q, D)


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

    def forward(self, x: Tensor, visible: Tensor, *, last_only: bool = False) -> Tensor:
        """Transform x (B, T, D) -> (B, T, D), or -> (B, 1, D) for the last position alone.

        visible: bool (B, 1, T, T); its last row serves `last_only`. Linear layers see two
        dimensions (B * T, D), because then each becomes one Gemm with its bias in ONNX.
        """
        batch, length, dim = x.shape
        normed = self.attention_norm(x.reshape(-1, dim))  # (B * T, D)
        key, value = self.key_value(normed).view(batch, length, 2 * dim).split(dim, dim=-1)
        if last_only:
            x = x[:, -1:]  # (B, 1, D)
            normed = normed.view(batch, length, dim)[:, -1]  # (B, D)
            visible = visible[:, :, -1:]  # (B, 1, 1, T)
        query = self.query(normed).view(batch, -1, dim)  # (B, Q, D)
        attended = multi_head_attention(query, key, value, visible, self.n_heads)
        flat = x.reshape(-1, dim)  # (B * Q, D)
        flat = flat + self.dropout(self.attention_output(attended.reshape(-1, dim)))
        wide = F.gelu(self.expand(self.feed_forward_norm(flat)))  # (B * Q, 4 D)
        flat = flat + self.dropout(self.contract(wide))
        transformed: Tensor = flat.view(batch, -1, dim)
        return transformed

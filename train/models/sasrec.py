"""SASRec: self-attention over the history (Kang and McAuley 2018), as it is trained today.

    x = sqrt(D) item vector + position vector
    x = x + attention(norm(x));  x = x + feed_forward(norm(x))      in every block, causal
    state = norm(x);  score = item_table @ state

What differs from the paper:

- the loss is the softmax over the whole catalogue, not one sampled negative with binary
  cross-entropy (Klenitskiy and Vasilev 2023); `loss` offers sampled losses
- logits are cosines over a temperature, not plain products: they learn in about half the epochs
  (Zhai et al. 2024); `logits=dot` gives products
- the feed-forward network has 4 D hidden units and GELU, not D and ReLU
- the norms come first in both halves of a block and keep the residual path free: in the paper the
  query is normed, and keys and values are not
- dropout acts on the embeddings and on what each half adds, not on attention weights
- positions are counted from the newest event, so padding on the left moves nothing
- row 0 is a learned start token: its state answers an empty history
- an epoch cuts every history into windows at random places, instead of the newest T events
- the optimizer is AdamW with a warm-up, not Adam with a constant rate

The settings, `SASRecConfig`, are in `configs`, which commands read without torch. The loss is
called in `TableModel.training_loss`. Shapes: B histories, T events, D dimensions, H heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.train.models.base import TableModel
from attnrec.train.models.configs import SASRecConfig


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

    def forward(self, x: Tensor, visible: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D); visible: bool (B, 1, T, T), query by key.

        bias: (B, H, T, T) or None, added to the scores of attention.
        """
        query, key, value = self.heads(x)  # (B, H, T, D / H)
        mask = visible if bias is None else bias.masked_fill(~visible, -math.inf)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.add(x, attended.transpose(1, 2).flatten(2))

    def attention_weights(self, x: Tensor, visible: Tensor, bias: Tensor | None = None) -> Tensor:
        """How much of each event the last position takes, mean of the heads: (B, T)."""
        query, key, _ = self.heads(x)
        scores = query[:, :, -1:] @ key.mT / math.sqrt(query.shape[-1])  # (B, H, 1, T)
        if bias is not None:
            scores = scores + bias[:, :, -1:]
        scores = scores.masked_fill(~visible[:, :, -1:], -math.inf)
        return scores.softmax(dim=-1).mean(dim=1).squeeze(1)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (B, T, D), each (B, H, T, D / H)."""
        normed = self.attention_norm(x)
        key, value = self.key_value(normed).chunk(2, dim=-1)  # (B, T, D)
        parts = (self.query(normed), key, value)
        query, key, value = (p.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for p in parts)
        return query, key, value

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Both residual connections: x and what attention found, (..., D) -> (..., D)."""
        x = x + self.dropout(self.attention_output(attended))
        wide = F.gelu(self.expand(self.feed_forward_norm(x)))  # (..., 4 D)
        added: Tensor = self.dropout(self.contract(wide))
        return x + added


class SASRec(TableModel):
    """Item vectors of a history in, a state out; score = item_table @ state."""

    config: SASRecConfig
    has_attention = True

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embedding = nn.Embedding(
            config.n_items + 1, config.hidden_dim, sparse=config.samples_items
        )
        self.position_embedding = nn.Embedding(config.max_len, config.hidden_dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.hidden_dim, config.n_heads, config.dropout)
            for _ in range(config.n_blocks)
        )
        self.final_norm = nn.LayerNorm(config.hidden_dim)
        self.add_parts()
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.item_embedding.weight, std=config.hidden_dim**-0.5)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def add_parts(self) -> None:
        """Weights of a subclass; here none."""

    def item_table(self) -> Tensor:
        """Vectors of the start token (row 0) and of every item: (N + 1, D)."""
        return self.with_lengths(self._scaled(self.item_embedding.weight))

    def item_vectors(self, rows: Tensor) -> Tensor:
        """Vectors of some rows of the table, (R,) -> (R, D)."""
        return self._scaled(self.item_embedding(rows))

    def _scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.config.logits == "cosine" else vectors

    def states(self, item_vectors: Tensor, known: Tensor, **context: Tensor) -> Tensor:
        """State after each event, (B, T, D); see `TableModel.states`."""
        x, visible = self.embed(item_vectors, known), self.visible(known)
        for block in self.blocks:
            x = block(x, visible)  # (B, T, D)
        return self.to_state(self.final_norm(x))

    def state_and_attention(
        self, item_vectors: Tensor, known: Tensor, **context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """State after the last event, (B, D), and the attention of the last block, (B, T)."""
        x, visible = self.embed(item_vectors, known), self.visible(known)
        *earlier, last = self.blocks
        for block in earlier:
            x = block(x, visible)  # (B, T, D)
        assert isinstance(last, TransformerBlock)
        weights = last.attention_weights(x, visible)  # (B, T)
        return self.to_state(self.final_norm(last(x, visible)[:, -1])), weights * known

    def embed(self, item_vectors: Tensor, known: Tensor, added: Tensor | None = None) -> Tensor:
        """What enters the first block, (B, T, D); added: (B, T, D), to known events.

        The start token gets no position: an empty history is the same wherever it was learned.
        """
        places = self.position_embedding.weight[: known.shape[1]].flip(0)  # (T, D), newest last
        added = places if added is None else places + added
        added = added * known.to(added.dtype).unsqueeze(-1)  # (B, T, D)
        x: Tensor = self.dropout(item_vectors * math.sqrt(self.config.hidden_dim) + added)
        return x

    def visible(self, known: Tensor) -> Tensor:
        """Which events each position looks at, query by key: (B, T) -> (B, 1, T, T)."""
        place = torch.arange(known.shape[1], device=known.device)
        causal = place <= place.unsqueeze(1)  # (T, T): a key is not newer than its query
        # Row 0 is visible to itself alone; without that, its softmax would be empty.
        own = place == place.unsqueeze(1)  # (T, T)
        return ((causal & known.unsqueeze(1)) | own).unsqueeze(1)

    def to_state(self, x: Tensor) -> Tensor:
        """x (..., D) scaled so that the product with the item table is the logit."""
        direction = F.normalize(x, dim=-1) if self.config.logits == "cosine" else x
        return direction / self.config.temperature

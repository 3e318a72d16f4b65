"""Attention pooling: a user is the attention-weighted sum of the items in the history.

    weights = softmax(scores(query, x) + recency)
    state = sum_i weights_i x_i
    score = table @ state

The four forms of attention (papers: `attention`; Bahdanau et al. 2015, Vaswani et al. 2017) differ
in the scores, and in what is summed:

    dot         query . x_i / sqrt(D), sum of the item vectors x_i themselves
    additive    v . tanh(W_q query + W_k x_i), likewise
    self        (W_q query) . (W_k x_i) / sqrt(D), sum of W_v x_i
    multi-head  the same by several heads, each in its slice, joined by W_o

The query is the newest item, which weights what in the history belongs to it, or one learned
vector, the same for all histories. `recency` is one learned number for every age of an event,
because a sum knows no order. One layer, no feed-forward network: what attention alone can do.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.train.layers.attention import (
    AdditiveAttention,
    MultiHeadAttention,
    SelfAttention,
    attention_weights,
    dot_product_scores,
)
from attnrec.train.models.base import TableModel
from attnrec.train.models.configs import AttentionPoolConfig

_DECAY = 0.5  # at first; without it a young model takes the mean of everything


class AttentionPool(TableModel):
    """Item vectors of a history in, their weighted sum out; score = item_table @ state."""

    config: AttentionPoolConfig
    has_attention = True

    def __init__(self, config: AttentionPoolConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.hidden_dim
        n_heads = config.n_heads if config.attention == "multi-head" else 1
        self.item_embedding = nn.Embedding(config.n_items + 1, dim, sparse=config.samples_items)
        decay = -_DECAY * torch.arange(config.max_len)
        self.recency = nn.Parameter(decay.unsqueeze(1).repeat(1, n_heads))  # (max_len, H)
        if config.query == "learned":
            self.query = nn.Parameter(torch.randn(dim))
        self.attention: AdditiveAttention | SelfAttention | None = None  # dot learns nothing
        if config.attention == "additive":
            self.attention = AdditiveAttention(dim, dim, dim)
        elif config.attention == "self":
            self.attention = SelfAttention(dim)
        elif config.attention == "multi-head":
            self.attention = MultiHeadAttention(dim, n_heads)
        for name in ("value", "output"):
            # At first the sum of the items themselves, as in `dot`: random matrices take epochs
            # to come back to the item table.
            if isinstance(layer := getattr(self.attention, name, None), nn.Linear):
                nn.init.eye_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.item_embedding.weight, std=dim**-0.5)

    def item_table(self) -> Tensor:
        """Vectors of the start token (row 0) and of every item: (N + 1, D)."""
        return self.with_lengths(self._scaled(self.item_embedding.weight))

    def item_vectors(self, rows: Tensor) -> Tensor:
        """Vectors of some rows of the table, (R,) -> (R, D)."""
        return self._scaled(self.item_embedding(rows))

    def _scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.config.logits == "cosine" else vectors

    def states(self, item_vectors: Tensor, known: Tensor, **context: Tensor) -> Tensor:
        """State after each event, (B, T, D); see `TableModel.states`.

        Every position is a query, which takes (B, T, T) numbers, and (B, T, T, H) for `additive`:
        10 MB a copy for 800 events as 16 histories of 50, H = 64.
        """
        place = torch.arange(item_vectors.shape[1], device=known.device)  # (T,)
        age = place.unsqueeze(1) - place  # (T, T): of a key, seen from its query
        # Row 0 is visible to itself alone; without that, its softmax would be empty.
        visible = ((age >= 0) & known.unsqueeze(1)) | (age == 0)  # (B, T, T)
        x = self._scale(item_vectors)
        prior = self._recency(age.clamp(min=0))
        if isinstance(self.attention, MultiHeadAttention):  # by a kernel that keeps no weights
            queries = self._query(x)
            return self.to_state(self.attention(x, visible.unsqueeze(1), prior, queries=queries))
        return self.to_state(self._pool(x, x, visible, prior)[0])

    def state_and_attention(
        self, item_vectors: Tensor, known: Tensor, **context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """State after the last event, (B, D), and the weight of each event in it, (B, T).

        The last position alone is computed.
        """
        age = torch.arange(item_vectors.shape[1] - 1, -1, -1, device=known.device)  # (T,)
        visible = (known | (age == 0)).unsqueeze(1)  # (B, 1, T)
        x = self._scale(item_vectors)
        pooled, weights = self._pool(x[:, -1:], x, visible, self._recency(age.unsqueeze(0)))
        return self.to_state(pooled)[:, 0], weights[:, 0] * known

    def _recency(self, age: Tensor) -> Tensor:
        """What an event of this age has before anything is compared: (Q, T) -> (H, Q, T)."""
        return F.embedding(age, self.recency).permute(2, 0, 1)

    def _scale(self, item_vectors: Tensor) -> Tensor:
        """Numbers of order one, as attention expects them."""
        scaled: Tensor = self.dropout(item_vectors * math.sqrt(self.config.hidden_dim))
        return scaled

    def _query(self, queries: Tensor) -> Tensor:
        return self.query.expand_as(queries) if self.config.query == "learned" else queries

    def _pool(
        self, queries: Tensor, x: Tensor, visible: Tensor, prior: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sums (B, Q, D), weights (B, Q, T) of queries (B, Q, D), x (B, T, D).

        visible (B, Q, T), prior (H, Q, T).
        """
        queries = self._query(queries)
        if isinstance(self.attention, SelfAttention):
            if isinstance(self.attention, MultiHeadAttention):
                visible = visible.unsqueeze(1)
            return self.attention.attend(x, visible, prior, queries=queries)
        additive = self.attention
        scores = additive.scores(queries, x) if additive else dot_product_scores(queries, x)
        weights = attention_weights(scores, visible, prior)
        return weights @ x, weights

    def to_state(self, x: Tensor) -> Tensor:
        """x (..., D) scaled so that the product with the item table is the logit."""
        direction = F.normalize(x, dim=-1) if self.config.logits == "cosine" else x
        return direction / self.config.temperature

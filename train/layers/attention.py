"""Attention in its four forms, as small as they are: read from top to bottom.

Attention compares a *query* with a set of items. Each item has a *key*, which is compared with the
query, and a *value*, which is its contribution. The
comparison gives every item a score; softmax turns the scores into weights that sum to 1; the
answer is the mean of the values, weighted so:

    weights = softmax(scores(query, keys))        attention_weights
    answer  = sum_i weights_i value_i             weights @ value

The four forms differ in where the scores come from:

    dot-product   q . k, or q . k / sqrt(d)       dot_product_scores, dot_product_attention
    additive      v . tanh(W_q q + W_k k)         AdditiveAttention
    self          dot-product, where queries,     SelfAttention
                  keys and values are all made
                  from the same items
    multi-head    self-attention, several times   MultiHeadAttention
                  side by side in slices

Letters of the shapes: B histories, Q queries each, T items each, D numbers a vector.

`visible` is bool: which items a query may look at. Padding and the future are hidden. A
hidden item has the weight 0. A query to which everything is hidden gets weights of 0 and thus the
answer 0: softmax over nothing would be NaN, which spreads. `prior` is added to the scores: what
makes an item likely before anything is compared, such as being recent.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention_weights(
    scores: Tensor, visible: Tensor | None = None, prior: Tensor | None = None
) -> Tensor:
    """softmax(scores + prior) over the visible items: (..., Q, T) -> (..., Q, T).

    visible: bool, prior: float, both broadcast to the scores. Every row sums to 1, or to 0 where
    nothing is visible.
    """
    if prior is not None:
        scores = scores + prior
    if visible is None:
        return scores.softmax(dim=-1)
    # The lowest number rather than -inf: a row of nothing but -inf would be NaN, and its
    # gradient as well. exp of it is 0 all the same; the second mask is for those rows.
    scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).masked_fill(~visible, 0.0)


def dot_product_scores(query: Tensor, key: Tensor, *, scaled: bool = True) -> Tensor:
    """q . k / sqrt(D), or plain q . k: (..., Q, D), (..., T, D) -> (..., Q, T).

    Plain: Luong et al. 2015, arXiv 1508.04025, the score "dot". Scaled: Vaswani et al. 2017,
    arXiv 1706.03762, eq. 1. With components of variance 1, q . k has the variance D: the larger
    D, the nearer softmax comes to choosing one item, where it no longer learns. Divided by
    sqrt(D), the variance is 1 again.
    """
    scores = query @ key.transpose(-2, -1)  # (..., Q, T)
    return scores / math.sqrt(query.shape[-1]) if scaled else scores


def dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None = None,
    prior: Tensor | None = None,
    *,
    scaled: bool = True,
) -> Tensor:
    """softmax(q k^T / sqrt(D)) v: Vaswani et al. 2017, eq. 1; plain where not `scaled`.

    query (..., Q, D), key (..., T, D), value (..., T, E); visible and prior (..., Q, T). Returns
    (..., Q, E).
    """
    scores = dot_product_scores(query, key, scaled=scaled)  # (..., Q, T)
    return attention_weights(scores, visible, prior) @ value


class AdditiveAttention(nn.Module):
    """score = v . tanh(W_q q + W_k k): a small network compares query and key.

    Bahdanau et al. 2015, arXiv 1409.0473, section 3.1 and appendix A.1.2. Older than the
    dot-product and more costly: every pair of query and key has its own hidden layer, so memory
    grows with B * Q * T * H.
    """

    def __init__(self, query_dim: int, key_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, hidden_dim, bias=False)  # W_q
        self.key = nn.Linear(key_dim, hidden_dim, bias=False)  # W_k
        self.score = nn.Linear(hidden_dim, 1, bias=False)  # v

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        visible: Tensor | None = None,
        prior: Tensor | None = None,
    ) -> Tensor:
        """query (B, Q, D), key (B, T, D), value (B, T, E); visible and prior (B, Q, T).

        Returns (B, Q, E).
        """
        return attention_weights(self.scores(query, key), visible, prior) @ value

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """v . tanh(W_q q + W_k k): (B, Q, D), (B, T, D) -> (B, Q, T)."""
        q = self.query(query).unsqueeze(2)  # (B, Q, 1, H)
        k = self.key(key).unsqueeze(1)  # (B, 1, T, H)
        scores: Tensor = self.score(torch.tanh(q + k)).squeeze(-1)  # (B, Q, T)
        return scores


class SelfAttention(nn.Module):
    """The items of a history look at each other: q, k and v are made of the same vectors.

    Scaled dot-product attention with q = W_q x, k = W_k x, v = W_v x (Vaswani et al. 2017,
    section 3.2.3). With three matrices an item may differ as a query, as a key and as a
    value.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        prior: Tensor | None = None,
        *,
        queries: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, D) -> what each item learned from the others (B, T, D).

        visible and prior: (B, Q, T). queries: the items that are queries (B, Q, D),
        such as the last; all of `x` by default.
        """
        return self.attend(x, visible, prior, queries=queries)[0]

    def attend(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        prior: Tensor | None = None,
        *,
        queries: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same, and how much of each item every query took: (B, Q, T)."""
        query, key, value = self.parts(x, queries)
        weights = attention_weights(dot_product_scores(query, key), visible, prior)
        return weights @ value, weights

    def parts(self, x: Tensor, queries: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, Q, D), keys and values (B, T, D)."""
        return self.query(x if queries is None else queries), self.key(x), self.value(x)


class MultiHeadAttention(SelfAttention):
    """Self-attention by several heads, each in its slice of the D dimensions.

    head_i = attention(q_i, k_i, v_i); answer = W_o [head_1; ...; head_h] (Vaswani et al. 2017,
    section 3.2.2). One head has one set of weights and so one reason to look at an item; several
    heads may have several, at the same cost.
    """

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__(dim)
        self.n_heads = n_heads
        self.output = nn.Linear(dim, dim)  # W_o

    def forward(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        prior: Tensor | None = None,
        *,
        queries: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, Q, D), as `SelfAttention`; visible, prior: (B, H or 1, Q, T)."""
        query, key, value = self.parts(x, queries)
        attended = multi_head_attention(query, key, value, visible, self.n_heads, prior)
        answer: Tensor = self.output(attended)
        return answer

    def attend(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        prior: Tensor | None = None,
        *,
        queries: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same, and how much of each item every query took: (B, Q, T), mean of the heads."""
        query, key, value = self.parts(x, queries)
        query, key, value = (_slices(part, self.n_heads) for part in (query, key, value))
        weights = attention_weights(dot_product_scores(query, key), visible, prior)
        attended = (weights @ value).transpose(1, 2).flatten(2)  # (B, Q, D)
        return self.output(attended), weights.mean(dim=1)


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    n_heads: int,
    prior: Tensor | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v in each of `n_heads` slices of the D dimensions, d = D / n_heads.

    query: (B, Q, D); key, value: (B, T, D); visible: bool, True where the query may look, and
    prior, both (B, H or 1, Q, T). Returns (B, Q, D). The same as `dot_product_attention` a head,
    by one kernel.
    """
    query, key, value = (_slices(x, n_heads) for x in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask(visible, prior))
    return attended.transpose(1, 2).flatten(2)  # (B, Q, D)


def mask(visible: Tensor | None, prior: Tensor | None) -> Tensor | None:
    """Both as one mask of a kernel: bool, or numbers that are added to the scores."""
    if prior is None:
        return visible
    return prior if visible is None else prior.masked_fill(~visible, -math.inf)


def _slices(x: Tensor, n_heads: int) -> Tensor:
    return x.view(*x.shape[:2], n_heads, -1).transpose(1, 2)  # (B, H, T, D / H)

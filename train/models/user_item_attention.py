"""A user attends to the items of the catalogue: matrix factorisation with an attention score.

The model is that of tutorials on attention in recommenders: vectors of a user u and of an item e,
an attention weight w between them, a sigmoid over [u; e; w e], binary cross-entropy. With one
change. Their code takes the softmax over the one score of the pair at hand, and the softmax of a
single number is 1, whatever the number: the weight is a constant without a gradient, the logit
becomes a.u + (b + c).e, and all users get the same ranking. Here the softmax runs over the whole
catalogue:

    w_uj  = N softmax_j(u . e_j / sqrt(D))            1 on average over the items j
    logit = a . u + b . e_j + w_uj c . e_j + bias
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.train.models.configs import PairConfig
from attnrec.train.models.pair_model import INITIAL_SPREAD, PairModel, UserVectors


class UserItemAttention(PairModel):
    """A step of training computes (B, N) attention scores: B N D multiplications."""

    def __init__(self, config: PairConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.hidden_dim
        self.user_vectors = UserVectors(config, dim)
        self.item_embedding = nn.Embedding(config.n_items + 1, dim)
        nn.init.normal_(self.item_embedding.weight, std=INITIAL_SPREAD)
        self.of_user = nn.Linear(dim, 1)  # a and the bias
        self.of_item = nn.Linear(dim, 2, bias=False)  # b and c

    def item_vectors(self) -> Tensor:
        """Vectors of the items, (N, D), like those of users sqrt(D) times what is stored."""
        # Steps of Adam have one size, and attention begins to learn once vectors are long.
        return self.item_embedding.weight[1:] * math.sqrt(self.config.hidden_dim)

    def weights(self, users: Tensor) -> Tensor:
        """Attention of user vectors (B, D) to every item, (B, N): 1 on average."""
        scores = users @ self.item_vectors().T / math.sqrt(self.config.hidden_dim)
        return torch.softmax(scores, dim=1) * self.config.n_items

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """Logits of all items, (B, N + 1); row 0 is none and gets 0."""
        users = self.user_vectors(**context) * math.sqrt(self.config.hidden_dim)  # (B, D)
        plain, attended = self.of_item(self.item_vectors()).T  # (N,), (N,)
        logits = self.of_user(users) + plain + self.weights(users) * attended
        return F.pad(logits, (1, 0))

    def pair_logits(self, items: Tensor, **context: Tensor) -> Tensor:
        """Logits (B, C) of rows of items (B, C); all N are computed, since all are attended to."""
        return self.scores(items, **context).gather(1, items)

"""NeuMF: Neural Collaborative Filtering (He et al. 2017), a product and a network, fused.

GMF     g   = p_u * q_j                                            equation 8, vectors of D
MLP     z_1 = relu(W_1 [p'_u; q'_j] + b_1), z_2 = relu(W_2 z_1 + b_2)       9 and 10, of 2 D
NeuMF   logit = h . [g; z_2]                                      11 and 12, before the sigmoid
"""

import torch
from torch import Tensor, nn

from attnrec.train.models.configs import NeuMFConfig
from attnrec.train.models.pair_model import INITIAL_SPREAD, PairModel, UserVectors


class NeuMF(PairModel):
    """Vectors of the two halves lie beside each other in one table: D for GMF, 2 D for MLP.

    The first layer of [p'_u; q'_j] is a part of the user plus a part of the item, each computed
    once, so the largest tensor is (B, N + 1, 2 D): 98 MB for 64 users, 12,000 items and D = 16.
    """

    config: NeuMFConfig

    def __init__(self, config: NeuMFConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.hidden_dim
        self.user_vectors = UserVectors(config, 3 * dim)
        self.item_embedding = nn.Embedding(config.n_items + 1, 3 * dim)
        nn.init.normal_(self.item_embedding.weight, std=INITIAL_SPREAD)
        self.first_of_user = nn.Linear(2 * dim, 2 * dim)  # W_1, b_1 of p'_u
        self.first_of_item = nn.Linear(2 * dim, 2 * dim, bias=False)  # W_1 of q'_j
        self.second = nn.Linear(2 * dim, dim)
        self.of_product = nn.Linear(dim, 1, bias=False)  # h of g
        self.of_network = nn.Linear(dim, 1)  # h of z_2
        self.dropout = nn.Dropout(config.dropout)

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """Logits of row 0 and of every item, (B, N + 1)."""
        product, network = self._halves(self.item_embedding.weight)  # (N + 1, D), (N + 1, 2 D)
        p, own = self._halves(self.user_vectors(**context))
        first = self.first_of_user(own).unsqueeze(1) + self.first_of_item(network)
        return (p * self.of_product.weight) @ product.T + self._rest(first)

    def pair_logits(self, items: Tensor, **context: Tensor) -> Tensor:
        """Logits (B, C) of rows of items (B, C)."""
        product, network = self._halves(self.dropout(self.item_embedding(items)))  # (B, C, ...)
        p, own = self._halves(self.dropout(self.user_vectors(**context)))
        first = self.first_of_user(own).unsqueeze(1) + self.first_of_item(network)  # (B, C, 2 D)
        fused: Tensor = self.of_product(p.unsqueeze(1) * product).squeeze(-1)
        return fused + self._rest(first)

    def _halves(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        dim = self.config.hidden_dim
        return vectors[..., :dim], vectors[..., dim:]

    def _rest(self, first: Tensor) -> Tensor:
        """First layer before its relu (B, C, 2 D) -> what the network adds to the logit (B, C)."""
        second = torch.relu(self.second(self.dropout(torch.relu(first))))
        added: Tensor = self.of_network(second).squeeze(-1)
        return added

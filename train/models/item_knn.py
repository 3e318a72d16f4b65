"""Item-based nearest neighbours: items that the same users took, the classic of shops.

    score(j) = sum over the events i of a history  W[i, j],    W = A A^T without its diagonal

    cosine   A[i, u] = x_ui / |x_i|
    bm25     A[i, u] = idf_u  x_ui (K1 + 1) / (x_ui + K1 (1 - B + B n_i / mean n))
             idf_u = log(N) - log(1 + number of items of u)

x_ui: how often u took i (or with what weight); n_i: the sum of x_ui over users. Cosine: Sarwar,
Karypis, Konstan, Riedl, "Item-based collaborative filtering recommendation algorithms", 2001,
section 3.1.1; only the M most similar items count, section 3.3. BM25: Robertson and Zaragoza, "The
probabilistic relevance framework", 2009, with items as documents and their users as words, as
the library implicit does: a user who takes everything is little evidence for any pair.

The order of a history does not count, nor how long ago something was, so `max_len` is large: it
only bounds the work for one answer.
"""

from typing import Any

import numpy as np
from scipy import sparse

from attnrec.train.models.configs import ItemKNNConfig
from attnrec.train.models.neighbours import NeighbourModel, events_matrix, products_of_rows
from attnrec.train.splits.split import Split


class ItemKNN(NeighbourModel):
    """Cosine or BM25 similarity of the users of two items."""

    config: ItemKNNConfig

    def fit(self, split: Split) -> None:
        """Compare the users of all items, as sparse products."""
        self.set_prior(split)
        by_item = events_matrix(split).T.tocsr()  # (N, n_users)
        weighted = _WEIGHTINGS[self.config.similarity](by_item, self.config)
        for source, target, weight in products_of_rows(weighted):
            self.keep_strongest(source, target, weight)


def _cosine(by_item: Any, config: ItemKNNConfig) -> Any:
    """Rows of length 1."""
    squares = by_item.multiply(by_item).sum(axis=1)  # (N, 1), above 0: every item has an event
    return sparse.diags_array(np.asarray(squares).ravel() ** -0.5) @ by_item


def _bm25(by_item: Any, config: ItemKNNConfig) -> Any:
    """Users of an item as the words of a document."""
    n_items_of_user = np.diff(by_item.tocsc().indptr)  # (n_users,)
    idf = np.log(by_item.shape[0]) - np.log1p(n_items_of_user)
    length = np.asarray(by_item.sum(axis=1)).ravel()  # (N,)
    norm = config.k1 * (1 - config.b + config.b * length / length.mean())
    weighted = by_item.tocoo()
    x = weighted.data
    weighted.data = idf[weighted.col] * x * (config.k1 + 1) / (x + norm[weighted.row])
    return weighted.tocsr()


_WEIGHTINGS = {"cosine": _cosine, "bm25": _bm25}

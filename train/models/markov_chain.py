"""Decayed Markov chain: counts of what follows what, a baseline that is hard to beat.

    score(j) = sum over the newest events i_0, i_1, ...  d^k T[i_k, j] / (n_i n_j^0.5)^0.5
    T[i, j]  = sum over distances s = 1..10  0.7^(s - 1) * #(j comes s events after i)

with n_i + 1 for n_i. One pass over the log, no learning; on small logs it beats most networks. The
history decay, d, differs most between logs (0.4 for baskets, 0.7 or 0.8 for films), so
validation chooses it.
"""

import numpy as np
from numpy.typing import NDArray

from attnrec.train.data.split import Sequences, Split
from attnrec.train.models.configs import MarkovChainConfig
from attnrec.train.models.neighbours import NeighbourModel


class MarkovChain(NeighbourModel):
    """Transitions kept as the top M neighbours of each item."""

    config: MarkovChainConfig
    decays = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

    def fit(self, split: Split) -> None:
        """Count the transitions of every user."""
        self.set_prior(split)
        sequences = split.sequences
        counts = np.bincount(sequences.rows, minlength=self.config.n_items + 1)
        source, target, weight = _transitions(sequences, self.config)
        discount = (counts + 1.0) ** -self.config.popularity_discount
        weight = weight * (counts[source] + 1.0) ** -0.5 * discount[target]
        self.keep_strongest(source, target, weight)


def _transitions(
    sequences: Sequences, config: MarkovChainConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Distinct (source, target) pairs with their decayed counts, sorted by source, target."""
    rows = sequences.rows.astype(np.int64)
    user = np.repeat(np.arange(len(sequences.offsets) - 1), np.diff(sequences.offsets))
    n_rows = config.n_items + 1
    counted = np.ones(len(rows)) if sequences.weights is None else sequences.weights
    keys = np.zeros(0, dtype=np.int64)
    weights: NDArray[np.float64] = np.zeros(0)
    for distance in range(1, min(config.window, len(rows) - 1) + 1):
        same_user = user[distance:] == user[:-distance]
        pair = rows[:-distance][same_user] * n_rows + rows[distance:][same_user]
        weight = config.distance_decay ** (distance - 1) * counted[distance:][same_user]
        # Merged at every distance, so that memory follows the distinct pairs.
        keys, place = np.unique(np.concatenate([keys, pair]), return_inverse=True)
        merged = np.concatenate([weights, weight])
        weights = np.bincount(place, merged, minlength=len(keys)).astype(np.float64)
    return keys // n_rows, keys % n_rows, weights

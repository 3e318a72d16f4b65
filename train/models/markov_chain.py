"""Decayed Markov chain: counts of what follows what, a baseline that is hard to beat.

    score(j) = sum over the newest events i_0, i_1, ...  d^k T[i_k, j] / (n_i n_j^0.5)^0.5
    T[i, j]  = sum over distances s = 1..10  0.7^(s - 1) * #(j comes s events after i)

with n_i + 1 for n_i. One pass over the log, no learning; on small logs it beats most networks. The
history decay, d, differs most between logs (0.4 for baskets, 0.7 or 0.8 for films), so
validation chooses it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from attnrec.train.data.interactions import blocks, grouped_rows
from attnrec.train.models.configs import MarkovChainConfig
from attnrec.train.models.neighbours import NeighbourModel
from attnrec.train.splits.split import Sequences, Split

_LARGEST_STEP = 1 << 21  # pairs counted together: 200 MB with what merges them
# Step of the decays. Sums of its multiples are exact in any order: equal counts stay equal.
_STEP_OF_DECAY = 2.0**-30


class MarkovChain(NeighbourModel):
    """Transitions kept as the top M neighbours of each item."""

    config: MarkovChainConfig
    decays = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

    def fit(self, split: Split) -> None:
        """Count the transitions of every user."""
        self.set_prior(split)
        sequences = split.sequences
        counts = np.bincount(sequences.rows, minlength=self.config.n_items + 1)
        discount = (counts + 1.0) ** -self.config.popularity_discount
        for source, target, weight in _transitions(sequences, self.config):
            weight = weight * (counts[source] + 1.0) ** -0.5 * discount[target]
            self.keep_strongest(source, target, weight)


def _transitions(
    sequences: Sequences, config: MarkovChainConfig
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Distinct (source, target) pairs with their decayed counts, a block of sources at a time."""
    rows, n_rows = sequences.rows, config.n_items + 1
    begin, places = grouped_rows(rows, n_rows)
    ends = np.repeat(sequences.offsets[1:].astype(places.dtype), np.diff(sequences.offsets))
    decay = config.distance_decay ** np.arange(config.window)  # (window,)
    decay = np.round(decay / _STEP_OF_DECAY) * _STEP_OF_DECAY
    merge = sparse.eye_array(n_rows, format="csr")
    step = max(1, _LARGEST_STEP // config.window)  # events

    def count(first: int, last: int, start: int) -> Any:
        """Of at most `step` events in `places` from start on, those of rows first to last - 1."""
        stop = min(start + step, begin[last])
        after = places[start:stop, None] + np.arange(1, config.window + 1)  # (events, window)
        inside = after < ends[places[start:stop], None]
        after = after[inside]
        weight = np.broadcast_to(decay, inside.shape)[inside]
        if sequences.weights is not None:
            weight = weight * sequences.weights[after]
        until = np.concatenate([[0], np.cumsum(inside.sum(axis=1))])
        until = until[np.clip(begin[first : last + 1], start, stop) - start]
        pairs = (weight, rows[after], until)
        # The product adds up the pairs of the same source and target.
        return sparse.csr_array(pairs, shape=(last - first, n_rows)) @ merge

    for first, last in blocks(begin, step):
        starts = range(begin[first], max(begin[last], begin[first] + 1), step)
        found = sum(count(first, last, start) for start in starts).tocoo()
        yield found.row.astype(np.int64) + first, found.col.astype(np.int64), found.data

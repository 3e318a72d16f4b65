"""Decayed Markov chain: counts of what follows what, the baseline that is hard to beat.

    score(j) = sum over the newest events i_0, i_1, ...  d^k T[i_k, j] / (n_i n_j^0.5)^0.5
    T[i, j]  = sum over distances s = 1..10  0.7^(s - 1) * #(j comes s events after i)

with n_i + 1 for n_i. One pass over the log, no learning; on small logs it beats most networks. How
fast a history fades, d, differs most between logs (0.4 for baskets, 0.7 or 0.8 for films), so
validation chooses it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnrec.train.checks import check_number, check_whole
from attnrec.train.models.protocol import CountModel
from attnrec.train.split import Sequences, Split

_DECAYS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class MarkovChainConfig:
    """How far the chain looks and how it forgets."""

    n_items: int
    """Items in the catalogue, N."""
    max_len: int = 20
    """Newest events of a history that count."""
    history_decay: float | None = None
    """Weight of an event against the one after it, when scoring, d; None: validation chooses."""
    window: int = 10
    """Largest distance between two events that counts as a transition."""
    distance_decay: float = 0.7
    """Weight of distance s + 1 against distance s, when counting."""
    popularity_discount: float = 0.25
    """Scores are divided by (n_j + 1) to this power."""
    n_neighbours: int = 200
    """Strongest transitions kept per item, M; the file grows with N * M."""

    def __post_init__(self) -> None:
        for name in ("n_items", "max_len", "window", "n_neighbours"):
            check_whole(name, getattr(self, name))
        for name in ("history_decay", "distance_decay", "popularity_discount"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), lowest=0)


class MarkovChain(CountModel):
    """Transitions kept as the top M neighbours of each item."""

    config: MarkovChainConfig

    def __init__(self, config: MarkovChainConfig) -> None:
        super().__init__()
        self.config = config
        shape = (config.n_items + 1, min(config.n_neighbours, config.n_items))
        self.neighbour: Tensor  # (N + 1, M) row of the item that follows
        self.weight: Tensor  # (N + 1, M) how strongly
        self.prior: Tensor  # (N + 1,) order of items that nothing leads to
        self.register_buffer("neighbour", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("weight", torch.zeros(shape))
        self.register_buffer("prior", torch.zeros(config.n_items + 1))

    def fit(self, split: Split) -> None:
        """Count the transitions of every user."""
        sequences = split.sequences
        counts = np.bincount(sequences.rows, minlength=self.config.n_items + 1)
        source, target, weight = _transitions(sequences, self.config)
        discount = (counts + 1.0) ** -self.config.popularity_discount
        weight = weight * (counts[source] + 1.0) ** -0.5 * discount[target]
        # Strongest first within each source; equal weights: the more frequent item first.
        order = np.lexsort((target, -weight, source))
        source, target, weight = source[order], target[order], weight[order]
        place = np.arange(len(source)) - np.searchsorted(source, source)
        kept = place < self.neighbour.shape[1]
        at = (torch.from_numpy(source[kept]), torch.from_numpy(place[kept]))
        self.neighbour[at] = torch.from_numpy(target[kept]).int()
        self.weight[at] = torch.from_numpy(weight[kept]).float()
        # Far below any transition: it orders only what no transition reaches.
        self.prior.copy_(torch.from_numpy(1e-4 * counts / max(1, counts.max())))

    def tune(self, validate: Callable[[], float]) -> None:
        """Choose the decay of the history, unless it was given."""
        if self.config.history_decay is not None:
            return
        quality = {}
        for decay in _DECAYS:
            self.config = replace(self.config, history_decay=decay)
            quality[decay] = validate()
        self.config = replace(self.config, history_decay=max(_DECAYS, key=quality.__getitem__))

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """Decayed sum of the neighbours of the newest events: (B, T) -> (B, N + 1)."""
        batch, length = history_index.shape
        age = torch.arange(length - 1, -1, -1, device=history_index.device)  # (T,)
        fading = _DECAYS[0] if self.config.history_decay is None else self.config.history_decay
        decay = fading ** age.to(self.weight.dtype)
        weight = self.weight[history_index] * decay.unsqueeze(-1)  # (B, T, M)
        neighbour = self.neighbour[history_index].long()  # (B, T, M)
        prior = self.prior.expand(batch, -1)
        return prior.scatter_add(1, neighbour.flatten(1), weight.flatten(1))  # (B, N + 1)


def _transitions(
    sequences: Sequences, config: MarkovChainConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Distinct (source, target) pairs with their decayed counts, sorted by source, target."""
    rows = sequences.rows.astype(np.int64)
    user = np.repeat(np.arange(len(sequences.offsets) - 1), np.diff(sequences.offsets))
    n_rows = config.n_items + 1
    keys = np.zeros(0, dtype=np.int64)
    weights: NDArray[np.float64] = np.zeros(0)
    for distance in range(1, min(config.window, len(rows) - 1) + 1):
        same_user = user[distance:] == user[:-distance]
        pair = rows[:-distance][same_user] * n_rows + rows[distance:][same_user]
        weight = np.full(len(pair), config.distance_decay ** (distance - 1))
        # Merged at every distance, so that memory follows the distinct pairs.
        keys, place = np.unique(np.concatenate([keys, pair]), return_inverse=True)
        merged = np.concatenate([weights, weight])
        weights = np.bincount(place, merged, minlength=len(keys)).astype(np.float64)
    return keys // n_rows, keys % n_rows, weights

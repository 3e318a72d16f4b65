"""What models share that add up the neighbours of the items of a history.

    score(j) = prior(j) + sum over the newest events i_0, i_1, ...  d^k W[i_k, j]

Of each row of W the M strongest entries are kept, so that a file grows with N * M and not with
N * N. The prior is popularity, far below any weight: it is the answer to an empty history, and
orders what no neighbour reaches.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from attnrec.train.models.base import CountModel
from attnrec.train.models.choices import best_of
from attnrec.train.models.configs import NeighbourConfig
from attnrec.train.splits.split import Split

_LARGEST_STEP = 1 << 23  # entries of W in memory at once: 200 MB with what sorts them


class NeighbourModel(CountModel):
    """The strongest neighbours of each item; a model defines what they are."""

    config: NeighbourConfig
    decays: ClassVar[tuple[float, ...]] = (1.0, 0.95, 0.9, 0.8, 0.6, 0.4)
    """What validation chooses from."""

    def __init__(self, config: NeighbourConfig) -> None:
        super().__init__()
        self.config = config
        shape = (config.n_items + 1, min(config.n_neighbours, config.n_items))
        self.neighbour: Tensor  # (N + 1, M) row of the neighbour
        self.weight: Tensor  # (N + 1, M) how strongly it adds to the neighbour's score
        self.prior: Tensor  # (N + 1,) order of items that no neighbour reaches
        self.register_buffer("neighbour", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("weight", torch.zeros(shape))
        self.register_buffer("prior", torch.zeros(config.n_items + 1))

    def set_prior(self, split: Split) -> None:
        """Popularity, at most 1e-4."""
        counts = np.bincount(split.sequences.rows, minlength=self.config.n_items + 1)
        self.prior.copy_(torch.from_numpy(1e-4 * counts / max(1, counts.max())))

    def keep_strongest(
        self,
        source: NDArray[Any],
        target: NDArray[Any],
        weight: NDArray[np.floating],
        size: NDArray[np.floating] | None = None,
    ) -> None:
        """Set the neighbours of the rows `source`, sorted, from all their W[source, target].

        Strongest is by absolute value, so that negative weights count like positive ones, or by
        `size`.
        """
        size, n_kept = np.abs(weight) if size is None else size, self.neighbour.shape[1]
        strong = np.ones(len(size), dtype=bool)
        # Sorting all would take longer than counting did: first, only the least is found.
        for start, stop in pairwise(np.flatnonzero(np.diff(source, prepend=-1, append=-1))):
            surplus = stop - start - n_kept
            if surplus > 0:
                least = np.partition(size[start:stop], surplus)[surplus]
                strong[start:stop] = size[start:stop] >= least
        source, target, weight = source[strong], target[strong], weight[strong]
        # Equal sizes: the lower row, that is the more frequent item, first.
        order = np.lexsort((target, -size[strong], source))
        source, target, weight = source[order], target[order], weight[order]
        place = np.arange(len(source)) - np.searchsorted(source, source)
        kept = place < n_kept
        at = (torch.from_numpy(source[kept]).long(), torch.from_numpy(place[kept]))
        self.neighbour[at] = torch.from_numpy(target[kept]).int()
        self.weight[at] = torch.from_numpy(weight[kept]).float()

    def tune(self, validate: Callable[[], float]) -> None:
        """Choose the decay of the history, unless it was given."""
        if self.config.history_decay is not None:
            return
        tried = {}
        for decay in self.decays:
            self.config = replace(self.config, history_decay=decay)
            tried[decay] = validate()
        best, reason = best_of(tried)
        self.config = replace(self.config, history_decay=best)
        self.reasons = {**self.reasons, "history_decay": reason}

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """Decayed sum of the neighbours of the newest events: (B, T) -> (B, N + 1)."""
        batch, length = history_index.shape
        given = self.config.history_decay
        decay = self.decays[0] if given is None else given
        # As embeddings: in ONNX one node each, where indexing is two and slower.
        weight = F.embedding(history_index, self.weight)  # (B, T, M)
        neighbour = F.embedding(history_index, self.neighbour).long()  # (B, T, M)
        if decay != 1:
            age = torch.arange(length - 1, -1, -1, device=history_index.device)  # (T,)
            weight = weight * (decay ** age.to(weight.dtype)).unsqueeze(-1)
        prior = self.prior.expand(batch, -1)
        return prior.scatter_add(1, neighbour.flatten(1), weight.flatten(1))  # (B, N + 1)


def events_matrix(split: Split) -> Any:
    """Users by items, (n_users, N) in CSR: events of each pair, or their weights."""
    sequences = split.sequences
    ones = np.ones(len(sequences.rows))
    values = ones if sequences.weights is None else sequences.weights.astype(np.float64)
    shape = (len(sequences.offsets) - 1, split.catalogue.n_items)
    parts = (values, sequences.rows - 1, sequences.offsets)
    matrix = sparse.csr_matrix(parts, shape=shape, copy=True)  # it is changed in place
    matrix.sum_duplicates()
    return matrix


def products_of_rows(
    matrix: Any, others: Any = None
) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]]:
    """Inner products of different rows of `matrix` (N, anything) in CSR, a chunk at a time.

    others: rows of another matrix to multiply with, all of them. Yields rows source and target,
    counted from 1, and the product, where it is not 0.
    """
    targets = matrix if others is None else others
    step = max(1, _LARGEST_STEP // targets.shape[0])
    transposed = targets.T.tocsr()
    for start in range(0, matrix.shape[0], step):
        product = (matrix[start : start + step] @ transposed).tocoo()
        source, target = product.row.astype(np.int64) + start, product.col
        differ = slice(None) if others is not None else source != target
        yield source[differ] + 1, target[differ] + 1, product.data[differ]

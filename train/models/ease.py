"""EASE: the closed form of the linear model that predicts each item from all others.

    B = I - P diag(1 / diag P),    P = (X^T X + lambda I)^-1,    score = x B

X (users, N) counts the events of every user and item, or their weights; x is the history. Steck,
"Embarrassingly shallow autoencoders for sparse data", WWW 2019, equation 8. B minimises
|X - X B|^2 + lambda |B|^2 with a diagonal of zeros: an item may not predict itself. Entries below
0 are evidence against j for users who took i; models of neighbours have none.

The order of a history does not count, so `max_len` is large: it only bounds the work for one
answer.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from attnrec.runtime.errors import DataError
from attnrec.train.models.configs import EaseConfig
from attnrec.train.models.neighbours import NeighbourModel, events_matrix
from attnrec.train.splits.split import Split

_LAMBDAS = (30.0, 100.0, 300.0, 1000.0)
_MATRICES = 3  # X^T X, P and one to work in; in float32, which ranks like float64
_ROWS = 512  # of B, sorted at once


class Ease(NeighbourModel):
    """The strongest entries of each row of B, by absolute value."""

    config: EaseConfig
    _gram: torch.Tensor | None = None
    """X^T X, from `fit` to `tune`."""

    def fit(self, split: Split) -> None:
        """Solve for lambda, or for the first that validation may choose."""
        self._refuse_large()
        self.set_prior(split)
        events = events_matrix(split).astype(np.float32)
        gram = torch.from_numpy((events.T @ events).toarray())  # (N, N)
        self._solve(gram, self.config.regularization or _LAMBDAS[0])
        self._gram = gram if self.config.regularization is None else None

    def tune(self, validate: Callable[[], float]) -> None:
        """Choose lambda, then the decay of the history, unless they were given."""
        if self._gram is not None:
            self._choose_lambda(self._gram, validate)
            self._gram = None
        super().tune(validate)

    def _choose_lambda(self, gram: torch.Tensor, validate: Callable[[], float]) -> None:
        best = -1.0
        for strength in _LAMBDAS:
            if strength != _LAMBDAS[0]:  # which `fit` has solved
                self._solve(gram, strength)
            quality = validate()
            if quality > best:
                best, chosen = quality, strength
                kept = {name: buffer.clone() for name, buffer in self.state_dict().items()}
        self.load_state_dict(kept)
        self.config = replace(self.config, regularization=chosen)

    def _refuse_large(self) -> None:
        n_items = self.config.n_items
        needed = _MATRICES * 4 * n_items**2 / 1e9
        if needed > self.config.most_gb:
            raise DataError(
                f"ease needs {_MATRICES} matrices of {n_items:,} x {n_items:,}, {needed:,.1f} GB, "
                f"above the limit of {self.config.most_gb:g} GB (most_gb)",
                "drop rare items with `min_item_events`, raise the limit with "
                f"`most_gb={math.ceil(needed)}`, or take item-knn, which needs no such matrix",
            )

    def _solve(self, gram: torch.Tensor, strength: float) -> None:
        """Equation 8, and of each row of B what is kept."""
        p = gram.clone()
        p.diagonal().add_(strength)
        factor, fault = torch.linalg.cholesky_ex(p)
        if int(fault):
            raise ValueError(
                f"regularization {strength:g} is too small for this log: X^T X + lambda I has no "
                "inverse in float32; set 1 or more"
            )
        torch.cholesky_inverse(factor, out=p)  # (N, N)
        del factor
        b = p.numpy()
        b /= -b.diagonal()  # column j by -P[j, j]
        np.fill_diagonal(b, 0)
        self.weight.zero_()
        for start in range(0, len(b), _ROWS):
            source, target = np.nonzero(b[start : start + _ROWS])
            self.keep_strongest(source + start + 1, target + 1, b[source + start, target])

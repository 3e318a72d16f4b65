"""What validation chooses by: the quality of a model with one setting after the other."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Validate(Protocol):
    """Validation NDCG@10 of a model as it is now, for choices that compare users one by one."""

    of_users: NDArray[np.float64]
    """That of each user when it was last called, always of the same users (n_users,)."""

    def __call__(self) -> float:
        """The mean."""


def near(values: Sequence[float], before: float | None) -> Sequence[float]:
    """Of ascending values the one that was chosen before and its neighbours, else all."""
    if before not in values:
        return values
    place = values.index(before)
    return values[max(0, place - 1) : place + 2]


def best_of(tried: Mapping[float, float]) -> tuple[float, str]:
    """The first value with the highest validation NDCG@10, and the reason in words."""
    listed = ", ".join(f"{value:g}: {ndcg:.4f}" for value, ndcg in tried.items())
    best = max(tried, key=tried.__getitem__)
    return best, f"the highest validation NDCG@10 ({listed})"

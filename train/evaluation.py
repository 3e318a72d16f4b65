"""How good the answers are: whole-catalogue ranking of the held-out event of every user."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.recommendations import Recommendations
from attnrec.train.split import HeldOut, ItemIds

_CUTOFFS = (5, 10, 20)
_BOOTSTRAP_SAMPLES = 1000


class Answers(Protocol):
    """Whatever recommends: a file through `Recommender`, or a torch model through `Reference`."""

    def recommend_batch(
        self,
        histories: Sequence[ItemIds],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        users: ItemIds | None = None,
    ) -> list[Recommendations]:
        """Best `k` items for each history; users: who asks, where that counts."""


@dataclass(frozen=True)
class Metrics:
    """Figures of one evaluation; every user with 3 events or more counts once."""

    values: dict[str, float]
    """ndcg@k and hit_rate@k for k = 5, 10, 20, mrr@10, coverage@10."""
    intervals: dict[str, tuple[float, float]]
    """95 % bootstrap intervals over users, of ndcg@10 and hit_rate@10."""
    n_users: int
    """Users asked."""
    missing_targets: float
    """Share of users whose target has no training event: nothing can recommend it."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict, figures rounded to 6 places."""
        return {
            **{name: round(value, 6) for name, value in self.values.items()},
            **{
                f"{name}_interval": [round(low, 6), round(high, 6)]
                for name, (low, high) in self.intervals.items()
            },
            "n_users": self.n_users,
            "missing_targets": round(self.missing_targets, 6),
        }


def evaluate_answers(
    answers: Answers,
    held_out: HeldOut,
    catalogue_ids: ItemIds,
    *,
    exclude_seen: bool,
    inputs: Sequence[str] = (),
) -> Metrics:
    """Ask for every history and rank its target in the whole catalogue.

    exclude_seen: the repeat policy of the run; it may not depend on the target. inputs: what the
    model declares; where "user" is among them, it is told who asks.
    """
    # One more than the longest cutoff: a target tied with place 21 has a rank beyond 20.
    lists = answers.recommend_batch(
        held_out.histories,
        max(_CUTOFFS) + 1,
        exclude_seen=exclude_seen,
        users=held_out.users if "user" in inputs else None,
    )
    targets = held_out.targets.tolist()
    ranks = target_ranks(lists, targets)
    shown = {item_id for answer in lists for item_id in answer.item_ids[:10]}
    known = set(catalogue_ids.tolist())
    values, intervals = ranking_metrics(ranks)
    values["coverage@10"] = len(shown) / len(known)
    return Metrics(
        values=values,
        intervals=intervals,
        n_users=len(ranks),
        missing_targets=sum(target not in known for target in targets) / len(targets),
    )


def target_ranks(
    lists: Sequence[Recommendations], targets: Sequence[int | str]
) -> NDArray[np.float64]:
    """Rank of each target in its list of 21 or more, (n_users,) from 1; inf: beyond 20."""
    return np.array([_rank(a, t) for a, t in zip(lists, targets, strict=True)])


def _rank(answer: Recommendations, target: int | str) -> float:
    """1 + better items + equal items: ties count against the model. inf: not in the list."""
    score = dict(answer).get(target)
    if score is None:
        return math.inf
    rank = sum(other >= score for other in answer.scores)
    return rank if rank <= max(_CUTOFFS) else math.inf


def ranking_metrics(
    ranks: NDArray[np.float64],
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Means over users and 95 % bootstrap intervals; ranks (n_users,) from 1, inf for a miss.

    With one target, NDCG@k = 1 / log2(rank + 1) and the reciprocal rank 1 / rank, inside k.
    """
    gains = {}
    for cutoff in _CUTOFFS:
        inside = ranks <= cutoff
        gains[f"ndcg@{cutoff}"] = inside / np.log2(ranks + 1)
        gains[f"hit_rate@{cutoff}"] = inside.astype(float)
    gains["mrr@10"] = (ranks <= 10) / ranks
    values = {name: float(gain.mean()) for name, gain in gains.items()}
    intervals = {name: bootstrap_interval(gains[name]) for name in ("ndcg@10", "hit_rate@10")}
    return values, intervals


def bootstrap_interval(gain: NDArray[np.float64]) -> tuple[float, float]:
    """Where 95 % of the means lie when users are drawn again; seeded, so figures repeat."""
    rng = np.random.default_rng(0)
    means = [gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(_BOOTSTRAP_SAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)

"""What a run says of the search that found it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.train.evaluation.metrics import bootstrap_intervals
from attnrec.train.tuning.space import Between, Space
from attnrec.train.tuning.store import Trial, TuningStore


def tuning_summary(
    store: TuningStore,
    space: Space,
    values: Mapping[str, Any],
    most_seconds: float,
    *,
    difference: NDArray[np.float64],
    importance: Mapping[str, float],
    expected: Callable[[Trial, Trial], float | None],
) -> dict[str, Any]:
    """For `metrics.json`; difference: NDCG@10 of the best less that of the recipe (n_users,)."""
    trials, best = store.trials, store.best
    assert best is not None
    low, high = bootstrap_intervals({"difference": difference})["difference"]
    return {
        "minutes": round(most_seconds / 60, 2),
        "seconds": round(trials[-1].after, 2),
        "best": best.number,
        "gain": round(float(difference.mean()), 6),
        "gain_interval": [round(low, 6), round(high, 6)],
        "recipe": {name: values[name] for name in space},
        "space": {
            name: [wanted.low, wanted.high] if isinstance(wanted, Between) else wanted.values
            for name, wanted in space.items()
        },
        "importance": dict(importance),
        "trials": [_told(trial, expected(trial, trials[0])) for trial in trials],
    }


def _told(trial: Trial, expected: float | None) -> dict[str, Any]:
    told = {("ndcg@10" if name == "ndcg" else name): value for name, value in vars(trial).items()}
    return told | {"expected": None if expected is None else round(expected, 6)}

"""What a trained model has to beat: traditional models, asked the same validation questions."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from attnrec.runtime.errors import AttnrecError, DataError
from attnrec.train.evaluation.metrics import Ranking, bootstrap_intervals, metrics_of
from attnrec.train.evaluation.validation import Validation, ndcg_of_users
from attnrec.train.fitting.config import TrainConfig, value_text
from attnrec.train.models import COMPARED_MODELS, MODELS
from attnrec.train.models.base import CountModel, fit_by_counting

logger = logging.getLogger(__name__)

BASELINES = ("popularity", "item-knn-fading", "ease-fading", "markov-chain")
"""Names in the family. None learns by gradient, and seconds are enough for them."""
_MOST_GB = 1.0  # for the matrices of EASE: beyond 9,000 items they take minutes


@dataclass(frozen=True)
class Baseline:
    """A model that answered the validation questions, or the reason why it could not."""

    name: str
    """Name in the family."""
    ranking: Ranking | None
    """Where the targets stand in its lists."""
    seconds: float
    """What fitting it took, the choice of its settings included."""
    reason: str | None = None
    """Why there is no ranking."""


def baselines_of(config: TrainConfig) -> list[str]:
    """The traditional models, without the one that was trained itself."""
    return [
        name
        for name in BASELINES
        if COMPARED_MODELS[name] != (config.model, dict(config.settings))
    ]


def fit_baseline(name: str, validation: Validation) -> Baseline:
    """Fit a model of the family on the training events and ask it for the validation events.

    Like the trained model, it chooses on these events what it leaves open.
    """
    kind, settings = COMPARED_MODELS[name]
    if kind == "ease":
        settings = {**settings, "most_gb": _MOST_GB}
    config = TrainConfig(kind, settings)
    started = time.monotonic()
    try:
        model = MODELS[kind].model(config.model_config(**validation.split.sizes()))
        assert isinstance(model, CountModel)
        fit_by_counting(model, validation.split, partial(validation.ndcg, model))
        seconds = time.monotonic() - started
        return Baseline(name, validation.ranking(model), seconds)
    # The last two are how numpy and torch say that memory is not enough. A report may lack a
    # row; it must not cost the training.
    except (AttnrecError, ValueError, MemoryError, RuntimeError) as error:
        problem = error.problem if isinstance(error, DataError) else str(error) or repr(error)
        reason = f"{problem}. To train it alone: {_command(name)}"
        logger.warning("%s is not in the report: %s", name, reason)
        return Baseline(name, None, time.monotonic() - started, reason)


def _command(name: str) -> str:
    kind, settings = COMPARED_MODELS[name]
    options = (f" --set {key}={value_text(value)}" for key, value in settings.items())
    return f"attnrec-train --model {kind}{''.join(options)}"


def baseline_figures(baseline: Baseline, own: Ranking, validation: Validation) -> dict[str, Any]:
    """Its figures for JSON, with the paired difference to the `own` ranking of the run."""
    if baseline.ranking is None:
        return {"model": baseline.name, "reason": baseline.reason}
    questions = validation.questions
    gains = [ndcg_of_users(ranking, questions) for ranking in (baseline.ranking, own)]
    difference = gains[0] - gains[1]
    low, high = bootstrap_intervals({"difference": difference})["difference"]
    catalogue_ids = validation.split.catalogue.item_ids
    return {
        "model": baseline.name,
        **metrics_of(baseline.ranking, questions, catalogue_ids).to_json(),
        "ndcg@10_to_run": round(float(difference.mean()), 6),
        "ndcg@10_to_run_interval": [round(low, 6), round(high, 6)],
    }


def best_of(models: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The best by NDCG@10 of those that could be fitted."""
    fitted = [model for model in models if "reason" not in model]
    return max(fitted, key=lambda model: float(model["ndcg@10"]), default=None)

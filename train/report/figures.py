"""What a run report shows beyond training: baselines on the same validation targets, slices."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from attnrec.runtime.errors import AttnrecError, DataError
from attnrec.train.evaluation.metrics import Ranking, bootstrap_intervals
from attnrec.train.evaluation.slices import slice_figures, slice_masks
from attnrec.train.evaluation.validation import Validation, ndcg_of_users
from attnrec.train.fitting.config import TrainConfig, value_text
from attnrec.train.models import COMPARED_MODELS, MODELS
from attnrec.train.models.base import CountModel, RecommenderModel, fit_by_counting
from attnrec.train.report.examples import examples
from attnrec.train.splits.config import TimeSplit

logger = logging.getLogger(__name__)

BASELINES = ("popularity", "item-knn-decayed", "ease-decayed", "markov-chain")
"""Names among the compared models. None learns by gradient; fitting them takes seconds."""

Reporting = Callable[[str, int, int], None]
"""Called with what is done now, steps done before it and steps in all."""


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline with its validation ranking, or the reason why there is none."""

    name: str
    """Name among the compared models."""
    ranking: Ranking | None
    """The ranks of the validation targets."""
    seconds: float
    """What fitting it took, the choice of its settings included."""
    reason: str | None = None
    """None: it was fitted."""


def report_figures(
    model: RecommenderModel,
    ranking: Ranking,
    config: TrainConfig,
    validation: Validation,
    seconds: float | None,
    reporting: Reporting,
) -> dict[str, Any]:
    """Figures of the trained model and of baselines, in slices, with examples, for JSON.

    model: in eval mode; ranking: its ranks of the validation targets; seconds: what its
    training took, None if that is not known. The test events are not looked at.
    """
    names = baselines_of(config)
    baselines = []
    for step, name in enumerate(names):
        reporting(f"fitting {name}", step, len(names) + 1)
        baselines.append(fit_baseline(name, validation))
    reporting("comparing", len(names), len(names) + 1)
    took = {"run": seconds, **{baseline.name: baseline.seconds for baseline in baselines}}
    return {
        **_compared(ranking, baselines, validation),
        "seconds": {name: time and round(time, 2) for name, time in took.items()},
        "examples": examples(model, validation, config.seed),
    }


def baselines_of(config: TrainConfig) -> list[str]:
    """The baselines, without the one that was trained itself.

    Where the log is cut in time, also what was popular just before the cut: where catalogues
    change it is hard to beat.
    """
    trained = (config.model, dict(config.settings))
    recent = ["popularity-7-days"] if isinstance(config.split, TimeSplit) else []
    return [name for name in (*BASELINES, *recent) if COMPARED_MODELS[name] != trained]


def fit_baseline(name: str, validation: Validation) -> Baseline:
    """Fit one of the compared models on the training events and rank the validation events.

    Like the trained model, it chooses on these events what its settings leave open.
    """
    kind, settings = COMPARED_MODELS[name]
    if kind == "ease":
        settings = {**settings, "most_gb": 1.0}  # beyond 9,000 items it takes minutes
    config = TrainConfig(kind, settings)
    started = time.monotonic()
    try:
        model = MODELS[kind].model(config.model_config(**validation.split.sizes()))
        assert isinstance(model, CountModel)
        fit_by_counting(model, validation.split, partial(validation.ndcg, model))
        seconds = time.monotonic() - started
        return Baseline(name, validation.ranking(model), seconds)
    # numpy and torch raise the last two where memory is not enough. A report may lack a row; it
    # must not cost the training.
    except (AttnrecError, ValueError, MemoryError, RuntimeError) as error:
        problem = error.problem if isinstance(error, DataError) else str(error) or repr(error)
        reason = f"{problem}. To train it alone: {_command(name)}"
        logger.warning("%s is not in the report: %s", name, reason)
        return Baseline(name, None, time.monotonic() - started, reason)


def _command(name: str) -> str:
    kind, settings = COMPARED_MODELS[name]
    options = (f" --set {key}={value_text(value)}" for key, value in settings.items())
    return f"attnrec-train --model {kind}{''.join(options)}"


def _compared(
    own: Ranking, baselines: Sequence[Baseline], validation: Validation
) -> dict[str, Any]:
    """The figures of all; in slices those of the run and of the best baseline."""
    held_out = validation.held_out
    masks = slice_masks(held_out, validation.split.catalogue)
    run: dict[str, Any] = validation.metrics(own).to_json()
    run["slices"] = slice_figures(own.ranks, held_out, masks)
    models = [_baseline_figures(baseline, own, validation) for baseline in baselines]
    best = best_of(models)
    for figures, baseline in zip(models, baselines, strict=True):
        if figures is best and baseline.ranking is not None:
            figures["slices"] = slice_figures(baseline.ranking.ranks, held_out, masks)
    return {"run": run, "traditional": models}


def _baseline_figures(baseline: Baseline, own: Ranking, validation: Validation) -> dict[str, Any]:
    """With the paired difference to the `own` ranking of the run."""
    if baseline.ranking is None:
        return {"model": baseline.name, "reason": baseline.reason}
    held_out = validation.held_out
    difference = ndcg_of_users(baseline.ranking, held_out) - ndcg_of_users(own, held_out)
    low, high = bootstrap_intervals({"difference": difference})["difference"]
    return {
        "model": baseline.name,
        **validation.metrics(baseline.ranking).to_json(),
        "ndcg@10_to_run": round(float(difference.mean()), 6),
        "ndcg@10_to_run_interval": [round(low, 6), round(high, 6)],
    }


def best_of(models: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The best by NDCG@10 of those that could be fitted."""
    fitted = [model for model in models if "reason" not in model]
    return max(fitted, key=lambda model: float(model["ndcg@10"]), default=None)

"""Everything a run report tells that training does not know by itself, as values for JSON."""

from collections.abc import Callable, Sequence
from typing import Any

from attnrec.train.evaluation.metrics import Ranking, metrics_of
from attnrec.train.evaluation.slices import slice_figures, slice_masks
from attnrec.train.evaluation.validation import Validation
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.models.base import RecommenderModel
from attnrec.train.report.baselines import (
    Baseline,
    baseline_figures,
    baselines_of,
    best_of,
    fit_baseline,
)
from attnrec.train.report.examples import examples

Reporting = Callable[[str, int, int], None]
"""Called with what is done now, steps done before it and steps in all."""


def report_figures(
    model: RecommenderModel,
    config: TrainConfig,
    validation: Validation,
    seconds: float | None,
    reporting: Reporting,
) -> dict[str, Any]:
    """The trained model beside traditional ones, in slices, with examples; validation alone.

    model: in eval mode; seconds: what its training took, None if that is not known.
    """
    names = baselines_of(config)
    n_steps = len(names) + 2
    reporting(f"asking {config.model}", 0, n_steps)
    own = validation.ranking(model)
    baselines = []
    for step, name in enumerate(names, start=1):
        reporting(f"fitting {name}", step, n_steps)
        baselines.append(fit_baseline(name, validation))
    reporting("comparing", n_steps - 1, n_steps)
    took = {"run": seconds, **{baseline.name: baseline.seconds for baseline in baselines}}
    return {
        **_compared(own, baselines, validation),
        "seconds": {name: time and round(time, 2) for name, time in took.items()},
        "examples": examples(model, validation, config.seed),
    }


def _compared(
    own: Ranking, baselines: Sequence[Baseline], validation: Validation
) -> dict[str, Any]:
    """The figures of all; in slices those of the run and of the best baseline."""
    questions, catalogue = validation.questions, validation.split.catalogue
    masks = slice_masks(questions, catalogue)
    run: dict[str, Any] = metrics_of(own, questions, catalogue.item_ids).to_json()
    run["slices"] = slice_figures(own.ranks, questions, masks)
    models = [baseline_figures(baseline, own, validation) for baseline in baselines]
    best = best_of(models)
    for figures, baseline in zip(models, baselines, strict=True):
        if figures is best and baseline.ranking is not None:
            figures["slices"] = slice_figures(baseline.ranking.ranks, questions, masks)
    return {"run": run, "traditional": models}

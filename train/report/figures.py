"""Everything a run report tells that training does not know by itself, as values for JSON."""

from collections.abc import Callable, Sequence
from typing import Any

from attnrec.train.evaluation.metrics import Ranking, metrics_of
from attnrec.train.evaluation.slices import slice_figures, slice_masks
from attnrec.train.evaluation.validation import Validation
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.models.base import RecommenderModel
from attnrec.train.report.baselines import (
    Contender,
    beside,
    best_of,
    contender_figures,
    fit_traditional,
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
    names = beside(config)
    n_steps = len(names) + 2
    reporting(f"asking {config.model}", 0, n_steps)
    own = validation.ranking(model)
    contenders = []
    for step, name in enumerate(names, start=1):
        reporting(f"fitting {name}", step, n_steps)
        contenders.append(fit_traditional(name, validation))
    reporting("comparing", n_steps - 1, n_steps)
    took = {"run": seconds, **{contender.name: contender.seconds for contender in contenders}}
    return {
        **_compared(own, contenders, validation),
        "seconds": {name: time and round(time, 2) for name, time in took.items()},
        "examples": examples(model, validation, config.seed),
    }


def _compared(
    own: Ranking, contenders: Sequence[Contender], validation: Validation
) -> dict[str, Any]:
    """The figures of all; in slices those of the run and of the best contender."""
    questions, catalogue = validation.questions, validation.split.catalogue
    masks = slice_masks(questions, catalogue)
    run: dict[str, Any] = metrics_of(own, questions, catalogue.item_ids).to_json()
    run["slices"] = slice_figures(own.ranks, questions, masks)
    models = [contender_figures(contender, own, validation) for contender in contenders]
    best = best_of(models)
    for figures, contender in zip(models, contenders, strict=True):
        if figures is best and contender.ranking is not None:
            figures["slices"] = slice_figures(contender.ranking.ranks, questions, masks)
    return {"run": run, "traditional": models}

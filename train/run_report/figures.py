"""Everything a run report tells that training does not know by itself, as values for JSON."""

from collections.abc import Callable
from typing import Any

from attnrec.train.config import TrainConfig
from attnrec.train.models.protocol import RecommenderModel
from attnrec.train.run_report.examples import examples
from attnrec.train.run_report.traditional import (
    beside,
    contender_figures,
    fit_traditional,
    ranking_figures,
)
from attnrec.train.slices import slice_masks
from attnrec.train.validation import Validation

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
    masks = slice_masks(validation.questions, validation.split.catalogue)
    models: list[dict[str, Any]] = []
    took: dict[str, float | None] = {"run": None if seconds is None else round(seconds, 2)}
    for step, name in enumerate(names, start=1):
        reporting(f"fitting {name}", step, n_steps)
        contender = fit_traditional(name, validation)
        models.append(contender_figures(contender, own, validation, masks))
        took[name] = round(contender.seconds, 2)
    reporting("picking examples", n_steps - 1, n_steps)
    return {
        "run": ranking_figures(own, validation, masks),
        "traditional": models,
        "seconds": took,
        "examples": examples(model, validation, config.seed),
    }

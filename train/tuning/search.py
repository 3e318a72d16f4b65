"""A search for settings: many trainings on one log, judged by validation, within a time.

The first trial is the recipe of the model. The rest vary what nobody gave (`space`), as Optuna
proposes (`study`), and are stopped when they are behind (`trials`). The study is kept beside the
run directory; at the end the best trial becomes the run, with its weights.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from attnrec.train.checks import check_kind
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.movielens_editions import with_known_columns
from attnrec.train.data.read_table import Source
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.report import DataReport
from attnrec.train.data.split import divide
from attnrec.train.evaluation.validation import Validation
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.device import torch_as_it_was
from attnrec.train.report.figures import Reporting, report_figures
from attnrec.train.run_files import training_alone
from attnrec.train.runs.run import Run
from attnrec.train.runs.target import check_target
from attnrec.train.runs.train import (
    CONFIG_REMEDY,
    read_log,
    report_page,
    training_identity,
)
from attnrec.train.tuning.space import (
    check_tuning,
)

if TYPE_CHECKING:
    from attnrec.train.tuning.study import TuningStudy
    from attnrec.train.tuning.trials import TuningProgress

logger = logging.getLogger(__name__)

_DEFAULT_CONFIG = TrainConfig()
_DEFAULT_RECIPE = DataRecipe()


def tune(
    source: Source | None = None,
    config: TrainConfig = _DEFAULT_CONFIG,
    *,
    minutes: float,
    items: Source | None = None,
    users: Source | None = None,
    recipe: DataRecipe = _DEFAULT_RECIPE,
    out: str | Path = "attnrec-run",
    progress: "TuningProgress | None" = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """Search for settings for so many minutes and keep the run of the best in `out`.

    Like `attnrec.train.train`, whose arguments these are: the test events are not looked at. What
    differs from the defaults of `TrainConfig` stays; its `max_minutes` is of each trial.
    resume: go on with an interrupted search with the same arguments; its minutes count, and
    `minutes` may be another number than before.
    `ValueError` for a model that has nothing to tune, or without the package optuna.
    """
    check_kind("config", config, TrainConfig, CONFIG_REMEDY)
    check_tuning(config, minutes)
    check_target(Path(out), resume=resume, tuning=True)
    recipe = with_known_columns(source, recipe)
    log, report = read_log(source, recipe, items=items, users=users)
    return tune_log(
        log, report, recipe, config, minutes=minutes, out=out,
        progress=progress, resume=resume, reporting=reporting,
    )  # fmt: skip


@torch_as_it_was()
def tune_log(
    log: Interactions,
    report: DataReport,
    recipe: DataRecipe,
    config: TrainConfig,
    *,
    minutes: float,
    out: str | Path,
    progress: "TuningProgress | None" = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """`tune` on a log that was read already."""
    check_kind("config", config, TrainConfig, CONFIG_REMEDY)
    check_tuning(config, minutes)
    check_target(Path(out), resume=resume, tuning=True)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    split = divide(log, config.split)
    identity = training_identity(config, recipe, split, {}) | {"settings": dict(config.settings)}
    validation = Validation(split, repeats=recipe.repeats)
    from attnrec.train.tuning.trials import Search  # optuna is an extra, and slow to import

    with training_alone(Path(out)):
        search = Search(config, split, validation, Path(out), identity, minutes, progress)
        if resume and not search.study.trials:
            logger.warning("%s: no search to resume, beginning one", search.study.directory)
        with _kept_until_saved(search.study):
            search.run()
            model, best_config, metrics = search.result()
            if reporting is not None:
                took = metrics.epochs[-1].seconds
                shown = report_figures(
                    model, validation.ranking(model), best_config, validation, took, reporting
                )
                metrics = replace(metrics, report=shown)
            run = Run(Path(out), best_config, recipe, report.to_json(), split, model, metrics)
            run.save(report_page(run))
    return run


@contextmanager
def _kept_until_saved(study: "TuningStudy") -> Iterator[None]:
    """For a block that searches and saves the run: then nothing of the search is left over."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = error.filename or str(study.directory)  # which disk is full?
        if not study.is_worth_keeping:
            study.remove()
            raise
        last = max(t.number for t in study.trials if t.outcome != "interrupted")
        error.add_note(
            f"the search is kept up to trial {last} in {study.directory}: "
            "the same command with `resume` goes on there"
        )
        raise
    study.remove()

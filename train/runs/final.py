"""The run that is shipped: the recipe and epochs of another one, on every event."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnrec.runtime import Recommender, RunError
from attnrec.runtime.files import MODEL_FILE
from attnrec.train.checks import check_kind
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.recipe import DataReport
from attnrec.train.data.tables import TableSource
from attnrec.train.evaluation.validation import Validation
from attnrec.train.fitting.checkpoint import checkpoints_until_saved
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.device import torch_as_it_was
from attnrec.train.fitting.loop import Progress
from attnrec.train.fitting.pace import Pace
from attnrec.train.fitting.run_metrics import RunMetrics
from attnrec.train.models import model_kind
from attnrec.train.report.figures import Reporting, report_figures
from attnrec.train.run_files import is_first_process
from attnrec.train.runs.going_on import begin_from, check_log
from attnrec.train.runs.run import Run
from attnrec.train.runs.target import check_target
from attnrec.train.runs.train import (
    fit_model,
    new_model,
    read_log,
    report_page,
    training_identity,
)
from attnrec.train.splits.split import all_events

logger = logging.getLogger(__name__)


def train_final(
    held_out_run: Run,
    source: TableSource | None = None,
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
    out: str | Path,
    progress: Progress | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """The same recipe and number of epochs on all events, to be shipped.

    source: a later log of the same kind, with its tables; None: that of `held_out_run`. Weights
    begin from those of a run that itself began from another one (`init_from`), else anew.
    Nothing is left to measure it with, so it keeps the figures of `held_out_run`, in its report
    as well. reporting: as for `train`; called only where that run has no report.
    """
    check_held_out(held_out_run)
    check_target(Path(out), resume=resume)
    read = None
    if source is not None:
        recipe = held_out_run.recipe
        read = read_log(source, recipe, items=items, users=users, like=held_out_run)
    return train_final_log(
        held_out_run, read, out=out, progress=progress, resume=resume, reporting=reporting
    )


def check_held_out(run: Run) -> None:
    """`ValueError` for what is no run, or a final one."""
    check_kind("held_out_run", run, Run, "Run.load(directory) reads one")
    if run.split.final:
        raise ValueError(f"{run.directory} is a final run already")


@torch_as_it_was()
def train_final_log(
    held_out_run: Run,
    read: tuple[Interactions, DataReport] | None,
    *,
    out: str | Path,
    progress: Progress | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """`train_final` on a log that was read already; None: that of the run."""
    check_held_out(held_out_run)
    check_target(Path(out), resume=resume)
    log, data = held_out_run.split.interactions, held_out_run.data
    if read is not None:
        log, data = read[0], read[1].to_json()
        check_log(held_out_run, log, data["time_unit"], None)
    kept = _kept_metrics(held_out_run, of_log=read is None)
    config = held_out_run.config
    split = all_events(log)
    # The settings of the model, not of the command: validation may have chosen some of them.
    settings = dict(vars(held_out_run.model.config))
    settings |= {name: n for name, n in split.sizes().items() if name in settings}
    model = new_model(config, model_kind(config.model).config(**settings))
    goes_on = held_out_run if kept.init_from is not None else None
    if goes_on is not None:
        kept = replace(kept, init_from=begin_from(model, goes_on, split))
    unlimited, recipe = replace(config, max_minutes=None), held_out_run.recipe
    identity = training_identity(config, recipe, split, settings, goes_on)
    identity["best_epoch"] = held_out_run.metrics.best_epoch
    pace = _pace_again(unlimited, held_out_run.metrics)
    with checkpoints_until_saved(Path(out), identity, resume=resume) as checkpoints:
        records = fit_model(model, split, unlimited, None, progress, checkpoints, pace)
        metrics = replace(kept, epochs=records)
        if reporting is not None and is_first_process():
            metrics = replace(metrics, report=_report_of(held_out_run, reporting))
        run = Run(Path(out), config, recipe, data, split, model, metrics)
        run.save(report_page(run))
    return run


def _pace_again(config: TrainConfig, metrics: RunMetrics) -> Pace:
    """As many epochs as the best one had, with the learning rates that it had."""
    if metrics.best_epoch is None:
        return Pace(config)
    best, last = metrics.epochs[metrics.best_epoch - 1], metrics.epochs[-1]
    n_epochs = last.epoch - 1 + last.share
    # Where the time was over, the learning rate fell over it, not over all epochs.
    is_cut = last.epoch - best.epoch < config.schedule.patience
    return Pace(
        config, stop_after=best.epoch - 1 + best.share, length=n_epochs if is_cut else None
    )


def _kept_metrics(run: Run, *, of_log: bool) -> RunMetrics:
    """The figures of the held-out run, marked as such; without its report.

    of_log: whether they are of the same log.
    """
    before = "before the held-out events were added to the training"
    return replace(
        run.metrics,
        of=f"the same recipe {before if of_log else 'on an earlier log'}",
        test=_test_figures(run),
        held_out_epochs=run.metrics.epochs,
        report=None,
    )


def _report_of(run: Run, reporting: Reporting) -> Mapping[str, Any]:
    """The figures of its report, made now where it has none."""
    if run.metrics.report is not None:
        return run.metrics.report
    validation = Validation(run.split, repeats=run.recipe.repeats)
    epochs = run.metrics.epochs
    seconds = epochs[-1].seconds if epochs else None
    ranking = validation.ranking(run.model)
    return report_figures(run.model, ranking, run.config, validation, seconds, reporting)


def _test_figures(run: Run) -> Mapping[str, Any] | None:
    """Test figures of the file that `run` was exported to, if it was: training makes none."""
    file = run.directory / MODEL_FILE
    if not file.is_file():
        logger.warning("%s was not exported, so there are no test figures to keep", run.directory)
        return None
    info = Recommender.load(file).info
    is_of_run = info.config == vars(run.model.config) and not info.final
    if not is_of_run or info.data["fingerprint"] != run.data["fingerprint"]:
        raise RunError(f"{file} is of another run; export {run.directory} again")
    figures: Mapping[str, Any] = info.metrics["test"]
    return figures

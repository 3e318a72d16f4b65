"""From a log to a run: read, split, fit, keep."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from attnrec.runtime import __version__
from attnrec.runtime.errors import DataError
from attnrec.train.checks import check_kind
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.online_retail import online_retail
from attnrec.train.data.recipe import DataRecipe, DataReport
from attnrec.train.data.sources import with_known_columns
from attnrec.train.data.tables import TableSource
from attnrec.train.evaluation.validation import Validation
from attnrec.train.fitting.checkpoint import Checkpoints, checkpoints_until_saved
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.device import torch_as_it_was
from attnrec.train.fitting.distributed import n_processes
from attnrec.train.fitting.loop import Progress, fit_by_gradient
from attnrec.train.fitting.pace import Pace
from attnrec.train.fitting.run_metrics import RunMetrics
from attnrec.train.fitting.state import EpochRecord, best_epoch
from attnrec.train.models import model_kind
from attnrec.train.models.base import (
    CountModel,
    HistoryConfig,
    LearnedModel,
    RecommenderModel,
    check_inputs,
    fit_by_counting,
)
from attnrec.train.report.figures import Reporting, report_figures
from attnrec.train.report.page import run_report
from attnrec.train.run_files import is_first_process
from attnrec.train.runs.going_on import (
    begin_from,
    check_going_on,
    check_log,
    identity_of,
    load_like,
)
from attnrec.train.runs.run import Run
from attnrec.train.runs.target import check_target
from attnrec.train.splits.baskets import MANY, n_last_session_users, same_time_share
from attnrec.train.splits.config import TimeSplit
from attnrec.train.splits.split import Split, divide

logger = logging.getLogger(__name__)

_DEFAULT_CONFIG = TrainConfig()
CONFIG_REMEDY = "write TrainConfig(model=NAME)"
"""The remedy where the name of a model is given as configuration."""
_DEFAULT_RECIPE = DataRecipe()


def read_log(
    source: TableSource | None,
    recipe: DataRecipe = _DEFAULT_RECIPE,
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
    like: Run | None = None,
) -> tuple[Interactions, DataReport]:
    """Read a log, or the embedded Online Retail log (with its titles) where `source` is None.

    like: a run with this recipe, whose log had the same columns and ids.
    """
    if source is None:
        if items is not None:
            raise ValueError("the embedded log has its own items table: leave `items` out")
        source, titles = online_retail()
        items = titles if recipe.title_col else None
    if like is not None:
        return load_like(like, source, items=items, users=users)
    return load_interactions(source, recipe, items=items, users=users)


def train(
    source: TableSource | None = None,
    config: TrainConfig = _DEFAULT_CONFIG,
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
    recipe: DataRecipe = _DEFAULT_RECIPE,
    init_from: Run | None = None,
    out: str | Path = "attnrec-run",
    progress: Progress | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """Train on a log and keep the run in the directory `out`; the test events are not looked at.

    init_from: a run whose weights the training begins with, for a log that goes on after it, with
    `config` as `init_from.config_to_go_on()` and a `TimeSplit`, and the same recipe.
    resume: go on where an interrupted training with the same arguments stopped, if there is one;
    with one thread and the same torch to the same weights, bit for bit, as without interruption.
    reporting: called at each step of the run report, for which baselines are fitted and compared;
    None: no report.
    Raises `DataError` for a log that cannot be used, `RunError` for a target that cannot be.
    """
    check_kind("config", config, TrainConfig, CONFIG_REMEDY)
    check_target(Path(out), resume=resume)
    recipe = with_known_columns(source, recipe)
    if init_from is not None:
        check_kind("init_from", init_from, Run, "Run.load(directory) reads one")
        check_going_on(init_from, config, recipe, Path(out))
    log, report = read_log(source, recipe, items=items, users=users, like=init_from)
    return train_log(
        log,
        report,
        recipe,
        config,
        init_from=init_from,
        out=out,
        progress=progress,
        resume=resume,
        reporting=reporting,
    )


@torch_as_it_was()
def train_log(
    log: Interactions,
    report: DataReport,
    recipe: DataRecipe,
    config: TrainConfig,
    *,
    init_from: Run | None = None,
    out: str | Path,
    progress: Progress | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """`train` on a log that was read already."""
    check_kind("config", config, TrainConfig, CONFIG_REMEDY)
    check_target(Path(out), resume=resume)
    if init_from is not None and isinstance(config.split, TimeSplit):
        check_log(init_from, log, report.time_unit, config.split)
    split = divide(log, config.split, time_unit=report.time_unit)
    config, reasons = config.with_recipe(split)
    model = new_model(config, config.model_config(**split.sizes()))
    validation = Validation(split, repeats=recipe.repeats)
    check_times_of_settings(model.config, split, report)
    begun = None if init_from is None else begin_from(model, init_from, split)
    identity = training_identity(config, recipe, split, vars(model.config), init_from)
    with checkpoints_until_saved(Path(out), identity, resume=resume) as checkpoints:
        started = time.monotonic()
        records = fit_model(model, split, config, validation, progress, checkpoints)
        seconds = records[-1].seconds if records else time.monotonic() - started
        ranking = validation.ranking(model)
        valid = validation.metrics(ranking).to_json()
        metrics = held_out_metrics(split, records, valid, {**reasons, **model.reasons})
        metrics = replace(metrics, init_from=begun, **split.in_time(report.time_unit))
        if reporting is not None and is_first_process():
            shown = report_figures(model, ranking, config, validation, seconds, reporting)
            metrics = replace(metrics, report=shown)
        run = Run(Path(out), config, recipe, report.to_json(), split, model, metrics)
        run.save(report_page(run))
    return run


def check_times_of_settings(config: HistoryConfig, split: Split, report: DataReport) -> None:
    """`DataError` for a setting that needs times, or a cut in time, where there is none."""
    for name in ("last_days", "trend"):
        if getattr(config, name, None) and report.time_unit == "order":
            raise DataError("the log has an order and no times", f"leave the setting `{name}` out")
    chosen = [getattr(config, f"trend_{name}", None) for name in ("weight", "half_life")]
    if getattr(config, "trend", False) and None in chosen and split.name != "time":
        raise DataError(
            f"what a trend is worth shows after a cut in time, and not with split {split.name}",
            "cut with `split=time`, or give `trend_weight` and `trend_half_life`",
        )


def report_page(run: Run) -> str | None:
    """The HTML report about a run, where its metrics have the figures for one."""
    if run.metrics.report is None:
        return None
    return run_report(run.config, run.model.config, run.recipe, run.data, run.metrics)


def training_identity(
    config: TrainConfig,
    recipe: DataRecipe,
    split: Split,
    settings: Mapping[str, Any],
    init_from: Run | None = None,
) -> dict[str, Any]:
    """What decides the weights, by name. Not `max_minutes`: a resumed training may get more.

    settings: those of the model; init_from: the run that it begins from.
    """
    own = {"settings", "max_minutes", "split"}
    in_time = vars(config.split) if isinstance(config.split, TimeSplit) else {}
    return {
        "attnrec": __version__,
        "final": split.final,
        "split": "time" if in_time else config.split,
        **{f"split.{name}": value for name, value in in_time.items()},
        **{f"recipe.{name}": value for name, value in recipe.to_json().items()},
        "data": split.interactions.fingerprint(extras=True),
        "init_from": identity_of(init_from),
        **{name: value for name, value in config.to_json().items() if name not in own},
        **{f"settings.{name}": value for name, value in settings.items()},
        "threads": torch.get_num_threads(),
        "processes": n_processes(),
        "torch": torch.__version__,
    }


def held_out_metrics(
    split: Split,
    records: Sequence[EpochRecord],
    valid: Mapping[str, Any],
    reasons: Mapping[str, str],
) -> RunMetrics:
    """Metrics of a run that is not final; valid: figures of the model as it is kept."""
    share, n_users = None, None
    if split.name == "leave-one-out":  # the targets of a session have one time by definition
        share = round(same_time_share(split.interactions), 4)
        n_users = n_last_session_users(split.interactions) if share > MANY else None
    assert split.name is not None  # it was divided
    return RunMetrics(
        protocol=split.protocol,
        split=split.name,
        same_time_targets=share,
        last_session_users=n_users,
        valid=valid,
        best_epoch=best_epoch(records) if records else None,
        epochs=records,
        recipe=reasons,
    )


def new_model(config: TrainConfig, model_config: HistoryConfig) -> RecommenderModel:
    """A model before its training; from here on the seed decides."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    return model_kind(config.model).model(model_config)


def fit_model(
    model: RecommenderModel,
    split: Split,
    config: TrainConfig,
    validation: Validation | None,
    progress: Progress | None,
    checkpoints: Checkpoints | None,
    pace: Pace | None = None,
) -> list[EpochRecord]:
    """Fit in place; models with a closed form have no epochs to record."""
    check_inputs(model, split)
    split.check_ids(model.inputs)
    if isinstance(model, LearnedModel):
        validate = None if validation is None else partial(validation.epoch_metrics, model)
        seen_ndcg = None if validation is None else partial(validation.seen_ndcg, model)

        def pace_now() -> Pace:
            if pace is not None or validation is None or config.max_minutes is None:
                return pace or Pace(config)
            return Pace(config, expected=validation.plan(model.eval(), config.max_minutes))

        records = fit_by_gradient(
            model, split, config, validate, progress, pace_now, checkpoints, seen_ndcg
        )
        if validation is not None:
            model.tune(validation.choosing(model))
        model.cpu()  # where the rest is done, and what is kept and exported comes from
        return records
    assert isinstance(model, CountModel)
    ndcg = None if validation is None else partial(validation.ndcg, model)
    fit_by_counting(model, split, ndcg)
    return []

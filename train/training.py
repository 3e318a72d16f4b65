"""From a log to a run: read, split, fit, keep."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from attnrec.runtime import Recommender, RunError, __version__
from attnrec.runtime.files import MODEL_FILE
from attnrec.train.baskets import MANY
from attnrec.train.checkpoint import Checkpoints, checkpoints_until_saved
from attnrec.train.checks import check_kind
from attnrec.train.config import TrainConfig
from attnrec.train.counting import fit_by_counting
from attnrec.train.datasets import online_retail
from attnrec.train.device import torch_as_it_was
from attnrec.train.distributed import n_processes
from attnrec.train.exported_ids import check_ids
from attnrec.train.interactions import Interactions
from attnrec.train.loading import load_interactions
from attnrec.train.loop import Progress, fit_by_gradient
from attnrec.train.models import MODELS
from attnrec.train.models.protocol import (
    CountModel,
    HistoryConfig,
    LearnedModel,
    RecommenderModel,
    check_inputs,
)
from attnrec.train.movielens_editions import with_known_columns
from attnrec.train.protocols import PROTOCOLS
from attnrec.train.read_table import Source
from attnrec.train.recipe import DataRecipe
from attnrec.train.report import DataReport
from attnrec.train.run import Run
from attnrec.train.run_directory import check_target
from attnrec.train.run_report.figures import Reporting, report_figures
from attnrec.train.sources import reads_items
from attnrec.train.split import Split, all_events, divide, n_last_session_users, same_time_share
from attnrec.train.training_state import EpochRecord, best_epoch
from attnrec.train.validation import Validation

logger = logging.getLogger(__name__)

_DEFAULT_CONFIG = TrainConfig()
CONFIG_REMEDY = "write TrainConfig(model=NAME)"
"""What a caller is told who gives the name of a model."""
_DEFAULT_RECIPE = DataRecipe()


def read_log(
    source: Source | None,
    recipe: DataRecipe = _DEFAULT_RECIPE,
    *,
    items: Source | None = None,
    users: Source | None = None,
) -> tuple[Interactions, DataReport]:
    """Read a log, or the embedded Online Retail log (with its titles) where `source` is None."""
    if source is None:
        if items is not None:
            raise ValueError("the embedded log has its own items table: leave `items` out")
        source, titles = online_retail()
        items = titles if reads_items(recipe) else None
    return load_interactions(source, recipe, items=items, users=users)


def train(
    source: Source | None = None,
    config: TrainConfig = _DEFAULT_CONFIG,
    *,
    items: Source | None = None,
    users: Source | None = None,
    recipe: DataRecipe = _DEFAULT_RECIPE,
    out: str | Path = "attnrec-run",
    progress: Progress | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """Train on a log and keep the run in the directory `out`; the test events are not looked at.

    resume: go on where an interrupted training with the same arguments stopped, if there is one;
    with one thread and the same torch to the same weights, bit for bit, as without interruption.
    reporting: asks for the run report, for which traditional models are fitted and compared, and
    is told of each step; None: no report.
    Raises `DataError` for a log that cannot be used, `RunError` for a target that cannot be.
    """
    check_kind("config", config, TrainConfig, CONFIG_REMEDY)
    check_target(Path(out), resume=resume)
    recipe = with_known_columns(source, recipe)
    log, report = read_log(source, recipe, items=items, users=users)
    return train_log(
        log,
        report,
        recipe,
        config,
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
    out: str | Path,
    progress: Progress | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """`train` on a log that was read already."""
    check_kind("config", config, TrainConfig, CONFIG_REMEDY)
    check_target(Path(out), resume=resume)
    split = divide(log, config.split)
    config, reasons = config.with_recipe(split)
    model = new_model(config, config.model_config(**split.sizes()))
    validation = Validation(split, repeats=recipe.repeats)
    identity = training_identity(config, recipe, split, vars(model.config))
    with checkpoints_until_saved(Path(out), identity, resume=resume) as checkpoints:
        started = time.monotonic()
        records = fit_model(model, split, config, validation, progress, checkpoints)
        seconds = records[-1].seconds if records else time.monotonic() - started
        best = records[best_epoch(records) - 1] if records else None
        tuned = model.config != config.model_config(**split.sizes())
        valid = best.valid if best and not tuned else validation.metrics(model).to_json()
        metrics = held_out_metrics(split, config, records, valid, reasons)
        if reporting is not None:
            metrics["report"] = report_figures(model, config, validation, seconds, reporting)
        run = Run(Path(out), config, recipe, report.to_json(), split, model, metrics)
        run.save()
    return run


@torch_as_it_was()
def train_final(
    held_out_run: Run,
    *,
    out: str | Path,
    progress: Progress | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """The same recipe and number of epochs on all events, to be shipped.

    Nothing is left to measure it with, so it keeps the figures of `held_out_run`, in its report
    as well. reporting: as for `train`; told of steps only where that run has no report.
    """
    check_kind("held_out_run", held_out_run, Run, "Run.load(directory) reads one")
    check_target(Path(out), resume=resume)
    if held_out_run.split.final:
        raise ValueError(f"{held_out_run.directory} is a final run already")
    if "quantize_aware" in held_out_run.metrics:
        raise ValueError(
            f"{held_out_run.directory} was rounded after its training, which a final run "
            "would not repeat: make the run that it came from final, and round that"
        )
    test_figures = _test_figures(held_out_run)
    config = held_out_run.config
    split = all_events(held_out_run.split.interactions)
    # The settings of the model, not of the command: validation may have chosen some of them.
    settings = dict(vars(held_out_run.model.config))
    settings |= {name: n for name, n in split.sizes().items() if name in settings}
    model = new_model(config, MODELS[config.model].config(**settings))
    epochs = held_out_run.metrics["best_epoch"]
    unlimited, recipe = replace(config, max_minutes=None), held_out_run.recipe
    identity = training_identity(config, recipe, split, settings) | {"best_epoch": epochs}
    with checkpoints_until_saved(Path(out), identity, resume=resume) as checkpoints:
        records = fit_model(model, split, unlimited, None, progress, checkpoints, epochs)
        metrics = {
            **{name: told for name, told in held_out_run.metrics.items() if name != "report"},
            "of": "the same recipe before the held-out events were added to the training",
            **test_figures,
            "epochs": [record.to_json() for record in records],
            "held_out_epochs": held_out_run.metrics["epochs"],
        }
        if reporting is not None:
            metrics["report"] = _report_of(held_out_run, reporting)
        run = Run(Path(out), config, recipe, held_out_run.data, split, model, metrics)
        run.save()
    return run


def _report_of(run: Run, reporting: Reporting) -> dict[str, Any]:
    """The figures of its report, made now where it has none."""
    kept: dict[str, Any] | None = run.metrics.get("report")
    if kept is not None:
        return kept
    validation = Validation(run.split, repeats=run.recipe.repeats)
    epochs = run.metrics["epochs"]
    seconds = epochs[-1]["seconds"] if epochs else None
    return report_figures(run.model, run.config, validation, seconds, reporting)


def training_identity(
    config: TrainConfig, recipe: DataRecipe, split: Split, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What decides the weights, by name. Not `max_minutes`: a resumed training may get more.

    settings: those of the model.
    """
    own = {"settings", "max_minutes"}
    return {
        "attnrec": __version__,
        "final": split.final,
        **{f"recipe.{name}": value for name, value in recipe.to_json().items()},
        "data": split.interactions.fingerprint(extras=True),
        **{name: value for name, value in config.to_json().items() if name not in own},
        **{f"settings.{name}": value for name, value in settings.items()},
        "threads": torch.get_num_threads(),
        "processes": n_processes(),
        "torch": torch.__version__,
    }


def held_out_metrics(
    split: Split,
    config: TrainConfig,
    records: Sequence[EpochRecord],
    valid: Mapping[str, Any] | None,
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    """What a run says of itself; valid: figures of the model as it is kept."""
    return {
        "protocol": PROTOCOLS[config.split],
        "split": config.split,
        **_same_time(split),
        "valid": valid,
        "best_epoch": best_epoch(records) if records else None,
        "epochs": [record.to_json() for record in records],
        **({"recipe": reasons} if reasons else {}),
    }


def _same_time(split: Split) -> dict[str, float]:
    if split.name != "leave-one-out":
        return {}  # a session is asked for as a whole
    share = same_time_share(split.interactions)
    asked = (
        {"last_session_users": n_last_session_users(split.interactions)} if share > MANY else {}
    )
    return {"same_time_targets": round(share, 4), **asked}


def _test_figures(run: Run) -> dict[str, Any]:
    """Test figures of the file that `run` was exported to, if it was: training makes none."""
    file = run.directory / MODEL_FILE
    if not file.is_file():
        logger.warning("%s was not exported, so there are no test figures to keep", run.directory)
        return {}
    info = Recommender.load(file).info
    is_of_run = info.config == vars(run.model.config) and not info.final
    if not is_of_run or info.data["fingerprint"] != run.data["fingerprint"]:
        raise RunError(f"{file} is of another run; export {run.directory} again")
    return {"test": info.metrics["test"]}


def new_model(config: TrainConfig, model_config: HistoryConfig) -> RecommenderModel:
    """A model before its training; from here on the seed decides."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    return MODELS[config.model].model(model_config)


def fit_model(
    model: RecommenderModel,
    split: Split,
    config: TrainConfig,
    validation: Validation | None,
    progress: Progress | None,
    checkpoints: Checkpoints | None,
    stop_after: int | None = None,
) -> list[EpochRecord]:
    """Fit in place; models with a closed form have no epochs to record."""
    check_inputs(model, split)
    check_ids(split, model.inputs)
    if isinstance(model, LearnedModel):
        validate = None if validation is None else partial(validation.metrics, model)
        seen_ndcg = None if validation is None else partial(validation.seen_ndcg, model)
        records = fit_by_gradient(
            model, split, config, validate, progress, stop_after, checkpoints, seen_ndcg
        )
        if validation is not None:
            model.tune(partial(validation.choosing_ndcg, model))
        model.cpu()  # where the rest is done, and what is kept and exported comes from
        return records
    assert isinstance(model, CountModel)
    ndcg = None if validation is None else partial(validation.ndcg, model)
    fit_by_counting(model, split, ndcg)
    return []

"""A search for settings: many trainings on one log, judged by validation, within a time.

The first trial is the recipe of the model. The rest vary what was not given (`space`), as Optuna
proposes (`study`), and are stopped when they are behind. The study is kept beside the run
directory; at the end the best trial becomes the run, with its weights.
"""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from attnrec.train.checks import check_kind
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.recipe import DataRecipe, DataReport
from attnrec.train.data.sources import with_known_columns
from attnrec.train.data.tables import TableSource
from attnrec.train.evaluation.metrics import bootstrap_intervals
from attnrec.train.evaluation.validation import Validation, ndcg_of_users
from attnrec.train.fitting.config import TrainConfig, value_text
from attnrec.train.fitting.device import torch_as_it_was
from attnrec.train.fitting.run_metrics import RunMetrics
from attnrec.train.fitting.state import EpochRecord, best_epoch
from attnrec.train.models import model_kind
from attnrec.train.models.base import RecommenderModel
from attnrec.train.report.figures import Reporting, report_figures
from attnrec.train.run_files import training_alone
from attnrec.train.runs.run import Run
from attnrec.train.runs.target import check_target
from attnrec.train.runs.train import (
    CONFIG_REMEDY,
    fit_model,
    held_out_metrics,
    new_model,
    read_log,
    report_page,
    training_identity,
)
from attnrec.train.splits.split import Split, divide
from attnrec.train.tuning.space import (
    check_tuning,
    given_by_hand,
    search_space,
    values_of,
    with_values,
)

if TYPE_CHECKING:  # optuna is an extra, and slow to import
    import optuna

    from attnrec.train.tuning.study import Learned, Trial

logger = logging.getLogger(__name__)

_DEFAULT_CONFIG = TrainConfig()
_DEFAULT_RECIPE = DataRecipe()
_LEAST_SHARE = 0.25  # of the time of the recipe: with less left, no trial is begun
_MOST_FAILURES = 5  # in a row: then the search is over


class TuningProgress(Protocol):
    """Follows a search."""

    def on_move(self, number: int, share: float, seconds: float) -> None:
        """Trial `number` is done to that share of its epochs; seconds: of the search so far."""

    def on_trial(self, trial: "Trial", best: "Trial | None") -> None:
        """After each trial; the best so far."""


def tune(
    source: TableSource | None = None,
    config: TrainConfig = _DEFAULT_CONFIG,
    *,
    minutes: float,
    items: TableSource | None = None,
    users: TableSource | None = None,
    recipe: DataRecipe = _DEFAULT_RECIPE,
    out: str | Path = "attnrec-run",
    progress: TuningProgress | None = None,
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
    progress: TuningProgress | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """`tune` on a log that was read already, with arguments that were checked."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    split = divide(log, config.split, time_unit=report.time_unit)
    identity = training_identity(config, recipe, split, {}) | {"settings": dict(config.settings)}
    validation = Validation(split, repeats=recipe.repeats)
    with training_alone(Path(out)):
        search = _Search(config, validation, Path(out), identity, minutes, progress)
        if resume and not search.study.trials:
            logger.warning("%s: no search to resume, beginning one", search.study.directory)
        with search.study.kept_until_saved():
            search.run()
            model, best_config, metrics = search.result()
            metrics = replace(metrics, **split.in_time(report.time_unit))
            if reporting is not None:
                took = metrics.epochs[-1].seconds
                shown = report_figures(
                    model, validation.ranking(model), best_config, validation, took, reporting
                )
                metrics = replace(metrics, report=shown)
            run = Run(Path(out), best_config, recipe, report.to_json(), split, model, metrics)
            run.save(report_page(run))
    return run


class _Stopped(Exception):
    """A trial is behind the others, or has no time left."""


class _Search:
    """One search: what it varies, what is over, and how much time is left."""

    def __init__(
        self,
        config: TrainConfig,
        validation: Validation,
        out: Path,
        identity: Mapping[str, Any],
        minutes: float,
        progress: TuningProgress | None,
    ) -> None:
        from attnrec.train.tuning.study import TuningStudy

        self._split: Split = validation.split
        self._validation, self.progress = validation, progress
        self.config, self._reasons = config.with_recipe(self._split)
        self._recipe = values_of(self.config, self.config.model_config(**self._split.sizes()))
        self._space = search_space(self._recipe, given_by_hand(config))
        epochs = self.config.schedule.epochs
        self.study = TuningStudy(out, identity, epochs=epochs, seed=config.seed)
        self.most_seconds = minutes * 60
        self._before, self._started = self.study.seconds, time.monotonic()

    def seconds(self) -> float:
        """Time spent on the search so far."""
        return self._before + time.monotonic() - self._started

    def run(self) -> None:
        """Make trials while there is time."""
        n_failed = 0  # in a row
        while n_failed < _MOST_FAILURES and not self._is_over():
            self._make_trial()
            trial = self.study.trials[-1]
            n_failed = n_failed + 1 if trial.outcome == "failed" else 0
            if self.progress is not None:
                self.progress.on_trial(trial, self.study.best)
        if n_failed == _MOST_FAILURES:
            logger.warning("%d trials in a row failed: the search is over", n_failed)

    def _is_over(self) -> bool:
        trials = self.study.trials
        return bool(trials) and self._left(trials[0]) < _LEAST_SHARE * trials[0].seconds

    def _left(self, recipe: "Trial") -> float:
        """Seconds for a trial, less those of an epoch: a training ends after a whole one."""
        return self.most_seconds - self.seconds() - recipe.seconds / len(recipe.curve)

    def _make_trial(self) -> None:
        trial, values = self.study.ask(self._space, self._recipe)
        began, watcher = self.seconds(), _Watcher(self, trial)
        known: dict[str, Any] = {"outcome": "interrupted"}
        learned = None
        try:
            config = with_values(self.config, values)
            learned, is_cut = self._train(trial.number, config, watcher)
            ndcg = learned.facts["valid"]["ndcg@10"]
            known = {"outcome": "cut short" if is_cut else "done", "ndcg": ndcg}
        except _Stopped:
            known = {"outcome": "stopped"}
        # The first two are how torch and numpy report too little memory.
        except (RuntimeError, MemoryError, ValueError) as error:
            if trial.number == 0:
                raise  # so would a training without a search
            known = {"outcome": "failed", "reason": str(error) or repr(error)}
            logger.warning("trial %d failed: %s", trial.number, known["reason"])
        finally:
            after = self.seconds()
            known |= {"seconds": round(after - began, 2), "after": round(after, 2)}
            self.study.end(trial, known, learned)

    def _train(
        self, number: int, config: TrainConfig, watcher: "_Watcher"
    ) -> "tuple[Learned, bool]":
        """What a trial has learned, and whether it ended before its time."""
        from attnrec.train.tuning.study import Learned

        left = self._left(self.study.trials[0]) if number else self.most_seconds - self.seconds()
        left_minutes = max(left / 60, 1e-9)  # a limit of 0 is none
        limited = replace(config, max_minutes=min(left_minutes, config.max_minutes or math.inf))
        model = new_model(config, config.model_config(**self._split.sizes()))
        records = fit_model(model, self._split, limited, self._validation, watcher, None)
        last = records[-1]
        is_shorter = config.max_minutes is None or left_minutes < config.max_minutes
        is_patient = last.epoch - best_epoch(records) < config.schedule.patience
        is_whole = last.epoch - 1 + last.share >= config.schedule.epochs
        is_cut = is_shorter and is_patient and not is_whole
        ranking = self._validation.ranking(model)
        held_out = self._validation.held_out
        facts = {
            "model_config": vars(model.config),
            "valid": self._validation.metrics(ranking).to_json(),
            "epochs": [record.to_json() for record in records],
        }
        gains = torch.from_numpy(ndcg_of_users(ranking, held_out))
        return Learned(model.state_dict(), facts, gains), is_cut

    def result(self) -> tuple[RecommenderModel, TrainConfig, RunMetrics]:
        """Model, configuration and metrics of the best trial."""
        best, (learned, recipe_gains) = self.study.best, self.study.learned()
        assert best is not None  # the recipe counts, or has raised
        facts, gains = learned.facts, (learned.gains - recipe_gains).numpy()
        config = with_values(self.config, best.values)
        kind = model_kind(config.model)
        model = kind.model(kind.config(**facts["model_config"]))
        model.load_state_dict(learned.weights)
        records = [EpochRecord(**record) for record in facts["epochs"]]
        reasons = self._reasons | {
            name: f"best of a search of {len(self.study.trials)} trials; the recipe gives "
            f"{value_text(self._recipe[name])}"
            for name, value in best.values.items()
            if value != self._recipe[name]
        }
        metrics = held_out_metrics(self._split, records, facts["valid"], reasons)
        low, high = bootstrap_intervals({"gain": gains})["gain"]
        tuning = {
            "minutes": round(self.most_seconds / 60, 2),
            "gain": round(float(gains.mean()), 6),
            "gain_interval": [round(low, 6), round(high, 6)],
            "recipe": {name: self._recipe[name] for name in self._space},
            **self.study.summary(),
        }
        return model.eval(), config, replace(metrics, tuning=tuning)


class _Watcher:
    """Follows a training, and ends it when it is behind the others, or out of time."""

    def __init__(self, search: _Search, trial: "optuna.Trial") -> None:
        self._search, self._trial = search, trial
        self._n_epochs = 1

    def on_start(self, n_epochs: int) -> None:
        self._n_epochs = n_epochs

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        number, seconds = self._trial.number, self._search.seconds()
        if number and seconds > self._search.most_seconds:
            raise _Stopped
        if self._search.progress is not None:
            share = (epoch - 1 + step / n_steps) / self._n_epochs
            self._search.progress.on_move(number, share, seconds)

    def on_epoch(self, record: EpochRecord) -> None:
        assert record.valid is not None
        self._trial.report(record.valid["ndcg@10"], record.epoch)
        # Behind the median of the others at that epoch; the recipe is finished whatever it is.
        if self._trial.number > 0 and self._trial.should_prune():
            raise _Stopped

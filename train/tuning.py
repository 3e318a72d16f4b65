"""A search for settings: many trainings on one log, judged by validation, within a time.

The first trial is the recipe of the model. The rest vary what nobody gave (`tuning_space`), as a
sampler proposes (`tuning_study`), and are stopped when they are behind. What is over is kept
beside the run directory (`tuning_store`); at the end the best becomes the run, with its weights.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch

from attnrec.train.checks import check_number
from attnrec.train.config import TrainConfig
from attnrec.train.evaluation import metrics_of
from attnrec.train.interactions import Interactions
from attnrec.train.models import MODELS
from attnrec.train.models.protocol import LearnedModel, RecommenderModel
from attnrec.train.movielens import with_known_columns
from attnrec.train.read_table import Source
from attnrec.train.recipe import DataRecipe
from attnrec.train.report import DataReport
from attnrec.train.run import Run, check_target
from attnrec.train.run_report.figures import Reporting, report_figures
from attnrec.train.run_report.settings import value_text
from attnrec.train.split import Split, divide
from attnrec.train.training import (
    fit_model,
    held_out_metrics,
    new_model,
    read_log,
    training_identity,
)
from attnrec.train.training_state import EpochRecord
from attnrec.train.tuning_space import given_by_hand, search_space, values_of, with_values
from attnrec.train.tuning_store import Kept, Outcome, Trial, TuningStore
from attnrec.train.tuning_summary import tuning_summary
from attnrec.train.validation import Validation, ndcg_of_users

logger = logging.getLogger(__name__)

_DEFAULT_CONFIG = TrainConfig()
_DEFAULT_RECIPE = DataRecipe()
_LEAST_SHARE = 0.25  # of the time of the recipe: with less left, no trial is begun
_SPARE_EPOCHS = 2  # of the recipe, for the epoch under way and for what is measured at the end
_MOST_FAILURES = 5  # in a row: then the search is over


class TuningProgress(Protocol):
    """What a search tells whoever watches."""

    def on_move(self, number: int, share: float, seconds: float) -> None:
        """Trial `number` is done to that share of its epochs; seconds: of the search so far."""

    def on_trial(self, trial: Trial, best: Trial | None) -> None:
        """After each trial; the best so far."""


def tune(
    source: Source | None = None,
    config: TrainConfig = _DEFAULT_CONFIG,
    *,
    minutes: float,
    items: Source | None = None,
    users: Source | None = None,
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
    check_tuning(config, minutes)
    check_target(Path(out), resume=resume, tuning=True)
    recipe = with_known_columns(source, recipe)
    log, report = read_log(source, recipe, items=items, users=users)
    return tune_log(
        log, report, recipe, config, minutes=minutes, out=out,
        progress=progress, resume=resume, reporting=reporting,
    )  # fmt: skip


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
    """`tune` on a log that was read already."""
    check_tuning(config, minutes)
    check_target(Path(out), resume=resume, tuning=True)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    split = divide(log, config.split)
    identity = training_identity(config, recipe, split, {}) | {"settings": dict(config.settings)}
    store = TuningStore(Path(out), identity)
    if resume and not store.trials:
        logger.warning("%s: no search to resume, beginning one", store.directory)
    validation = Validation(split, repeats=recipe.repeats)
    search = _Search(config, split, validation, store, minutes, progress)
    with _kept_until_saved(store, search):
        search.run()
        model, best_config, metrics = search.result()
        if reporting is not None:
            seconds = metrics["epochs"][-1]["seconds"]
            metrics["report"] = report_figures(model, best_config, validation, seconds, reporting)
        run = Run(Path(out), best_config, recipe, report.to_json(), split, model, metrics)
        run.save()
    return run


def check_tuning(config: TrainConfig, minutes: float) -> None:
    """`ValueError` for a search that cannot be, before a log is read."""
    check_number("tune", minutes, above=0)
    if not issubclass(MODELS[config.model].model, LearnedModel):
        learned = [name for name in MODELS if issubclass(MODELS[name].model, LearnedModel)]
        raise ValueError(
            f"model {config.model} counts and has no training to tune: train it without --tune, "
            f"or tune one that learns: {', '.join(learned)}"
        )
    search_space(values_of(config, config.model_config(n_items=1)), given_by_hand(config))
    _study_module()


def _study_module() -> ModuleType:
    """Imported only for a search: it takes a while, and optuna is an extra."""
    try:
        from attnrec.train import tuning_study
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--tune needs {error.name}, which is not installed: pip install 'attnrec[tune]'"
        ) from error
    return tuning_study


@contextmanager
def _kept_until_saved(store: TuningStore, search: "_Search") -> Iterator[None]:
    """For a block that searches and saves the run: then nothing of the search is left over."""
    try:
        yield
    except BaseException as error:
        store.spend(search.seconds())
        if store.trials:
            error.add_note(
                f"the search is kept up to trial {store.trials[-1].number} in {store.directory}: "
                "the same command with --resume goes on there"
            )
        raise
    else:
        store.remove()
    finally:
        store.tidy()


class _Stopped(Exception):
    """A trial is not worth its time, or has none left."""


class _Search:
    """One search: what it varies, what is over, and how much time is left."""

    def __init__(
        self,
        config: TrainConfig,
        split: Split,
        validation: Validation,
        store: TuningStore,
        minutes: float,
        progress: TuningProgress | None,
    ) -> None:
        self.config, self._reasons = config.with_recipe(split)
        self._split, self._validation = split, validation
        self.store, self.progress = store, progress
        self.most_seconds = minutes * 60
        self._values = values_of(self.config, self.config.model_config(**split.sizes()))
        self.space = search_space(self._values, given_by_hand(config))
        self._study = _study_module()
        self._before, self._started = store.seconds, time.monotonic()

    def seconds(self) -> float:
        """Spent so far."""
        return self._before + time.monotonic() - self._started

    def run(self) -> None:
        """Make trials while there is time."""
        while not self._is_over():
            trial, kept = self._trial(len(self.store.trials))
            self.store.add(trial, kept)
            if self.progress is not None:
                self.progress.on_trial(trial, self.store.best)

    def _is_over(self) -> bool:
        trials = self.store.trials
        if not trials:
            return False
        if all(t.outcome == "failed" for t in trials[-_MOST_FAILURES:]):
            logger.warning("%d trials in a row failed: the search is over", _MOST_FAILURES)
            return True
        least = _LEAST_SHARE * trials[0].seconds + self._spare()
        return self.most_seconds - self.seconds() < least

    def _spare(self) -> float:
        """Seconds that a trial leaves at the end."""
        recipe = self.store.trials[0]
        return _SPARE_EPOCHS * recipe.seconds / max(1, len(recipe.curve))

    def _trial(self, number: int) -> tuple[Trial, Kept | None]:
        proposal = self._study.propose(
            self.store.trials,
            self.space,
            self._values,
            epochs=self.config.schedule.epochs,
            seed=self.config.seed,
        )
        began, watcher = self.seconds(), _Watcher(self, number, proposal)
        outcome: Outcome = "done"
        kept, reason = None, None
        try:
            kept, is_cut = self._train(number, with_values(self.config, proposal.values), watcher)
            outcome = "cut short" if is_cut else "done"
        except _Stopped:
            outcome = "stopped"
        # The first two are how torch and numpy say that memory is not enough.
        except (RuntimeError, MemoryError, ValueError) as error:
            if number == 0:
                raise  # so would a training without a search
            outcome, reason = "failed", str(error) or repr(error)
            logger.warning("trial %d failed: %s", number, reason)
        ndcg = kept.facts["valid"]["ndcg@10"] if kept else max(watcher.curve, default=None)
        ended = self.seconds()
        trial = Trial(
            number, proposal.values, outcome, ndcg, watcher.curve,
            seconds=round(ended - began, 2), after=round(ended, 2), reason=reason,
        )  # fmt: skip
        return trial, kept

    def _train(self, number: int, config: TrainConfig, watcher: "_Watcher") -> tuple[Kept, bool]:
        """What a trial has learned, and whether it had to end before its time."""
        left = self.most_seconds - self.seconds() - (self._spare() if number else 0)
        left_minutes = max(left / 60, 1e-3)
        own = config.max_minutes
        is_limited = own is None or left_minutes < own
        limited = replace(config, max_minutes=left_minutes) if is_limited else config
        model = new_model(config, config.model_config(**self._split.sizes()))
        records = fit_model(model, self._split, limited, self._validation, watcher, None)
        last = records[-1]
        is_over = last.seconds > left_minutes * 60 and last.epoch < config.schedule.epochs
        ranking = self._validation.ranking(model)
        questions = self._validation.questions
        facts = {
            "model_config": vars(model.config),
            "valid": metrics_of(ranking, questions, self._split.catalogue.item_ids).to_json(),
            "epochs": [record.to_json() for record in records],
        }
        gains = torch.from_numpy(ndcg_of_users(ranking, questions))
        return Kept(model.state_dict(), gains, facts), is_limited and is_over

    def result(self) -> tuple[RecommenderModel, TrainConfig, dict[str, Any]]:
        """Model, configuration and metrics of the best trial."""
        best = self.store.best
        assert best is not None  # the recipe counts, or has raised
        kept, recipe = self.store.kept(best.number), self.store.kept(0)
        config = with_values(self.config, best.values)
        kind = MODELS[config.model]
        model = kind.model(kind.config(**kept.facts["model_config"]))
        model.load_state_dict(dict(kept.weights))
        records = [EpochRecord(**record) for record in kept.facts["epochs"]]
        reasons = self._reasons_of(best.values)
        metrics = held_out_metrics(self._split, config, records, kept.facts["valid"], reasons)
        metrics["tuning"] = tuning_summary(
            self.store, self.space, self._values, self.most_seconds,
            difference=(kept.gains - recipe.gains).numpy(),
            importance=self._study.importance(self.store.trials, self.space),
            expected=self._study.expected,
        )  # fmt: skip
        return model.eval(), config, metrics

    def _reasons_of(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Why the settings have their values."""
        found = {
            name: f"a search of {len(self.store.trials)} trials found it; the recipe says "
            f"{value_text(self._values[name])}"
            for name, value in values.items()
            if value != self._values[name]
        }
        return {**self._reasons, **found}


class _Watcher:
    """Follows a training, and ends it when it is not worth its time."""

    def __init__(self, search: _Search, number: int, proposal: Any) -> None:
        self._search, self._number, self._proposal = search, number, proposal
        self._n_epochs = 1
        self.curve: list[float] = []

    def on_start(self, n_epochs: int) -> None:
        self._n_epochs = n_epochs

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        seconds = self._search.seconds()
        if self._number and seconds > self._search.most_seconds:
            raise _Stopped
        if self._search.progress is not None:
            share = (epoch - 1 + step / n_steps) / self._n_epochs
            self._search.progress.on_move(self._number, share, seconds)

    def on_epoch(self, record: EpochRecord) -> None:
        assert record.valid is not None
        self.curve.append(record.valid["ndcg@10"])
        if self._proposal.is_hopeless(record.epoch, self.curve[-1]) and self._number:
            raise _Stopped

"""The search itself: trial after trial while there is time, and the best of them at the end."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import torch

from attnrec.train.data.split import Split
from attnrec.train.evaluation.metrics import metrics_of
from attnrec.train.evaluation.validation import Validation, ndcg_of_users
from attnrec.train.fitting.config import TrainConfig, value_text
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.models import MODELS
from attnrec.train.models.base import RecommenderModel
from attnrec.train.runs.train import (
    fit_model,
    held_out_metrics,
    new_model,
)
from attnrec.train.tuning.space import given_by_hand, search_space, values_of, with_values
from attnrec.train.tuning.store import Kept, Outcome, Trial, TuningStore
from attnrec.train.tuning.summary import tuning_summary

if TYPE_CHECKING:
    from attnrec.train.tuning.study import Proposal

logger = logging.getLogger(__name__)

_LEAST_SHARE = 0.25  # of the time of the recipe: with less left, no trial is begun
_MOST_FAILURES = 5  # in a row: then the search is over


class TuningProgress(Protocol):
    """What a search tells whoever watches."""

    def on_move(self, number: int, share: float, seconds: float) -> None:
        """Trial `number` is done to that share of its epochs; seconds: of the search so far."""

    def on_trial(self, trial: Trial, best: Trial | None) -> None:
        """After each trial; the best so far."""


def study_module() -> ModuleType:
    """Imported only for a search: it takes a while, and optuna is an extra."""
    from attnrec.train.tuning import study

    return study


class _Stopped(Exception):
    """A trial is not worth its time, or has none left."""


class Search:
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
        self._study = study_module()
        self._before, self._started = store.seconds, time.monotonic()

    def seconds(self) -> float:
        """Spent so far."""
        return self._before + time.monotonic() - self._started

    def _left(self) -> float:
        return self.most_seconds - self.seconds()

    def run(self) -> None:
        """Make trials while there is time."""
        match self.store.trials:
            case [Trial(outcome="cut short", seconds=took)] if took < self._left():
                self.store.trials.clear()  # with more minutes than before, the recipe gets them
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
        return self._left() < least

    def _spare(self) -> float:
        """Seconds that a trial leaves, for the epoch under way and for what comes after it."""
        recipe = self.store.trials[0]
        epoch = (recipe.seconds - recipe.measuring) / max(1, len(recipe.curve))
        return epoch + recipe.measuring

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
        trained = kept.facts["epochs"][-1]["seconds"] if kept else ended - began
        trial = Trial(
            number, proposal.values, outcome, ndcg, watcher.curve,
            seconds=round(ended - began, 2), after=round(ended, 2),
            measuring=round(ended - began - trained, 2), reason=reason,
        )  # fmt: skip
        return trial, kept

    def _train(self, number: int, config: TrainConfig, watcher: "_Watcher") -> tuple[Kept, bool]:
        """What a trial has learned, and whether it had to end before its time."""
        left = self._left() - (self._spare() if number else 0)
        left_minutes = max(left / 60, 1e-9)  # a limit of 0 is none
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
            name: f"best of a search of {len(self.store.trials)} trials; the recipe gives "
            f"{value_text(self._values[name])}"
            for name, value in values.items()
            if value != self._values[name]
        }
        return {**self._reasons, **found}


class _Watcher:
    """Follows a training, and ends it when it is not worth its time."""

    def __init__(self, search: Search, number: int, proposal: "Proposal") -> None:
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

"""The search itself: trial after trial while there is time, and the best of them at the end."""

import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
import torch
from numpy.typing import NDArray

from attnrec.train.data.split import Split
from attnrec.train.evaluation.metrics import bootstrap_intervals
from attnrec.train.evaluation.validation import Validation, ndcg_of_users
from attnrec.train.fitting.config import TrainConfig, value_text
from attnrec.train.fitting.run_metrics import RunMetrics
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.models import MODELS
from attnrec.train.models.base import RecommenderModel
from attnrec.train.runs.train import fit_model, held_out_metrics, new_model
from attnrec.train.tuning.space import given_by_hand, search_space, values_of, with_values
from attnrec.train.tuning.study import GAINS, RECIPE_GAINS, Trial, TuningStudy

logger = logging.getLogger(__name__)

_LEAST_SHARE = 0.25  # of the time of the recipe: with less left, no trial is begun
_MOST_FAILURES = 5  # in a row: then the search is over


class TuningProgress(Protocol):
    """What a search tells whoever watches."""

    def on_move(self, number: int, share: float, seconds: float) -> None:
        """Trial `number` is done to that share of its epochs; seconds: of the search so far."""

    def on_trial(self, trial: Trial, best: Trial | None) -> None:
        """After each trial; the best so far."""


class _Stopped(Exception):
    """A trial is not worth its time, or has none left."""


class Search:
    """One search: what it varies, what is over, and how much time is left."""

    def __init__(
        self,
        config: TrainConfig,
        split: Split,
        validation: Validation,
        out: Path,
        identity: dict[str, Any],
        minutes: float,
        progress: TuningProgress | None,
    ) -> None:
        self.config, self._reasons = config.with_recipe(split)
        self._split, self._validation = split, validation
        self.most_seconds, self.progress = minutes * 60, progress
        self._values = values_of(self.config, self.config.model_config(**split.sizes()))
        self.space = search_space(self._values, given_by_hand(config))
        epochs = self.config.schedule.epochs
        self.study = TuningStudy(out, identity, epochs=epochs, seed=config.seed)
        self._before, self._started = self.study.seconds, time.monotonic()

    def seconds(self) -> float:
        """Spent so far."""
        return self._before + time.monotonic() - self._started

    def run(self) -> None:
        """Make trials while there is time."""
        n_failed = 0  # in a row
        while n_failed < _MOST_FAILURES and not self._is_over():
            self._trial()
            trial = self.study.trials[-1]
            n_failed = n_failed + 1 if trial.outcome == "failed" else 0
            if self.progress is not None:
                self.progress.on_trial(trial, self.study.best)
        if n_failed == _MOST_FAILURES:
            logger.warning("%d trials in a row failed: the search is over", n_failed)

    def _left(self) -> float:
        return self.most_seconds - self.seconds()

    def _is_over(self) -> bool:
        trials = self.study.trials
        return bool(trials) and self._left() < _LEAST_SHARE * trials[0].seconds + self._spare()

    def _spare(self) -> float:
        """Seconds that a trial leaves, for the epoch under way and for what comes after it."""
        epochs = self.study.facts(0)["epochs"]
        trained = epochs[-1]["seconds"]
        return float(self.study.trials[0].seconds - trained + trained / len(epochs))

    def _trial(self) -> None:
        asked, values = self.study.ask(self.space, self._values)
        began, watcher = self.seconds(), _Watcher(self, asked)
        told: dict[str, Any] = {"outcome": "interrupted"}
        learned, facts = dict[str, torch.Tensor](), dict[str, Any]()
        try:
            config = with_values(self.config, values)
            learned, facts, is_cut = self._train(asked.number, config, watcher)
            ndcg = facts["valid"]["ndcg@10"]
            told = {"outcome": "cut short" if is_cut else "done", "ndcg": ndcg}
        except _Stopped:
            told = {"outcome": "stopped"}
        # The first two are how torch and numpy say that memory is not enough.
        except (RuntimeError, MemoryError, ValueError) as error:
            if asked.number == 0:
                raise  # so would a training without a search
            told = {"outcome": "failed", "reason": str(error) or repr(error)}
            logger.warning("trial %d failed: %s", asked.number, told["reason"])
        finally:
            after = self.seconds()
            told |= {"seconds": round(after - began, 2), "after": round(after, 2)}
            self.study.end(asked, told, learned, facts)

    def _train(
        self, number: int, config: TrainConfig, watcher: "_Watcher"
    ) -> tuple[dict[str, torch.Tensor], dict[str, Any], bool]:
        """What a trial has learned, facts about it, and whether it ended before its time."""
        left = self._left() - (self._spare() if number else 0)
        left_minutes = max(left / 60, 1e-9)  # a limit of 0 is none
        limited = replace(config, max_minutes=min(left_minutes, config.max_minutes or math.inf))
        model = new_model(config, config.model_config(**self._split.sizes()))
        records = fit_model(model, self._split, limited, self._validation, watcher, None)
        last = records[-1]
        is_cut = last.seconds > left_minutes * 60 and last.epoch < config.schedule.epochs
        ranking = self._validation.ranking(model)
        questions = self._validation.held_out
        facts = {
            "model_config": vars(model.config),
            "valid": self._validation.metrics(ranking).to_json(),
            "epochs": [record.to_json() for record in records],
        }
        gains = torch.from_numpy(ndcg_of_users(ranking, questions))
        return {**model.state_dict(), GAINS: gains}, facts, is_cut

    def result(self) -> tuple[RecommenderModel, TrainConfig, RunMetrics]:
        """Model, configuration and metrics of the best trial."""
        best, (weights, facts) = self.study.best, self.study.learned()
        assert best is not None  # the recipe counts, or has raised
        gains, recipe_gains = (weights.pop(name).numpy() for name in (GAINS, RECIPE_GAINS))
        config = with_values(self.config, best.values)
        kind = MODELS[config.model]
        model = kind.model(kind.config(**facts["model_config"]))
        model.load_state_dict(weights)
        records = [EpochRecord(**record) for record in facts["epochs"]]
        n_trials = len(self.study.trials)
        reasons = self._reasons | {
            name: f"best of a search of {n_trials} trials; the recipe gives "
            f"{value_text(self._values[name])}"
            for name, value in best.values.items()
            if value != self._values[name]
        }
        metrics = held_out_metrics(self._split, config, records, facts["valid"], reasons)
        tuning = self._summary(best, gains - recipe_gains)
        return model.eval(), config, replace(metrics, tuning=tuning)

    def _summary(self, best: Trial, lead: NDArray[np.float64]) -> dict[str, Any]:
        """For `metrics.json`; lead: NDCG@10 of the best less that of the recipe (n_users,)."""
        low, high = bootstrap_intervals({"lead": lead})["lead"]
        named = ({**vars(trial), "ndcg@10": trial.ndcg} for trial in self.study.trials)
        return {
            "minutes": round(self.most_seconds / 60, 2),
            "seconds": round(self.study.seconds, 2),
            "best": best.number,
            "gain": round(float(lead.mean()), 6),
            "gain_interval": [round(low, 6), round(high, 6)],
            "recipe": {name: self._values[name] for name in self.space},
            "importance": self.study.importance(),
            "trials": [{k: v for k, v in told.items() if k != "ndcg"} for told in named],
        }


class _Watcher:
    """Follows a training, and ends it when it is not worth its time."""

    def __init__(self, search: Search, asked: optuna.Trial) -> None:
        self._search, self._asked = search, asked
        self._n_epochs = 1

    def on_start(self, n_epochs: int) -> None:
        self._n_epochs = n_epochs

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        number, seconds = self._asked.number, self._search.seconds()
        if number and seconds > self._search.most_seconds:
            raise _Stopped
        if self._search.progress is not None:
            share = (epoch - 1 + step / n_steps) / self._n_epochs
            self._search.progress.on_move(number, share, seconds)

    def on_epoch(self, record: EpochRecord) -> None:
        assert record.valid is not None
        ndcg, study = record.valid["ndcg@10"], self._search.study
        if study.is_hopeless(self._asked, record.epoch, ndcg, self._search.seconds()):
            raise _Stopped

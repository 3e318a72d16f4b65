"""The trials of a search: one Optuna study in a journal, and the weights of the best trial.

Both lie beside the run directory until the run is saved. The weights of a better trial are written
before its end is written in the journal, and those of the one before are deleted after that: the
best trial of the journal has its weights, whenever the process is killed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import safetensors.torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from safetensors import SafetensorError
from torch import Tensor

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import replace_file
from attnrec.train.fitting.checkpoint import check_identity
from attnrec.train.run_files import unfinished_directory
from attnrec.train.runs.target import search_file
from attnrec.train.tuning.space import Between, Space, near, settled

_GAINS, _RECIPE_GAINS = "validation/gains", "validation/recipe"  # no weight has such a name
_N_NEAR = 6
_LEAST_IMPORTANT = 6  # trials: fewer explain nothing about ten settings
_WARM_UP = 0.25  # share of the epochs before a trial may be stopped

_STATES: Mapping[str, TrialState] = {
    "done": TrialState.COMPLETE,
    "cut short": TrialState.PRUNED,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "interrupted": TrialState.FAIL,
}


@dataclass(frozen=True)
class Trial:
    """One training of a search."""

    number: int
    """From 0, which is the recipe."""
    values: Mapping[str, Any]
    """What it had for the settings that are searched."""
    outcome: Literal["done", "cut short", "stopped", "failed", "interrupted"]
    """Cut short: the time of the search was over, its best epoch counts. Stopped: behind others
    at the same epoch, or out of time before it could be measured. Failed: see `reason`."""
    ndcg: float | None
    """Validation NDCG@10, of the best epoch; None if it had no epoch."""
    curve: Sequence[float]
    """The same by epoch, before a model chooses what it leaves open."""
    seconds: float = 0.0
    """What it took; 0 where the process was killed."""
    after: float = 0.0
    """Seconds of the search when it ended; 0 likewise."""
    reason: str | None = None
    """Why it failed."""

    @property
    def counts(self) -> bool:
        """Whether it may be the best: its weights were measured at its end."""
        return self.outcome in ("done", "cut short")


@dataclass(frozen=True)
class Learned:
    """What came of a trial that counts."""

    weights: dict[str, Tensor]
    facts: Mapping[str, Any]
    """For JSON: configuration of the model, validation figures, epochs."""
    gains: Tensor
    """NDCG@10 of each user of the validation (n_users,)."""


class TuningStudy:
    """What was tried in one search, what is tried next, and the weights of the best trial."""

    def __init__(
        self, run_directory: Path, identity: Mapping[str, Any], *, epochs: int, seed: int
    ) -> None:
        """Take up the search that is there, else begin one.

        identity: what must be equal, by name, when a search goes on; else `RunError`.
        """
        self.directory = unfinished_directory(run_directory)
        self._journal = search_file(run_directory)
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._epochs, self._seed = epochs, seed
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it prints a line a trial
        self._study = self._open()
        if not self.is_worth_keeping:
            self.remove()
            self._study = self._open()

    @property
    def trials(self) -> list[Trial]:
        """So far, by number; without one that was about to begin when the process was killed."""
        found = []
        for frozen in self._study.get_trials(deepcopy=False):
            if frozen.state == TrialState.WAITING:
                continue
            known = frozen.user_attrs.get("trial", {"outcome": "interrupted"})
            if frozen.state != _STATES[known["outcome"]]:
                known = {"outcome": "interrupted"}  # killed just before its end was written
            curve = [value for _, value in sorted(frozen.intermediate_values.items())]
            values = frozen.user_attrs.get("values", {})
            known = {"values": values, "ndcg": max(curve, default=None)} | known
            found.append(Trial(number=frozen.number, curve=curve, **known))
        return found

    @property
    def best(self) -> Trial | None:
        """The first with the best figure; None before any."""
        counting = (trial for trial in self.trials if trial.counts)
        return max(counting, key=lambda trial: trial.ndcg or 0.0, default=None)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the recipe is done: nothing else can be compared before."""
        return any(trial.outcome == "done" for trial in self.trials[:1])

    @property
    def seconds(self) -> float:
        """Spent on the search until the last trial ended, also before an interruption."""
        return max((trial.after for trial in self.trials), default=0.0)

    def ask(self, space: Space, recipe: Mapping[str, Any]) -> tuple[optuna.Trial, dict[str, Any]]:
        """What to try now: the recipe, then near to it, then what the sampler (TPE) proposes."""
        number = len(self.trials)
        is_waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if number < _N_NEAR and not is_waiting:
            drawn = near(space, recipe, np.random.default_rng([self._seed, number]))
            self._study.enqueue_trial(drawn if number else {name: recipe[name] for name in space})
        trial = self._study.ask(
            {
                name: FloatDistribution(wanted.low, wanted.high, log=wanted.by_factors)
                if isinstance(wanted, Between)
                else CategoricalDistribution(wanted.values)
                for name, wanted in space.items()
            }
        )
        values = settled(trial.params, space, recipe)
        trial.set_user_attr("values", values)
        return trial, values

    def end(self, trial: optuna.Trial, known: Mapping[str, Any], learned: Learned | None) -> None:
        """Write what came of a trial, and its weights if it is the best.

        known: fields of `Trial` that the study does not have; learned: None where the trial does
        not count.
        """
        best = self.best
        is_best = learned is not None and (best is None or known["ndcg"] > best.ndcg)
        if learned is not None and is_best:
            recipe = self.learned()[1] if best else learned.gains.clone()
            tensors = {**learned.weights, _GAINS: learned.gains, _RECIPE_GAINS: recipe}
            with replace_file(self._weights(trial.number)) as temporary:
                temporary.write_bytes(safetensors.torch.save(tensors))
            trial.set_user_attr("facts", dict(learned.facts))
        trial.set_user_attr("trial", dict(known))
        value = known["ndcg"] if known["outcome"] == "done" else None
        self._study.tell(trial, value, _STATES[known["outcome"]])
        if best and is_best:
            self._weights(best.number).unlink(missing_ok=True)

    def learned(self) -> tuple[Learned, Tensor]:
        """Of the best trial; and the gains of the recipe."""
        best = self.best
        assert best is not None
        path = self._weights(best.number)
        try:
            weights = safetensors.torch.load(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise self._damaged(path, error) from error
        facts = self._study.get_trials(deepcopy=False)[best.number].user_attrs["facts"]
        gains, recipe_gains = (weights.pop(name) for name in (_GAINS, _RECIPE_GAINS))
        return Learned(weights, facts, gains), recipe_gains

    def summary(self) -> dict[str, Any]:
        """For `metrics.json`."""
        trials = [{**vars(trial), "ndcg@10": trial.ndcg} for trial in self.trials]
        return {
            "seconds": round(self.seconds, 2),
            "best": self.best.number if self.best else None,
            "importance": self.importance(),
            "trials": [{k: v for k, v in trial.items() if k != "ndcg"} for trial in trials],
        }

    @contextmanager
    def kept_until_saved(self) -> Iterator[None]:
        """For a block that searches and saves the run, after which the search is removed."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, OSError):
                error.filename = error.filename or str(self.directory)  # which disk is full?
            if not self.is_worth_keeping:
                self.remove()
                raise
            last = max(t.number for t in self.trials if t.outcome != "interrupted")
            error.add_note(
                f"the search is kept up to trial {last} in {self.directory}: "
                "the same command with `resume` goes on there"
            )
            raise
        self.remove()

    def importance(self) -> dict[str, float]:
        """Share of the differences between finished trials that a setting explains, most first.

        By fANOVA. Empty where there are too few trials.
        """
        figures = [trial.ndcg for trial in self.trials if trial.outcome == "done"]
        if len(figures) < _LEAST_IMPORTANT or len(set(figures)) == 1:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {name: round(float(share), 4) for name, share in found.items()}

    def remove(self) -> None:
        """Delete the files of the search, and no other."""
        weights = "trial-*.safetensors"
        half_written = f".{8 * '[0-9a-f]'}.{weights}"  # by a process that was killed
        for pattern in (f"{self._journal.name}*", weights, half_written):
            for path in self.directory.glob(pattern):
                path.unlink(missing_ok=True)

    def _open(self) -> optuna.Study:
        """The study of the journal, with nothing under way; a new one where there is none."""
        self.directory.mkdir(exist_ok=True)
        try:
            _drop_half_line(self._journal)
            lock = JournalFileOpenLock(str(self._journal))  # makes no link, which Windows refuses
            study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(self._journal), lock)),
                study_name="attnrec",
                direction="maximize",
                load_if_exists=True,
                # The recipe is known to be good: the second trial already has to keep up with it.
                pruner=optuna.pruners.MedianPruner(
                    n_startup_trials=1, n_warmup_steps=max(1, round(_WARM_UP * self._epochs))
                ),
            )
            trials = study.get_trials(deepcopy=False)
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
            raise self._damaged(self._journal, error) from error
        stored = study.user_attrs.get("identity", self._identity)
        check_identity(self.directory, "search", stored, self._identity)
        study.set_user_attr("identity", self._identity)
        for trial in trials:
            if trial.state == TrialState.RUNNING:  # its process was killed
                study.tell(trial.number, state=TrialState.FAIL)
        # A search that goes on does not draw again what it drew at first.
        seed = int(np.random.default_rng([self._seed, len(trials)]).integers(2**31))
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=_N_NEAR, seed=seed)
        return study

    def _weights(self, number: int) -> Path:
        return self.directory / f"trial-{number:06}.safetensors"

    def _damaged(self, path: Path, error: Exception) -> RunError:
        how = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error!r})"
        return RunError(f"{path} is {how}: delete {self.directory} to search anew")


def _drop_half_line(journal: Path) -> None:
    """A line that a killed process did not finish would damage the next one."""
    content = journal.read_bytes() if journal.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(journal, "r+b") as file:
            file.truncate(whole)

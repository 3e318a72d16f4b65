"""A search under way, kept beside its run directory: the trials so far, and weights of the best.

`tuning.json` says what was tried, replaced as a whole after each trial. The weights of the recipe
and of the best trial lie beside it, one safetensors file each (no pickle), whose sha256 it knows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from torch import Tensor

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import replace_file
from attnrec.train.fitting.checkpoint import check_identity
from attnrec.train.run_files import unfinished_directory
from attnrec.train.runs.target import SEARCH_FILE, search_file

_WEIGHTS = "trial-{:06}.safetensors"
_GAINS = "validation/gains"  # no part of a model has a name like this

Outcome = Literal["done", "cut short", "stopped", "failed"]


@dataclass(frozen=True)
class Trial:
    """One training of a search."""

    number: int
    """From 0, which is the recipe."""
    values: Mapping[str, Any]
    """What it had for the settings that are searched."""
    outcome: Outcome
    """Cut short: the time of the search was over, its best epoch counts. Stopped: behind others
    at the same epoch, or out of time before it could be measured. Failed: see `reason`."""
    ndcg: float | None
    """Validation NDCG@10, of the best epoch; None if it had no epoch."""
    curve: Sequence[float]
    """The same by epoch, before a model chooses what it leaves open."""
    seconds: float
    """What it took."""
    after: float
    """Seconds of the search when it ended."""
    measuring: float = 0.0
    """Seconds of `seconds` after its last epoch: to choose what it leaves open, and measure it."""
    reason: str | None = None
    """Why it failed."""

    @property
    def counts(self) -> bool:
        """Whether it may be the best: its weights were measured at its end."""
        return self.outcome in ("done", "cut short")

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Kept:
    """What a trial has learned."""

    weights: Mapping[str, Tensor]
    """Of its model."""
    gains: Tensor
    """NDCG@10 of each user of the validation (n_users,)."""
    facts: Mapping[str, Any]
    """For JSON: "model_config", "valid", "epochs"."""


class TuningStore:
    """The trials of one search on the disk."""

    def __init__(self, run_directory: Path, identity: Mapping[str, Any]) -> None:
        """Take up what is there.

        identity: what must be equal, by name, when a search goes on; else `RunError`.
        """
        self.directory = unfinished_directory(run_directory)
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._sha256: dict[int, str] = {}
        self.trials: list[Trial] = []
        self.seconds = 0.0
        """Spent on the search so far, also before an interruption."""
        path = search_file(run_directory)
        if not path.exists():
            return
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            check_identity(self.directory, "search", state["identity"], self._identity)
            self.trials = [Trial(**trial) for trial in state["trials"]]
            self._sha256 = {int(number): seal for number, seal in state["weights"].items()}
            self.seconds = state["seconds"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path} is damaged ({error!r}): delete {self.directory} to search anew"
            ) from error

    @property
    def best(self) -> Trial | None:
        """The first with the best figure; None before any."""
        return best_trial(self.trials)

    def add(self, trial: Trial, kept: Kept | None) -> None:
        """Write that a trial is over, and what it has learned if it is the recipe or the best."""
        self.trials.append(trial)
        self.seconds = trial.after
        if kept is not None and trial in (self.best, self.trials[0]):
            facts = {"facts": json.dumps(kept.facts)}
            content = safetensors.torch.save({**kept.weights, _GAINS: kept.gains}, facts)
            self._write(_WEIGHTS.format(trial.number), content)
            self._sha256[trial.number] = hashlib.sha256(content).hexdigest()
        worth = {0} | ({self.best.number} if self.best else set())
        superseded = self._sha256.keys() - worth
        self._sha256 = {n: seal for n, seal in self._sha256.items() if n in worth}
        self._write_state()
        for number in superseded:
            (self.directory / _WEIGHTS.format(number)).unlink(missing_ok=True)

    def spend(self, seconds: float) -> None:
        """Write how much time is spent, where a trial was lost; nothing before the first."""
        self.seconds = seconds
        if self.trials:
            self._write_state()

    def kept(self, number: int) -> Kept:
        """What the recipe or the best trial has learned."""
        path = self.directory / _WEIGHTS.format(number)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RunError(
                f"{path} is missing ({error}): delete {self.directory} to search anew"
            ) from error
        if hashlib.sha256(content).hexdigest() != self._sha256.get(number):
            raise RunError(f"{path} is damaged: delete {self.directory} to search anew")
        header = content[8 : 8 + int.from_bytes(content[:8], "little")]
        facts = json.loads(json.loads(header)["__metadata__"]["facts"])
        weights = safetensors.torch.load(content)
        return Kept(weights, weights.pop(_GAINS), facts)

    def remove(self) -> None:
        """The run is saved: nothing of this is needed any more."""
        (self.directory / SEARCH_FILE).unlink(missing_ok=True)
        for path in self.directory.glob("trial-*.safetensors"):
            path.unlink(missing_ok=True)
        self.tidy()

    def tidy(self) -> None:
        """Delete the directory, unless something is in it, ours or not."""
        for half_written in self.directory.glob(f".{8 * '[0-9a-f]'}.trial-*.safetensors"):
            half_written.unlink(missing_ok=True)  # by a process that was killed
        with suppress(OSError):
            self.directory.rmdir()

    def _write_state(self) -> None:
        state = {
            "identity": self._identity,
            "seconds": self.seconds,
            "weights": self._sha256,
            "trials": [trial.to_json() for trial in self.trials],
        }
        self._write(SEARCH_FILE, json.dumps(state, indent=1).encode())

    def _write(self, name: str, content: bytes) -> None:
        self.directory.mkdir(exist_ok=True)
        with replace_file(self.directory / name) as temporary:
            temporary.write_bytes(content)


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The first with the best figure, of those that count."""
    return max((t for t in trials if t.counts), key=lambda t: t.ndcg or 0.0, default=None)

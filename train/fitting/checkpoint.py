"""Checkpoints of a training, kept next to its run directory until the run is saved.

A checkpoint is one safetensors file (no pickle) with the identity of its training, followed by the
sha256 (hex) of all that: a damaged one is found and deleted, and the one before it is used.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import replace_file
from attnrec.train.fitting.state import TrainingState
from attnrec.train.run_files import (
    CHECKPOINT,
    checkpoint_files,
    is_first_process,
    training_alone,
    unfinished_directory,
)

logger = logging.getLogger(__name__)

_SEAL_BYTES = 64
_HALF_WRITTEN = f".{8 * '[0-9a-f]'}.epoch-*{CHECKPOINT}", f".tmp{6 * '[0-9A-Za-z]'}"
"""Names of ours, and those under which safetensors writes."""
_MOST_SHARE, _CHEAP_SECONDS = 0.03, 1.0
_DECIDE_ROUNDING = {"torch", "threads", "processes"}


class Checkpoints:
    """The last two checkpoints of one training."""

    def __init__(
        self, run_directory: Path, identity: Mapping[str, Any], seconds_apart: float = 300
    ) -> None:
        """Find the newest that is intact.

        identity: values by name that must be equal when a training is resumed, else `RunError`.
        seconds_apart: interval inside a long epoch; there is one at the end of every epoch, too,
        unless it takes long.
        """
        self._seconds_apart = seconds_apart
        self.directory = unfinished_directory(run_directory)
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        for pattern in _HALF_WRITTEN:  # by a killed process
            for path in self.directory.glob(pattern):
                path.unlink()
        self._found = self._newest()
        self._written, self._seconds_of_one = time.monotonic(), 0.0

    def take(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What `TrainingState.restore` takes, of the checkpoint that was found; once."""
        found, self._found = self._found, None  # its memory is as large as that of the training
        return found

    def is_due(self) -> bool:
        """Whether the interval since the last checkpoint is over."""
        is_over = time.monotonic() - self._written >= self._seconds_apart
        return is_over and self.is_affordable()

    def is_affordable(self) -> bool:
        """Whether a checkpoint takes at most 3 % of the time since the last one, or a second."""
        since = time.monotonic() - self._written
        return self._seconds_of_one <= max(_CHEAP_SECONDS, _MOST_SHARE * since)

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint, whole or not at all."""
        self.directory.mkdir(exist_ok=True)
        # The names sort as the training proceeds.
        path = self.directory / f"epoch-{state.epoch:06}-step-{state.step:09}{CHECKPOINT}"
        facts = {"identity": json.dumps(self._identity), "state": json.dumps(state.facts())}
        began = time.monotonic()
        with replace_file(path) as temporary:
            # From where the tensors are: a copy would be as large as the training.
            with _system_errors(path):
                safetensors.torch.save_file(state.tensors(), temporary, facts)
            with open(temporary, "r+b") as file:
                seal = hashlib.file_digest(file, "sha256").hexdigest()
                file.write(seal.encode())
        for older in checkpoint_files(self.directory)[:-2]:
            older.unlink(missing_ok=True)
        self._written = time.monotonic()
        self._seconds_of_one = self._written - began

    def _newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        for path in reversed(checkpoint_files(self.directory)):
            sealed = path.read_bytes()
            content, seal = sealed[:-_SEAL_BYTES], sealed[-_SEAL_BYTES:]
            if hashlib.sha256(content).hexdigest().encode() != seal:
                logger.warning("%s is damaged: deleted", path)
                path.unlink()
                continue
            header = content[8 : 8 + int.from_bytes(content[:8], "little")]
            facts = json.loads(header)["__metadata__"]
            stored = json.loads(facts["identity"])
            check_identity(self.directory, "training", stored, self._identity)
            logger.warning("going on from %s", path.name)
            return safetensors.torch.load(content), json.loads(facts["state"])
        return None


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """`OSError` where safetensors reports one of the system, such as a full disk."""
    try:
        yield
    except safetensors.SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def check_identity(
    directory: Path, what: str, stored: Mapping[str, Any], identity: Mapping[str, Any]
) -> None:
    """`RunError` if a stored "training" or "search" (`what`) has another identity.

    Values that decide only the rounding of sums give a warning.
    """
    for name, value in identity.items():
        if (before := stored.get(name)) == value:
            continue
        if name not in _DECIDE_ROUNDING:
            raise RunError(
                f"{directory} holds an unfinished {what} with {name} {before!r}, not "
                f"{value!r}: give the same command and data as then with `resume`, or delete "
                "that directory to train anew"
            )
        logger.warning("%s was %s, now %s: not bit for bit the same", name, before, value)


@contextmanager
def checkpoints_until_saved(
    run_directory: Path, identity: Mapping[str, Any], *, resume: bool
) -> Iterator[Checkpoints | None]:
    """Checkpoints for a block that trains and saves the run: gone when it has.

    None in a process that writes no files. An error of the block carries a note how to go on.
    """
    if not is_first_process():
        yield None
        return
    with training_alone(run_directory):
        checkpoints = Checkpoints(run_directory, identity)
        directory = checkpoints.directory
        if resume and not checkpoint_files(directory):
            logger.warning("%s: nothing to resume, training from the start", directory)
        try:
            yield checkpoints
        except BaseException as error:
            if kept := checkpoint_files(directory):
                error.add_note(
                    f"training is kept up to {kept[-1]}: the same command with `resume` goes on "
                    "there"
                )
            raise
        for path in checkpoint_files(directory):
            path.unlink(missing_ok=True)

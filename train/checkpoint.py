"""Checkpoints of a training under way, beside its run directory, until the run is complete.

A checkpoint is one safetensors file (no pickle) that says which training it belongs to, followed
by the sha256 (hex) of everything before it. So a damaged one is noticed, and the one before it
serves.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import replace_file
from attnrec.train.training_state import TrainingState

logger = logging.getLogger(__name__)

SECONDS_APART = 300.0
"""A long epoch is kept at this interval; the end of an epoch always is."""
_SUFFIX = ".checkpoint"
_KEPT = 2  # the newest, and the one before should the newest be damaged
_SEAL_BYTES = 64
_DECIDE_ROUNDING = {"torch", "threads"}


class _Checkpoint(NamedTuple):
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training; opening them finds the newest that is intact."""

    def __init__(self, run_directory: Path, identity: Mapping[str, Any]) -> None:
        """identity: what must be equal, by the names a person knows, when a training goes on.

        `RunError` if the checkpoints there are of a training with another identity.
        """
        self.directory = unfinished_directory(run_directory)
        self._identity = dict(identity)
        for leftover in self.directory.glob(f".*{_SUFFIX}"):
            leftover.unlink()  # half-written when its process was killed
        self._newest = self._find_newest()
        self._written = time.monotonic()

    @property
    def exist(self) -> bool:
        """Whether there is something to go on from."""
        return bool(checkpoint_files(self.directory))

    def restore(self, state: TrainingState) -> None:
        """Take `state` to where the newest checkpoint was made, if there is one."""
        if self._newest is not None:
            state.restore(*self._newest)
            self._newest = None

    def is_due(self) -> bool:
        """Whether the last checkpoint is long ago."""
        return time.monotonic() - self._written >= SECONDS_APART

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint, whole or not at all, and drop all but the last two."""
        self.directory.mkdir(exist_ok=True)
        # The names sort as the training proceeds.
        path = self.directory / f"epoch-{state.epoch:06}-step-{state.step:09}{_SUFFIX}"
        facts = {"identity": self._identity, "state": state.facts()}
        metadata = {name: json.dumps(value) for name, value in facts.items()}
        content = safetensors.torch.save(state.tensors(), metadata)
        try:
            with replace_file(path) as temporary, open(temporary, "wb") as file:
                file.write(content)
                file.write(hashlib.sha256(content).hexdigest().encode())
        except OSError as error:
            error.filename = error.filename or str(path)  # which disk is full?
            raise
        for old in checkpoint_files(self.directory)[:-_KEPT]:
            old.unlink(missing_ok=True)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the checkpoints, and their directory unless it holds something else."""
        for path in checkpoint_files(self.directory):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.directory.rmdir()

    def _find_newest(self) -> _Checkpoint | None:
        for path in reversed(checkpoint_files(self.directory)):
            sealed = path.read_bytes()
            content, seal = sealed[:-_SEAL_BYTES], sealed[-_SEAL_BYTES:]
            if hashlib.sha256(content).hexdigest().encode() == seal:
                found = self._read(content)
                logger.warning("going on from %s", path)
                return found
            logger.warning("%s is damaged: deleted", path)
            path.unlink()
        return None

    def _read(self, content: bytes) -> _Checkpoint:
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        self._check_identity(json.loads(metadata["identity"]))
        return _Checkpoint(safetensors.torch.load(content), json.loads(metadata["state"]))

    def _check_identity(self, stored: Mapping[str, Any]) -> None:
        for name, wanted in json.loads(json.dumps(self._identity)).items():
            before = stored.get(name)
            if before == wanted:
                continue
            if name not in _DECIDE_ROUNDING:
                raise RunError(
                    f"{self.directory} holds an unfinished training with {name} {before!r}, not "
                    f"{wanted!r}: go on with the same command and data and --resume, or delete "
                    "that directory to train anew"
                )
            logger.warning(
                "%s was %s, is %s: going on, but not to bit-identical weights",
                name, before, wanted,
            )  # fmt: skip


@contextmanager
def checkpoints_until_saved(
    run_directory: Path, identity: Mapping[str, Any], *, resume: bool
) -> Iterator[Checkpoints]:
    """Checkpoints for a block that trains and saves the run; gone when it has.

    An error of the block carries a note how to go on.
    """
    checkpoints = Checkpoints(run_directory, identity)
    if resume and not checkpoints.exist:
        logger.warning("%s: nothing to resume, training from the start", checkpoints.directory)
    try:
        yield checkpoints
    except BaseException as error:
        if checkpoints.exist:
            newest = checkpoint_files(checkpoints.directory)[-1]
            error.add_note(
                f"the training is kept in {newest}; the same command with --resume goes on there"
            )
        else:
            checkpoints.remove()
        raise
    checkpoints.remove()


def unfinished_directory(run_directory: Path) -> Path:
    """Where the checkpoints of the training into `run_directory` are."""
    whole = run_directory.absolute()
    return whole.with_name(f"{whole.name}.unfinished")


def checkpoint_files(directory: Path) -> list[Path]:
    """Checkpoints, oldest first; none where there is no such directory."""
    return sorted(directory.glob(f"epoch-*{_SUFFIX}"))

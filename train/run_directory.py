"""Where a run is kept: its files, what may be replaced, what is unfinished. Needs no torch."""

import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import sync_directory, sync_file

CONFIG_FILE, DATA_FILE, METRICS_FILE = "config.json", "data.json", "metrics.json"
WEIGHTS_FILE, CATALOGUE_FILE = "weights.safetensors", "catalogue.parquet"
EVENTS_FILE, ITEMS_FILE = "interactions.parquet", "items.parquet"
CURVE_FILE = "learning_curve.png"
REPORT_FILE = "report.html"
"""What a person looks at, where a report was asked for."""
MODEL_FILE = "model.onnx"
"""Where a run is exported to unless told otherwise."""
_OWN_FILES = {
    CONFIG_FILE, DATA_FILE, METRICS_FILE, WEIGHTS_FILE, CATALOGUE_FILE, CURVE_FILE, EVENTS_FILE,
    ITEMS_FILE, MODEL_FILE, REPORT_FILE,
}  # fmt: skip
CHECKPOINT = ".checkpoint"
"""How the names of checkpoints end."""
SEARCH_FILE = "tuning.json"
"""State of a search that is not finished."""


def check_run(directory: Path) -> None:
    """`RunError` unless there is a run in it; read by nobody yet."""
    if not (directory / CONFIG_FILE).is_file():
        raise RunError(
            f"{directory} is not a run directory: it has no {CONFIG_FILE}. "
            "Train one with attnrec-train, or name the directory that attnrec-train wrote"
        )


def check_target(directory: Path, *, resume: bool = False, tuning: bool = False) -> None:
    """Refuse, before hours of training, a target that holds something else than a run.

    resume: it may have an unfinished training beside it; tuning: an unfinished search.
    """
    parent, unfinished = directory.absolute().parent, unfinished_directory(directory)
    for place in (directory, unfinished):
        if place.exists() and not place.is_dir():
            raise RunError(f"{place} is a file; name a directory for the run with --out")
    if directory.is_dir():
        foreign = sorted({path.name for path in directory.iterdir()} - _OWN_FILES)
        if foreign:
            raise RunError(
                f"{directory} holds {foreign[0]!r}, which is not part of a run and would be lost; "
                "move it away, or name another directory with --out"
            )
    if not parent.is_dir():
        raise RunError(f"{parent} does not exist; make it first, or name another --out")
    try:
        str(directory.absolute()).encode()
    except UnicodeEncodeError as error:  # Arrow opens files by names in UTF-8
        raise RunError(f"{str(directory)!a} is not valid Unicode; name another --out") from error
    for place in (parent, unfinished):
        if place.exists() and not os.access(place, os.W_OK):
            raise RunError(f"{place} is not writable; name another --out")
    _tidy_after_kill(directory)
    _check_unfinished(directory, resume=resume, tuning=tuning)


def _check_unfinished(directory: Path, *, resume: bool, tuning: bool) -> None:
    """Refuse to begin anew what was interrupted, or to go on with it as something else."""
    unfinished = unfinished_directory(directory)
    if search_file(directory).exists() and not (resume and tuning):
        raise RunError(
            f"{unfinished} holds a search that was interrupted: go on with --tune MINUTES "
            "--resume (tune(..., resume=True)), or delete that directory to train anew"
        )
    if tuning and checkpoint_files(unfinished):
        raise RunError(
            f"{unfinished} holds a training that was interrupted, not a search: go on without "
            "--tune, or delete that directory to search anew"
        )
    if not resume and checkpoint_files(unfinished):
        raise RunError(
            f"{unfinished} holds a training that was interrupted: go on with --resume "
            "(resume=True), or delete that directory to train anew"
        )


@contextmanager
def replace_directory(target: Path) -> Iterator[Path]:
    """Yield a new directory beside `target` that takes its name when the block succeeds."""
    target = target.absolute()
    token = secrets.token_hex(4)
    fresh = target.with_name(f".{token}.{target.name}")
    old = target.with_name(f".{token}.old.{target.name}")
    fresh.mkdir()
    try:
        yield fresh
        # On the disk before the checkpoints of its training go: a power cut must not take both.
        for path in fresh.iterdir():
            sync_file(path)
        sync_directory(fresh)
        if target.exists():
            os.replace(target, old)
        # Killed here, a process leaves no run under this name: see _tidy_after_kill.
        os.replace(fresh, target)
        sync_directory(target.parent)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _tidy_after_kill(target: Path) -> None:
    """Put right what a process left that was killed while it replaced `target`."""
    target = target.absolute()
    token, name = "." + 8 * "[0-9a-f]", glob.escape(target.name)
    for old in target.parent.glob(f"{token}.old.{name}"):
        if not target.exists():
            os.replace(old, target)  # the new run is made again from its last checkpoint
        shutil.rmtree(old, ignore_errors=True)
    for fresh in target.parent.glob(f"{token}.{name}"):
        shutil.rmtree(fresh, ignore_errors=True)


def unfinished_directory(run_directory: Path) -> Path:
    """Where the checkpoints of a training into `run_directory` are."""
    whole = run_directory.absolute()
    return whole.with_name(f"{whole.name}.unfinished")


def checkpoint_files(directory: Path) -> list[Path]:
    """Checkpoints, oldest first; none where there is no such directory."""
    return sorted(directory.glob(f"epoch-*{CHECKPOINT}"))


def search_file(run_directory: Path) -> Path:
    """What is there while a search for that run directory is not finished."""
    return unfinished_directory(run_directory) / SEARCH_FILE

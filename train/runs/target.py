"""Whether a directory holds a run, or may become one. Needs no torch."""

import os
import re
from pathlib import Path

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import MODEL_FILE, is_mount_point
from attnrec.train.run_files import (
    CATALOGUE_FILE,
    CONFIG_FILE,
    DATA_FILE,
    EVENTS_FILE,
    ITEMS_FILE,
    METRICS_FILE,
    REPORT_FILE,
    WEIGHTS_FILE,
    checkpoint_files,
    is_first_process,
    lock_of,
    unfinished_directory,
)
from attnrec.train.runs.replacing import tidy_after_kill, work_directory


def profiles_file(file: str | Path) -> Path:
    """Where attnrec-export keeps the figures of the profiles beside a file."""
    return Path(file).with_suffix(".profiles.json")


OF_DESKTOPS = {".DS_Store", "Thumbs.db", "desktop.ini", ".directory", ".ipynb_checkpoints"}
"""What file managers and notebooks leave in directories that they show."""
OWN_FILES = {
    CONFIG_FILE, DATA_FILE, METRICS_FILE, WEIGHTS_FILE, CATALOGUE_FILE, EVENTS_FILE,
    ITEMS_FILE, MODEL_FILE, REPORT_FILE, profiles_file(MODEL_FILE).name,
}  # fmt: skip
SEARCH_FILE = "tuning.journal"
"""The trials of a search that is not finished."""


def check_run(directory: Path) -> None:
    """`RunError` unless there is a run in it, which is not read yet."""
    if not (directory / CONFIG_FILE).is_file():
        raise RunError(
            f"{directory} is not a run directory: it has no {CONFIG_FILE}. "
            "Train one with attnrec-train, or name the directory that attnrec-train wrote"
        )


def check_target(directory: Path, *, resume: bool = False, tuning: bool = False) -> None:
    """Refuse, before hours of training, a target that holds something else than a run.

    resume: it may have an unfinished training beside it; tuning: an unfinished search.
    """
    if not is_first_process():
        return
    real, unfinished = Path(os.path.realpath(directory)), unfinished_directory(directory)
    for place in (directory, unfinished):
        if os.path.exists(place) and not place.is_dir():  # a name too long is found below
            raise RunError(f"{place} is a file; name a directory for the run with `out`")
    try:
        str(real).encode()
    except UnicodeEncodeError as error:  # Arrow opens files by names in UTF-8
        raise RunError(f"{str(directory)!a} is not valid Unicode; name another `out`") from error
    if is_mount_point(real):
        raise RunError(
            f"{directory} is a mount point, which cannot be replaced as a whole when the run is "
            f"done; name a directory in it, such as `out={directory / 'run'}`"
        )
    if os.path.isdir(unfinished) and (lock := lock_of(directory)) is not None:
        os.close(lock)
    tidy_after_kill(directory)
    if os.path.isdir(directory):
        foreign = _foreign_in(directory)
        if foreign:
            raise RunError(
                f"{directory} holds {foreign[0]!r}, which is not part of a run and would be lost; "
                "move it away, or name another directory with `out`"
            )
    if not real.parent.is_dir():
        raise RunError(f"{real.parent} does not exist; make it first, or name another `out`")
    _check_writable(real, unfinished)
    _check_unfinished(directory, resume=resume, tuning=tuning)


def _foreign_in(directory: Path) -> list[str]:
    """What would be lost with a run directory; all of it where there is no run.

    The names of files are not enough: other programs have a `config.json` as well. A killed
    export leaves `.01234567.model.onnx`.
    """
    try:
        is_run = b'"attnrec"' in (directory / CONFIG_FILE).read_bytes()
    except OSError:
        is_run = False
    own = OWN_FILES if is_run else ()
    return sorted(
        path.name
        for path in directory.iterdir()
        if path.name not in OF_DESKTOPS
        and (re.sub(r"\A\.[0-9a-f]{8}\.", "", path.name) not in own or path.is_dir())
    )


def _check_writable(target: Path, unfinished: Path) -> None:
    """Make the directories and remove them: this also finds names too long and full disks."""
    if os.path.isdir(target) and not os.access(target, os.W_OK):
        raise RunError(f"{target} is not writable; name another `out`")
    for place in (work_directory(target), unfinished):
        try:
            if os.path.exists(place):
                place = work_directory(place / "checkpoint")
            place.mkdir()
            place.rmdir()
        except OSError as error:
            raise RunError(
                f"{place.parent} is not writable; name another `out` ({error.strerror})"
            ) from error


def _check_unfinished(directory: Path, *, resume: bool, tuning: bool) -> None:
    """Refuse to begin anew what was interrupted, or to go on with it as something else."""
    unfinished = unfinished_directory(directory)
    if search_file(directory).exists() and not (resume and tuning):
        raise RunError(
            f"{unfinished} holds a search that was interrupted: go on with attnrec tune and "
            "`resume`, or delete that directory to train anew"
        )
    if tuning and checkpoint_files(unfinished):
        raise RunError(
            f"{unfinished} holds a training that was interrupted, not a search: go on with "
            "attnrec train and `resume`, or delete that directory to search anew"
        )
    if not resume and checkpoint_files(unfinished):
        raise RunError(
            f"{unfinished} holds a training that was interrupted: go on with `resume`, "
            "or delete that directory to train anew"
        )


def search_file(run_directory: Path) -> Path:
    """The journal of a search that is not finished, beside that run directory."""
    return unfinished_directory(run_directory) / SEARCH_FILE

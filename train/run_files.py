"""The files of a run directory and of its training: names, checkpoints, the lock."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attnrec.runtime.errors import RunError

CONFIG_FILE, DATA_FILE, METRICS_FILE = "config.json", "data.json", "metrics.json"
WEIGHTS_FILE, CATALOGUE_FILE = "weights.safetensors", "catalogue.parquet"
EVENTS_FILE, ITEMS_FILE = "interactions.parquet", "items.parquet"
REPORT_FILE = "report.html"
"""The report, where one was requested."""
CHECKPOINT = ".checkpoint"
"""How the names of checkpoints end."""


def unfinished_directory(run_directory: Path) -> Path:
    """Where the checkpoints of a training into `run_directory` are; a link is followed."""
    whole = Path(os.path.realpath(run_directory))
    return whole.with_name(f"{whole.name}.unfinished")


def checkpoint_files(directory: Path) -> list[Path]:
    """Checkpoints, oldest first; none where there is no such directory."""
    return sorted(directory.glob(f"epoch-*{CHECKPOINT}"))


def is_first_process() -> bool:
    """False in those processes of a training under torchrun that write no files."""
    dist = sys.modules.get("torch.distributed")  # nobody has joined others without it
    return dist is None or not dist.is_initialized() or dist.get_rank() == 0


@contextmanager
def training_alone(run_directory: Path) -> Iterator[None]:
    """For a block that trains into `run_directory`: `RunError` where another training does so."""
    unfinished = unfinished_directory(run_directory)
    lock = None
    while lock is None:
        unfinished.mkdir(exist_ok=True)
        lock = lock_of(run_directory)
    try:
        yield
    finally:
        with suppress(OSError):  # unless something is in it, ours or not
            unfinished.rmdir()
        os.close(lock)


def lock_of(run_directory: Path) -> int | None:
    """A descriptor that holds the lock of the unfinished directory; None: that was just removed.

    The system frees the lock however a process ends. Windows, and some network file systems, have
    none: there a second training is not noticed.
    """
    if sys.platform == "win32":
        return os.open(os.devnull, os.O_RDONLY)
    import fcntl

    unfinished = unfinished_directory(run_directory)
    try:
        lock = os.open(unfinished, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise RunError(
            f"{run_directory} is being written by another command: wait for it, or name another "
            "`out`"
        ) from error
    except OSError:
        return lock
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(lock), os.stat(unfinished)):
            return lock
    os.close(lock)
    return None

"""Replacing a directory as a whole, and what is left of that where a process was killed."""

import errno
import glob
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attnrec.runtime.files import naming_full_disk, sync_directory, sync_file

_NEW, _OLD, _LOCK = "new", "old", "lock"
_REMOVING = "removing"  # the target, of which `old` is a whole copy


@contextmanager
def replace_directory(target: Path) -> Iterator[Path]:
    """Yield a new directory that takes the name of `target` when the block succeeds.

    A link is followed. The work is done in a hidden directory beside the target, which holds a
    locked file while its process lives: see `tidy_after_kill`.
    """
    target = Path(os.path.realpath(target))
    work = work_directory(target)
    work.mkdir()
    fresh, old = work / _NEW, work / _OLD
    try:
        with naming_full_disk(target), open(work / _LOCK, "wb") as lock:
            _take(lock)
            fresh.mkdir()
            yield fresh
            # On the disk before the checkpoints of its training go: a power cut must not take
            # both.
            for path in fresh.iterdir():
                sync_file(path)
            sync_directory(fresh)
            if target.exists():
                _move(target, old)
            # Killed here, a process leaves no directory under this name: see tidy_after_kill.
            os.replace(fresh, target)
            sync_directory(target.parent)
    except BaseException:
        if fresh.exists():
            _bring_back(work, target)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move(directory: Path, to: Path) -> None:
    try:
        os.replace(directory, to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A directory of the image of a container, which overlayfs does not rename.
        part = to.with_name("part")
        shutil.copytree(directory, part, symlinks=True)
        os.replace(part, to)
        to.with_name(_REMOVING).touch()
        shutil.rmtree(directory)


def _bring_back(work: Path, target: Path) -> None:
    """Give the earlier directory its name again, if it lost it."""
    old = work / _OLD
    if old.exists() and (work / _REMOVING).exists():
        shutil.rmtree(target, ignore_errors=True)
    if old.exists() and not target.exists():
        os.replace(old, target)


def work_directory(target: Path) -> Path:
    """An unused name beside `target`."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.attnrec")


def tidy_after_kill(target: Path) -> None:
    """Put right what a process left that was killed while it replaced `target`.

    Only where its lock shows that the process is gone; everything else beside it stays.
    """
    target = Path(os.path.realpath(target))
    pattern = f".{glob.escape(target.name)}.{8 * '[0-9a-f]'}.attnrec"
    for work in target.parent.glob(pattern):
        try:
            if not (work / _LOCK).is_file() or not any(map(os.path.exists, _parts(work))):
                continue  # its process has not locked it yet
            with open(work / _LOCK, "r+b") as lock:
                if not _take(lock):
                    continue
                if (work / _NEW).exists() or not target.exists():
                    _bring_back(work, target)  # the new one is made again from a checkpoint
            shutil.rmtree(work, ignore_errors=True)
        except PermissionError:
            continue  # of another user


def _parts(work: Path) -> tuple[Path, Path]:
    return work / _NEW, work / _OLD


def _take(lock: IO[bytes]) -> bool:
    """Whether this process has the lock now; the system frees it however the process ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

"""Writing files so that a reader sees either the old content or the new, never a part."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attnrec.runtime.errors import ModelFileError, RunError

MODEL_FILE = "model.onnx"
"""The default place of an exported file, inside its run."""

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Errors of a full disk, a file that may not grow, or a quota."""


def check_model_file(path: Path) -> Path:
    """The model file of a path that names it or its run. Its content is checked on loading."""
    file = Path(exported_file(path))
    if not file.exists():
        raise no_model_file(file)
    return file


def exported_file(path: str | Path) -> str | Path:
    """`path`, or the model file in it where it is a directory; `RunError` if there is none."""
    if not os.path.isdir(path):
        return path
    file = Path(path) / MODEL_FILE
    if not file.is_file():
        raise RunError(
            f"{path} is a directory without {MODEL_FILE}; export the run first "
            f"(attnrec-export {path}), or name a model file"
        )
    return file


def no_model_file(path: str | os.PathLike[str]) -> ModelFileError:
    """The error for a missing file."""
    return ModelFileError(
        address_note(path) or f"{path} does not exist; make it with attnrec-export"
    )


def address_note(path: str | os.PathLike[str]) -> str | None:
    """The message for an address instead of a path (`Path` leaves one slash); None for a path."""
    address = re.sub(r"\A([a-z][a-z0-9+]+):/+", r"\1://", os.fspath(path))
    if "://" not in address:
        return None
    return f"{address} is an address, not a file; download it first"


@contextmanager
def naming_full_disk(place: str | Path) -> Iterator[None]:
    """Name `place` in the error of a full disk, which by itself names no file."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            error.filename, error.filename2 = str(place), None
        raise


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there becomes `path` at the end.

    A link is followed: the file that it leads to is replaced, and the link stays.

    The temporary name ends in the name of `path`, for writers that go by the suffix. The block
    must create the file and close it. The content is on the disk before the name changes. After
    any error, a keyboard interrupt included, the temporary is gone and `path` is as it was.
    """
    target = Path(os.path.realpath(path))
    temporary = _beside(target)
    try:
        with naming_full_disk(path):
            yield temporary
            sync_file(temporary)
            os.replace(temporary, target)
    except BaseException:
        # Windows refuses to delete a file that the failed block left open: the block's own
        # error is the one to report.
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(target.parent)


def check_replaceable(path: str | Path, option: str) -> None:
    """`ValueError` where `replace_file` could not write `path`, to be raised before the work.

    option: the setting that names another file.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise ValueError(
            f"{target.parent} is no folder; make it, or name another file with {option}"
        )
    if os.path.exists(target) and not target.is_file():
        kind = "a folder" if target.is_dir() else "no ordinary file"
        raise ValueError(f"{path} is {kind}; name a file that can be replaced with {option}")
    if is_mount_point(target):
        raise ValueError(
            f"{path} is a mount point, which cannot be replaced; mount its folder instead, or "
            f"name another file with {option}"
        )
    probe = _beside(target)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"{target} cannot be written ({error.strerror}); name another file with {option}"
        ) from error


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at this real path: it can be neither renamed nor replaced."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:  # not Linux: a bind mount of the same file system goes unnoticed
        return os.path.ismount(path)
    # Blanks, tabs, newlines and backslashes are written as octal numbers.
    escaped = str(path)
    for character in "\\ \t\n":
        escaped = escaped.replace(character, f"\\{ord(character):03o}")
    return any(line.split(" ", 5)[4] == escaped for line in mounts)


def _beside(target: Path) -> Path:
    return target.with_name(f".{secrets.token_hex(4)}.{target.name}")


def sync_file(path: Path) -> None:
    """Force the content to the disk: else a power cut may keep the new name with no content."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Force the new name to the disk where the system can (Windows cannot open a directory)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a directory; the file itself is complete.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

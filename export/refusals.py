"""Refusals before any work: of a profile, a place, a limit, a kit folder. Needs no torch."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnrec.runtime.files import MODEL_FILE, check_replaceable, is_mount_point
from attnrec.runtime.model_file.format import is_of_attnrec
from attnrec.train.runs.target import OWN_FILES, profiles_file

NESTED = "int4+4"
"""The profile that exists for large catalogues only."""
PROFILES = ("fp32", "int8", NESTED, "int4")
"""From the largest file to the smallest."""
_MIN_OVERLAP = {"int8": 0.98, NESTED: 0.98, "int4": 0.9}


@dataclass(frozen=True)
class Limits:
    """Limits of the quantization cost; beyond them no file is written."""

    min_overlap: float | None = None
    """Least mean share of the exact top 10 that is still in the top 10; None: that of the profile,
    0.98 for those of 8 bits and 0.9 for int4."""
    max_ndcg_loss: float = 0.005
    """Largest relative loss of test NDCG@10. A larger one counts where its paired 95 % interval
    excludes 0: smaller losses may be chance."""

    def __post_init__(self) -> None:
        for name in ("min_overlap", "max_ndcg_loss"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"`{name}` must be a share from 0 to 1, not {share}")

    def overlap_of(self, profile: str) -> float:
        """The least overlap for a profile."""
        return _MIN_OVERLAP[profile] if self.min_overlap is None else self.min_overlap


def check_place(path: str | Path, profiles: Sequence[str]) -> None:
    """`ValueError` for an unknown profile, or a place that may not be written."""
    check_replaceable(path, "`out`")
    check_replaceable(profiles_file(path), "`out`")
    _check_is_ours(Path(path))
    for profile in profiles:
        if profile not in PROFILES:
            remedy = ", and `export_smallest` tries them" if profile == "auto" else ""
            raise ValueError(f"no profile {profile!r}; there are: {', '.join(PROFILES)}{remedy}")


def _check_is_ours(path: Path) -> None:
    """Refuse to replace a file that no export wrote; a damaged model file may be replaced."""
    target = Path(os.path.realpath(path))
    if target.name in OWN_FILES - {MODEL_FILE}:
        raise ValueError(
            f"{path.name} is the name of a file of a run; name another one with `out`, such as "
            f"{MODEL_FILE}"
        )
    head = _head(target)
    if head and not is_of_attnrec(head):
        raise ValueError(
            f"{path} is no model file of attnrec and would be lost; name another file with `out`, "
            "or move that one away"
        )
    figures = profiles_file(path)
    if _head(figures) and not _head(figures).startswith(b'{\n "chosen"'):
        raise ValueError(
            f"{figures} would be replaced by the figures of this export, and is not of an earlier "
            "one; name another file with `out`, or move that one away"
        )


def _head(path: Path) -> bytes:
    """The first 16 bytes; none where there is no file."""
    if not path.exists():
        return b""
    with open(path, "rb") as file:
        return file.read(16)


def check_max_mb(max_mb: float | None) -> None:
    """`ValueError` for a limit that no file can keep."""
    if max_mb is not None and not max_mb > 0:
        raise ValueError(f"`max_mb` must be above 0, not {max_mb}")


def check_kit_folder(folder: Path) -> None:
    """`ValueError` where a kit cannot be written: a folder with something in it, or a file."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(
            f"{folder} is there already, and not an empty folder: a kit is written whole or not "
            "at all; name a new folder, or remove that one first"
        )
    target = Path(os.path.realpath(folder))
    if is_mount_point(target):
        raise ValueError(
            f"{folder} is a mount point, which a kit cannot replace; name a folder in it, such as "
            f"{folder / 'kit'}"
        )
    above = next(place for place in target.parents if place.exists())
    trial = above / f".{secrets.token_hex(4)}.{folder.name}"
    try:  # permissions are not enough: root may write to /proc, and cannot
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        raise ValueError(
            f"{above} cannot be written; name a folder for the kit elsewhere ({error.strerror})"
        ) from error

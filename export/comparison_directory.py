"""The directory of a model comparison, one run a model. Needs no torch."""

import os
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import check_replaceable
from attnrec.train.models import COMPARED_MODELS
from attnrec.train.runs.replacing import tidy_after_kill
from attnrec.train.runs.target import OF_DESKTOPS, check_target

FIGURES, PICTURE = "comparison.json", "comparison.png"
UNFINISHED = "comparison.unfinished"
"""An empty file: some models were trained here, and not yet all."""
_HEX = 8 * "[0-9a-f]"
_OF_KILLED = [
    *(f".{_HEX}.{name}" for name in (FIGURES, PICTURE)),
    *(f".{name}*.{_HEX}.attnrec" for name in COMPARED_MODELS),
]
"""What a killed process leaves of a file, or of a run, that it was replacing."""


def check_comparison_directory(
    directory: Path, *, resume: bool, names: Collection[str] = tuple(COMPARED_MODELS)
) -> None:
    """Refuse, before hours of training, a folder that holds something else, or make it.

    names: of the models that belong into it.
    `ValueError` for several processes, of which each would export and compare.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError(
            "models are compared in one process: start it without torchrun, or train "
            "a single model"
        )
    if directory.is_dir():
        for name in names:
            tidy_after_kill(directory / name)
        known = OF_DESKTOPS | {
            FIGURES,
            PICTURE,
            UNFINISHED,
            *names,
            *(f"{name}.unfinished" for name in names),
        }
        there = {path.name for path in directory.iterdir()} - known
        foreign = sorted(n for n in there if not any(fnmatchcase(n, left) for left in _OF_KILLED))
        if foreign:
            raise RunError(
                f"{directory} holds {foreign[0]!r}, which is not part of a model comparison; "
                "name another folder with `out`"
            )
        if (directory / UNFINISHED).exists() and not resume:
            raise RunError(
                f"{directory} holds models of a training that was interrupted: go on with "
                "`resume`, or delete that directory to train anew"
            )
    elif directory.exists() or not directory.absolute().parent.is_dir():
        raise RunError(f"{directory} cannot be made; name a folder with `out`")
    directory.mkdir(exist_ok=True)
    for name in names:
        check_target(directory / name, resume=resume)
    for name in (FIGURES, PICTURE):
        check_replaceable(directory / name, "`out`")

"""`attnrec-train --init-from RUN`: what goes on from a run instead of beginning anew."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnrec.cli.console import err, say
from attnrec.cli.movielens import fetched
from attnrec.cli.train_progress import TrainingProgress, watching
from attnrec.runtime.errors import DataError
from attnrec.train.data.sources import reads_items
from attnrec.train.runs.run import Run
from attnrec.train.runs.train import read_log
from attnrec.train.tuning.fine_tuning import fine_tune, on_log


def train_from(given: Mapping[str, Any], target: Path) -> Run:
    """The run that was begun with, with rounded item vectors."""
    before = Run.load(given["init_from"])
    names = ("seed", "threads", "max_minutes")
    own = {name: given[name] for name in names if given[name] is not None}
    before = replace(before, config=replace(before.config, **own))
    if given["data"] is not None:
        before = _on_given_log(before, given)
    epochs = {} if given["epochs"] is None else {"epochs": given["epochs"]}
    with TrainingProgress(quiet=given["quiet"]) as progress:
        return fine_tune(
            before,
            quantize_aware=given["quantize_aware"],
            out=target,
            **epochs,
            **watching(progress, given),
        )


def _on_given_log(run: Run, given: Mapping[str, Any]) -> Run:
    """The log is read as that of the run was."""
    if given["users"] is not None and not run.recipe.tag_cols:
        raise ValueError(f"the run {run.directory} reads no tags of users: leave --users out")
    if given["items"] is not None and not reads_items(run.recipe):
        raise ValueError(
            f"the run {run.directory} reads no titles and no attributes: leave --items out"
        )
    source = fetched(given["data"], quiet=given["quiet"])
    try:
        with err.status("reading the log"):
            log, report = read_log(source, run.recipe, items=given["items"], users=given["users"])
    except DataError as error:
        raise DataError(
            f"{error.problem} (read by the recipe of {run.directory}, so it must be a log of that "
            "kind)"
        ) from error
    for line in report.lines():
        say(line)
    return on_log(run, log, report)

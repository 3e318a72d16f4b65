"""The log that `attnrec-train` was given, read."""

from collections.abc import Mapping
from typing import Any

from attnrec.cli.console import err, say
from attnrec.cli.movielens import fetched
from attnrec.cli.train_options import recipe_of
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.recipe import DataRecipe, DataReport
from attnrec.train.runs.train import read_log


def read_given(given: Mapping[str, Any]) -> tuple[Interactions, DataReport, DataRecipe]:
    """Read the log, with its tables, and tell what was in it."""
    source = fetched(given["data"], quiet=given["quiet"])
    recipe = recipe_of(given, source)
    with err.status("reading the log"):
        log, report = read_log(source, recipe, items=given["items"], users=given["users"])
    for line in report.lines():
        say(line)
    return log, report, recipe

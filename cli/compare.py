"""`attnrec-train --model all`: which model suits this log, in one command."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.progress import Progress

from attnrec.cli.compare_table import print_comparison
from attnrec.cli.console import err, say, with_options
from attnrec.cli.train_log import read_given
from attnrec.cli.train_options import config_of
from attnrec.cli.train_progress import TrainingProgress
from attnrec.train.fitting.loop import Progress as TrainingWatcher


def train_all(given: Mapping[str, Any], target: Path) -> None:
    """Train, export and compare the family; print the table, or JSON."""
    # Only here: it needs the packages of the export.
    from attnrec.export.model_comparison import compare_models

    config, quiet = config_of(given), given["quiet"]
    log, report, recipe = read_given(given)

    def watch(name: str) -> AbstractContextManager[TrainingWatcher]:
        say(f"--- {name}")
        return TrainingProgress(quiet=quiet)

    bar = Progress(console=err, transient=True, disable=quiet)
    task = bar.add_task("comparing", total=None)

    def tick(done: int, total: int) -> None:
        bar.start()  # not before: the bars of the trainings come first
        bar.update(task, completed=done, total=total)

    try:
        family = compare_models(
            log,
            report,
            recipe,
            config,
            out=target,
            allow_users=given["allow_users"],
            resume=given["resume"],
            watch=watch,
            tick=tick,
        )
    finally:
        bar.stop()
    if given["as_json"]:
        print(json.dumps(family.to_json()))
        return
    print_comparison(family.comparison)
    for name, reason in family.left_out.items():
        print(f"left out: {name}: {with_options(reason)}")
    say(f"one run a model in {target}, with comparison.json and comparison.png")

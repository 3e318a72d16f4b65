"""`attnrec-train --model all`: which model suits this log, in one command."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.progress import Progress

from attnrec.cli.console import err, say, with_options
from attnrec.cli.evaluate import print_comparison
from attnrec.cli.training_progress import TrainingProgress
from attnrec.train.config import TrainConfig
from attnrec.train.interactions import Interactions
from attnrec.train.loop import Progress as TrainingWatcher
from attnrec.train.recipe import DataRecipe
from attnrec.train.report import DataReport

Read = Callable[[], tuple[Interactions, DataReport, DataRecipe]]


def train_all(config: TrainConfig, read: Read, out: Path | None, given: dict[str, Any]) -> None:
    """Train, export and compare the family; print the table, or JSON."""
    # Only here: it needs the packages of the export.
    from attnrec.export.family import train_family

    target, quiet = out or Path("attnrec-all"), given["quiet"]
    log, report, recipe = read()

    def watch(name: str) -> AbstractContextManager[TrainingWatcher]:
        say(f"--- {name}")
        return TrainingProgress(quiet=quiet)

    bar = Progress(console=err, transient=True, disable=quiet)
    task = bar.add_task("comparing", total=None)

    def tick(done: int, total: int) -> None:
        bar.start()  # not before: the bars of the trainings come first
        bar.update(task, completed=done, total=total)

    try:
        family = train_family(
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

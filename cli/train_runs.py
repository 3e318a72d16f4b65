"""What `attnrec-train` does in each way to call it, once nothing speaks against it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnrec.cli.compare import train_all
from attnrec.cli.console import say
from attnrec.cli.train_log import read_given
from attnrec.cli.train_options import config_of
from attnrec.cli.train_progress import TrainingProgress, watching
from attnrec.cli.train_result import print_result
from attnrec.cli.train_tuning import train_tuned
from attnrec.train.run_files import CONFIG_FILE
from attnrec.train.runs.final import train_final
from attnrec.train.runs.run import Run
from attnrec.train.runs.train import train_log

Given = Mapping[str, Any]


def _train_new(given: Given, target: Path) -> Run:
    config = config_of(given)
    _say_replaced(target)
    log, report, recipe = read_given(given)
    with TrainingProgress(quiet=given["quiet"]) as progress:
        return train_log(log, report, recipe, config, out=target, **watching(progress, given))


def _train_tuned(given: Given, target: Path) -> Run:
    _say_replaced(target)
    return train_tuned(given, target)


def _train_final(given: Given, target: Path) -> Run:
    before, threads = Run.load(given["final"]), given["threads"]
    if threads is not None:
        before = replace(before, config=replace(before.config, threads=threads))
    with TrainingProgress(quiet=given["quiet"]) as progress:
        return train_final(before, out=target, **watching(progress, given))


def _say_replaced(target: Path) -> None:
    if (target / CONFIG_FILE).is_file():
        say(f"{target} holds a run, which this one replaces when it is done")


def _printed(make: Callable[[Given, Path], Run]) -> Callable[[Given, Path], None]:
    return lambda given, target: print_result(make(given, target), as_json=given["as_json"])


RUNS: Mapping[str, Callable[[Given, Path], None]] = {
    "new": _printed(_train_new),
    "tune": _printed(_train_tuned),
    "final": _printed(_train_final),
    "all": train_all,
}
"""By the names of `train_modes.MODES`."""

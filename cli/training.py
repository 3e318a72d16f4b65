"""What `train`, `tune` and `compare` do once their options are checked. Needs torch."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from attnrec.cli.console import err, say, with_options
from attnrec.cli.options import Shared, TrainingOptions
from attnrec.cli.progress import SearchProgress, TrainingProgress
from attnrec.cli.results import print_comparison, print_run, run_as_json
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.movielens import TERMS, download_movielens
from attnrec.train.data.recipe import DataRecipe, DataReport
from attnrec.train.data.sources import with_known_columns
from attnrec.train.fitting.loop import Progress as Watcher
from attnrec.train.run_files import CONFIG_FILE
from attnrec.train.runs.final import check_held_out, train_final_log
from attnrec.train.runs.going_on import check_apart, check_going_on
from attnrec.train.runs.run import Run
from attnrec.train.runs.train import read_log, train_log
from attnrec.train.tuning.search import tune_log


def train_new_run(
    options: TrainingOptions,
    out: Path,
    *,
    resume: bool,
    report: bool,
    like: Run | None = None,
    init_from: Run | None = None,
) -> Run:
    """A run on the log of the options, which is read as that of `like`, if that is given."""
    _note_replaced(out)
    log = read_log_of(options, like)
    minutes = options.config.max_minutes
    with TrainingProgress(math.inf if minutes is None else 60 * minutes) as bars:
        return train_log(
            *log, options.config, init_from=init_from, out=out, progress=bars, resume=resume,
            reporting=bars.on_report if report else None,
        )  # fmt: skip


def train_after(
    follow: str, directory: Path, shared: Shared, out: Path, *, resume: bool, report: bool
) -> Run:
    """The run that follows the one in `directory`: "final", "like" or "init_from"."""
    before = Run.load(directory)
    if follow == "final":
        return _train_final(before, shared, out, resume=resume, report=report)
    goes_on = follow == "init_from"
    config = before.config_to_go_on() if goes_on else before.config_again()
    options = shared((before.recipe, config))
    if goes_on:
        check_going_on(before, options.config, options.recipe, out)
    check_apart(out, before)
    init_from = before if goes_on else None
    return train_new_run(
        options, out, resume=resume, report=report, like=before, init_from=init_from
    )


def _train_final(before: Run, shared: Shared, out: Path, *, resume: bool, report: bool) -> Run:
    """On every event of its log, or of the one that is given."""
    check_held_out(before)
    options, log = shared(), None
    if options.config.threads is not None:
        before = replace(before, config=replace(before.config, threads=options.config.threads))
    if options.data is not None:
        log = read_log_of(shared((before.recipe, before.config)), before)[:2]
    with TrainingProgress() as bars:
        reporting = bars.on_report if report else None
        return train_final_log(
            before, log, out=out, progress=bars, resume=resume, reporting=reporting
        )


def tune_run(
    options: TrainingOptions, out: Path, minutes: float, *, resume: bool, report: bool
) -> Run:
    """The best trial of a search on the log of the options."""
    _note_replaced(out)
    log = read_log_of(options)
    with SearchProgress(minutes * 60) as bars:
        return tune_log(
            *log, options.config, minutes=minutes, out=out, progress=bars, resume=resume,
            reporting=bars.on_report if report else None,
        )  # fmt: skip


def compare_and_print(
    options: TrainingOptions,
    out: Path,
    *,
    allow_users: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Train, export and compare every model; print the table, or JSON."""
    # Only here: it needs the packages of the export.
    from attnrec.export.model_comparison import compare_models

    log = read_log_of(options)

    with comparison_bars() as bars:
        compared = compare_models(
            *log, options.config, out=out, allow_users=allow_users, resume=resume, **bars
        )
    if as_json:
        print(json.dumps(compared.to_json()))
        return
    print_comparison(compared.comparison)
    for name, reason in compared.left_out.items():
        print(f"left out: {name}: {with_options(reason)}")
    say(f"one run a model in {out}, with comparison.json and comparison.png")


@contextmanager
def comparison_bars() -> Iterator[Mapping[str, Any]]:
    """Bars of trainings and of comparisons, as arguments of `compare_models`."""
    bar = Progress(console=err, transient=True, disable=err.quiet)
    task = bar.add_task("comparing", total=None)

    def watch(name: str) -> AbstractContextManager[Watcher]:
        bar.stop()  # the bars of the trainings take its place
        say(f"--- {name}")
        return TrainingProgress()

    def tick(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield {"watch": watch, "tick": tick}
    finally:
        bar.stop()


def print_trained(run: Run, *, as_json: bool) -> None:
    """For a person, or one JSON object."""
    if as_json:
        print(json.dumps(run_as_json(run)))
    else:
        print_run(run)


def _note_replaced(out: Path) -> None:
    if (out / CONFIG_FILE).is_file():
        say(f"{out} holds a run, which this one replaces when it is done")


def read_log_of(
    options: TrainingOptions, like: Run | None = None
) -> tuple[Interactions, DataReport, DataRecipe]:
    """Read the log, with its tables, and print what is in it; like: as that of this run."""
    source = _downloaded(str(options.data)) if options.is_download else options.data
    recipe = with_known_columns(source, options.recipe)
    with err.status("reading the log"):
        tables = {"items": options.items, "users": options.users}
        log, report = read_log(source, recipe, **tables, like=like)
    for line in report.lines():
        say(line)
    return log, report, recipe


def _downloaded(name: str) -> Path:
    """An archive of MovieLens, after its terms, with a bar."""
    say(TERMS)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=err, transient=True, disable=err.quiet) as bar:
        task = bar.add_task(name, visible=False)

        def on_bytes(received: int, total: int | None) -> None:
            bar.update(task, completed=received, total=total, visible=True)

        path = download_movielens(name, progress=on_bytes)
    say(f"{name} is kept in {path}")
    return path

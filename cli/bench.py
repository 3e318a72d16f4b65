"""`attnrec-bench`: what model files cost on this machine. Runs on a device: needs no torch."""

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import onnxruntime
import typer
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from attnrec.cli.console import (
    Json,
    Quiet,
    Verbose,
    Version,
    check_picture,
    err,
    out,
    run_command,
    say,
    set_verbosity,
)
from attnrec.runtime.files import replace_file
from attnrec.runtime.measuring import BATCHES, Call, Subject, Timing, cold_starts, measure
from attnrec.runtime.version import __version__

_BUSY = "Trust ratios one at a time; times, threads and large batches look worse than they are"
Timings = Mapping[str, list[Timing]]
"""By file, and of torch under its own name; the first file comes first."""


def bench(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Model files. Default: attnrec-run/model.onnx"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Time the torch model of this run beside the files."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long to measure a file, about.")] = 15,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw latency and throughput.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Measure speed, cold start, memory and size of model files on this machine.

    The files are asked for 10 items after made-up histories, through the Python library, on one
    thread unless told otherwise. Several files, and torch, take turns, so that a busy machine
    favours none of them. Ratios repeat; times belong to the machine.
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    if not 0 < seconds < math.inf:
        raise ValueError(f"--seconds must be above 0, not {seconds}")
    draw = None if plot is None else _drawing(plot)
    paths = dict.fromkeys(files or [Path("attnrec-run/model.onnx")])
    subjects = [Subject.of_file(path) for path in paths]
    everyone = subjects if against is None else [*subjects, _torch_model(against, subjects)]
    with _progress(seconds * len(everyone), quiet) as tick:
        starts = cold_starts(subjects, 0.25 * seconds * len(subjects), tick)
        wall, cpu = time.perf_counter(), time.process_time()
        found = measure(everyone, 0.75 * seconds * len(everyone), tick)
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    if share < 0.9:
        say(f"this machine is busy: {share:.0%} of a core for the measurement. {_BUSY}")
    timings = {subject.name: rows for subject, rows in zip(everyone, found, strict=True)}
    if draw is not None:
        draw(timings)
    facts = [_facts(subject, start) for subject, start in zip(subjects, starts, strict=True)]
    if not as_json:
        out.print(_table(facts, timings))
        print(_advice(facts, timings))
        return
    result = {
        "machine": {
            "system": platform.platform(), "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__, "attnrec": __version__, "core_share": share,
        },
        "files": facts,
        "timings": {name: [asdict(timing) for timing in rows] for name, rows in timings.items()},
        "advice": _advice(facts, timings),
    }  # fmt: skip
    print(json.dumps(result))


@contextmanager
def _progress(seconds: float, quiet: bool) -> Iterator[Call]:
    # Without the thread that would redraw the bar in the midst of what is timed.
    with Progress(console=err, transient=True, auto_refresh=False, disable=quiet) as progress:
        task = progress.add_task("measuring", total=seconds)
        started = time.monotonic()
        yield lambda: progress.update(task, completed=time.monotonic() - started, refresh=True)


@contextmanager
def _extra(option: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{option} needs {error.name}, which is not installed: pip install 'attnrec[train]'"
        ) from error


def _torch_model(directory: Path, subjects: Sequence[Subject]) -> Subject:
    with _extra("--against"):
        import torch

        from attnrec.train import Run
        from attnrec.train.reference import Reference
    torch.set_num_threads(1)
    run = Run.load(directory)
    ids = sorted(run.split.catalogue.item_ids.tolist())
    for subject in subjects:
        if subject.item_ids != ids:
            raise ValueError(
                f"{directory} has another catalogue ({len(ids):,} items) than {subject.name} "
                f"({len(subject.item_ids):,} items); name the run that the file comes from"
            )
    # Without exclusion and top-k, which the files do as well: the ratio is a lower bound.
    reference = Reference(run.model, run.split.catalogue, users=run.split.users)
    return replace(subjects[0], name="torch eager, only scores", ask={1: reference.scores})


def _facts(subject: Subject, start: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "file": subject.name, "profile": subject.info.profile, "n_items": subject.info.n_items,
        "file_mb": os.path.getsize(subject.name) / 1e6, "cold_start": start,
    }  # fmt: skip


def _table(facts: Sequence[Mapping[str, Any]], timings: Timings) -> Table:
    """A column for each file, and for torch where it was timed."""
    table = Table(box=None, header_style="bold")
    short = [Path(name).name for name in timings]
    for name in ("", *(short if len({*short}) == len(short) else timings)):
        table.add_column(
            Text(name), justify="right" if name else "left", overflow="fold", no_wrap=not name
        )
    for name in ("profile", "n_items", "file_mb"):
        table.add_row(name.replace("_", " "), *(_cell(fact[name]) for fact in facts))
    table.add_row("\n[bold]fresh process: ms, resident MB")
    for name in facts[0]["cold_start"]:
        cells = [_cell(fact["cold_start"][name]) for fact in facts]
        table.add_row(name.replace("_", " "), *cells)
    table.add_row("\n[bold]microseconds: median / p99")
    rows = next(iter(timings.values()))
    by_length = {t.history: [_one_by_one(r)[t.history] for r in timings.values()] for t in rows}
    for history, same in by_length.items():
        cells = [f"{timing.p50_us:,.0f} / {timing.p99_us:,.0f}" for timing in same]
        table.add_row(f"history of {history}", *cells)
    table.add_row(f"\n[bold]histories of {rows[-1].history} a second")
    for kind in _usual(rows):
        speeds = [_usual(r).get(kind) for r in timings.values()]  # of torch only on one thread
        cells = [f"{timing.histories_per_second:,.0f}" if timing else "" for timing in speeds]
        table.add_row(_label(*kind), *cells)
    return table


def _cell(value: float | str | None) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else value


def _label(batch: int, n_threads: int, askers: int) -> str:
    label = "one at a time" if batch == 1 else f"batches of {batch}"
    label += f", n_threads={n_threads}" if n_threads > 1 else ""
    return label + (f", {askers} Python threads" if askers > 1 else "")


def _one_by_one(rows: Sequence[Timing]) -> dict[int, Timing]:
    """Single histories on one thread, by length."""
    return {t.history: t for t in rows if t.batch == t.n_threads == t.askers == 1}


def _usual(rows: Sequence[Timing]) -> dict[tuple[int, int, int], Timing]:
    """Batches and threads, at the length of the last timing."""
    usual = rows[-1].history
    return {(t.batch, t.n_threads, t.askers): t for t in rows if t.history == usual}


def _advice(facts: Sequence[Mapping[str, Any]], timings: Timings) -> str:
    """One line, of what was measured and of nothing else; threads and batches: the first file."""
    first, *others = timings
    speed = {kind: t.histories_per_second for kind, t in _usual(timings[first]).items()}
    single = {n: speed[b, n, a] for b, n, a in speed if b == a == 1}
    wanted = max(single, key=lambda n: single[n] / (1 if n == 1 else 1.1))  # more is not free
    said = [f"n_threads={wanted} for single histories"]
    said += [f"{n} threads: {single[n] / single[1]:.2f} times the speed" for n in list(single)[1:]]
    most = max(speed, key=speed.__getitem__)
    said.append(
        f"most a second: {_label(*most)}, {speed[most] / single[1]:.2f} times one at a time"
    )
    size = {fact["file"]: fact["file_mb"] for fact in facts}
    for name in others:
        theirs, largest = _usual(timings[name]), max(BATCHES)
        one, many = (
            theirs[batch, 1, 1].histories_per_second / speed[batch, 1, 1] for batch in (1, largest)
        )
        said.append(f"{name}: {one:.2f} times the speed, {many:.2f} in batches of {largest}")
        said[-1] += f", {size[name] / size[first]:.2f} times the size" if name in size else ""
    return f"{first}: {'; '.join(said)}"


def _drawing(path: Path) -> Callable[[Timings], None]:
    """A function that draws; what hinders it is said before anything is measured."""
    with _extra("--plot"):
        from matplotlib.figure import Figure
    check_picture(path)

    def draw(timings: Timings) -> None:
        figure = Figure(figsize=(10, 4), layout="constrained")
        by_length, by_batch = figure.subplots(1, 2)
        for name, rows in timings.items():
            lengths = {str(n): timing.p50_us for n, timing in _one_by_one(rows).items()}
            by_length.plot(lengths.keys(), lengths.values(), marker="o")
            speed = [_usual(rows)[batch, 1, 1].histories_per_second for batch in BATCHES]
            by_batch.plot([str(batch) for batch in BATCHES], speed, marker="o", label=name)
        by_length.set_title("microseconds of an answer, median")
        by_length.set_xlabel("events of the history")
        by_batch.set_title("histories per second, one thread")
        by_batch.set_xlabel("histories of a call")
        for axes in (by_length, by_batch):
            axes.set_ylim(bottom=0)
            axes.grid(axis="y", alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        by_batch.legend(frameon=False)
        with replace_file(path) as temporary:
            figure.savefig(temporary, dpi=120)

    return draw


def main() -> None:
    """Entry point."""
    run_command(bench)

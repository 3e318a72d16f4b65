"""What `attnrec bench` does once its options are checked: it measures and prints."""

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnxruntime
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from attnrec.cli.bench.timing import BATCHES, Call, Subject, Timing, cold_starts, measure
from attnrec.cli.console import err, out, say
from attnrec.runtime.errors import counted, kind_of_ids
from attnrec.runtime.version import __version__

Facts = Sequence[Mapping[str, Any]]
"""Of each file: name, profile, catalogue, size, cold start, its loss against fp32."""
Timings = Mapping[str, list[Timing]]
"""By file, and of torch under its own name; the first file comes first."""

_BUSY = "Trust ratios one at a time; times, threads and large batches look worse than they are"
_STEPS = {
    "python_numpy_ms": "start Python, import numpy",
    "onnxruntime_ms": "import onnxruntime",
    "attnrec_ms": "import attnrec",
    "load_ms": "load the file",
    "first_answer_ms": "first answer",
    "total_ms": "all of these",
    "load_check_ms": "of loading, checks",
    "imports_mb": "the imports",
    "load_mb": "loading",
    "answer_mb": "the first answer",
    "pages_mb": "of that, pages of files",
}


def measure_and_print(
    paths: Sequence[Path],
    against: Path | None,
    seconds: float,
    *,
    as_json: bool,
) -> None:
    """Time the files, and torch, for `seconds` each; print the figures."""
    subjects = [Subject.of_file(path) for path in paths]
    everyone = subjects if against is None else [*subjects, _torch_model(against, subjects)]
    with _progress(seconds * len(everyone)) as tick:
        starts = cold_starts(subjects, 0.25 * seconds * len(subjects), tick)
        wall, cpu = time.perf_counter(), time.process_time()
        found = measure(everyone, 0.75 * seconds * len(everyone), tick)
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    if share < 0.9:
        say(f"this machine is busy: {share:.0%} of a core for the measurement. {_BUSY}")
    timings = {subject.name: rows for subject, rows in zip(everyone, found, strict=True)}
    facts = [_facts(subject, start) for subject, start in zip(subjects, starts, strict=True)]
    if not as_json:
        out.print(_table(facts, timings))
        for line in _ratios(facts, timings):
            print(line)
        return
    result = {
        "machine": {
            "system": platform.platform(), "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__, "attnrec": __version__, "core_share": share,
        },
        "files": facts,
        "timings": {name: [asdict(timing) for timing in rows] for name, rows in timings.items()},
    }  # fmt: skip
    print(json.dumps(result))


@contextmanager
def _progress(seconds: float) -> Iterator[Call]:
    # Without the thread that would redraw the bar in the midst of what is timed.
    with Progress(console=err, transient=True, auto_refresh=False, disable=err.quiet) as progress:
        task = progress.add_task("measuring", total=seconds)
        started = time.monotonic()
        yield lambda: progress.update(task, completed=time.monotonic() - started, refresh=True)


def _torch_model(directory: Path, subjects: Sequence[Subject]) -> Subject:
    try:
        import torch

        from attnrec.train import Run
        from attnrec.train.evaluation.torch_recommender import TorchRecommender
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--against needs {error.name}, which is not installed: pip install 'attnrec[train]'"
        ) from error
    torch.set_num_threads(1)
    run = Run.load(directory)
    ids = sorted(run.split.catalogue.item_ids.tolist())
    for subject in subjects:
        if subject.item_ids != ids:
            kind = "int64" if isinstance(ids[0], int) else "string"
            raise ValueError(
                f"{directory} has another catalogue ({_catalogue(len(ids), kind)}) than "
                f"{subject.name} ({_catalogue(subject.info.n_items, subject.info.id_type)}); name "
                "the run that the file comes from"
            )
    # Without exclusion and top-k, which the files do as well: the ratio is a lower bound.
    recommender = TorchRecommender(run.model, run.split.catalogue, users=run.split.users)
    return replace(subjects[0], name="torch eager, only scores", ask={1: recommender.scores})


def _catalogue(n_items: int, id_type: str) -> str:
    return f"{counted(n_items, 'item')}, {kind_of_ids(id_type)} ids"


def _facts(subject: Subject, start: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "file": subject.name, "profile": subject.info.profile, "n_items": subject.info.n_items,
        "catalogue_sha256": subject.info.catalogue_sha256,
        "against_fp32": (subject.info.parity or {}).get("against_fp32"),
        "file_mb": os.path.getsize(subject.name) / 1e6, "cold_start": start,
    }  # fmt: skip


def _ratios(facts: Facts, timings: Timings) -> Iterator[str]:
    """Every other file, and torch, against the first file."""
    first, *others = timings
    size = {fact["file"]: fact["file_mb"] for fact in facts}
    own, most = _usual(timings[first]), max(BATCHES)
    for name in others:
        theirs = _usual(timings[name])
        one, many = (
            theirs[kind].histories_per_second / own[kind].histories_per_second
            for kind in ((1, 1, 1), (most, 1, 1))
        )
        smaller = f", {size[name] / size[first]:.2f} times the size" if name in size else ""
        yield (
            f"{name}: {one:.2f} times the speed of {Path(first).name}, {many:.2f} in batches of "
            f"{most}{smaller}"
        )


def _table(facts: Facts, timings: Timings) -> Table:
    """A column for each file, and for torch where it was timed."""
    table = Table(box=None, header_style="bold")
    short = [Path(name).name for name in timings]
    for name in ("", *(short if len({*short}) == len(short) else timings)):
        table.add_column(
            Text(name), justify="right" if name else "left", overflow="fold", no_wrap=not name
        )
    for name in ("profile", "n_items", "file_mb"):
        table.add_row(name.replace("_", " "), *(_cell(fact[name]) for fact in facts))
    for title, unit in (("fresh process: ms", "_ms"), ("resident MB after", "_mb")):
        table.add_row(Text(f"\n{title}", style="bold"))
        measured = [
            name for name in _STEPS if name.endswith(unit) and name in facts[0]["cold_start"]
        ]
        for name in measured:
            cells = [_cell(fact["cold_start"][name]) for fact in facts]
            table.add_row(f"  {_STEPS[name]}", *cells)
    rows = next(iter(timings.values()))
    table.add_row(Text("\nmicroseconds: median / p99", style="bold"))
    for history in _one_by_one(rows):
        table.add_row(
            f"  history of {history}", *(_times(_one_by_one(r)[history]) for r in timings.values())
        )
    for batch in BATCHES[1:]:
        cells = [_times(_usual(r)[batch, 1, 1]) for r in timings.values()]
        table.add_row(f"  {batch} histories of {rows[-1].history}", *cells)
    table.add_row(Text(f"\nhistories of {rows[-1].history} a second", style="bold"))
    for kind in _usual(rows):
        speeds = [_usual(r).get(kind) for r in timings.values()]  # of torch only on one thread
        cells = [f"{timing.histories_per_second:,.0f}" if timing else "" for timing in speeds]
        table.add_row(f"  {_label(*kind)}", *cells)
    return table


def _times(timing: Timing) -> str:
    return f"{timing.p50_us:,.0f} / {timing.p99_us:,.0f}"


def _cell(value: float | str | None) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else value


def _label(batch: int, n_threads: int, askers: int) -> str:
    """How histories are answered, in words."""
    words = "one at a time" if batch == 1 else f"batches of {batch}"
    words += f", n_threads={n_threads}" if n_threads > 1 else ""
    return words + (f", {askers} Python threads" if askers > 1 else "")


def _one_by_one(rows: Sequence[Timing]) -> dict[int, Timing]:
    """Single histories on one thread, by length."""
    return {t.history: t for t in rows if t.batch == t.n_threads == t.askers == 1}


def _usual(rows: Sequence[Timing]) -> dict[tuple[int, int, int], Timing]:
    """Batches and threads, at the length of the last timing."""
    length = rows[-1].history
    return {(t.batch, t.n_threads, t.askers): t for t in rows if t.history == length}

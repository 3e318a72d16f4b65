"""What the commands print of runs, of searches and of compared files. Needs no torch."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from attnrec.cli.console import out, say
from attnrec.runtime.errors import counted
from attnrec.train.evaluation.comparison import Comparison, FileFigures
from attnrec.train.fitting.config import value_text
from attnrec.train.report.verdicts import changes, ended, origin, ranked
from attnrec.train.run_files import REPORT_FILE
from attnrec.train.splits.baskets import basket_note

if TYPE_CHECKING:
    from attnrec.train.runs.run import Run  # with torch

_N_SHOWN = 8  # trials; metrics.json has all of them

Search = Mapping[str, Any]
"""The entry "tuning" of the metrics of a run."""


def plain_table() -> Table:
    """Without lines, for a narrow terminal."""
    return Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)


def run_as_json(run: "Run") -> dict[str, Any]:
    """What --json prints of a run."""
    metrics = run.metrics
    return {
        "run": str(run.directory),
        "model": run.config.model,
        "final": run.split.final,
        "best_epoch": metrics.best_epoch,
        "split": metrics.split,
        "part": "valid",
        **({"of": metrics.of} if run.split.final else {}),
        **metrics.valid,
        "report": str(run.directory / REPORT_FILE) if metrics.report is not None else None,
        **({"init_from": metrics.init_from} if metrics.init_from is not None else {}),
        **({"tuning": metrics.tuning} if metrics.tuning is not None else {}),
    }


def print_run(run: "Run") -> None:
    """The search that led to a run, if there was one; its figures, and what comes next."""
    metrics, valid = run.metrics, run.metrics.valid
    if metrics.tuning is not None and not run.split.final:
        _print_search(metrics.tuning)
    if metrics.init_from is not None:
        print(f"began from {origin(metrics.init_from)}")
    whose = "before the held-out events were added" if run.split.final else "validation"
    sample = f", a sample of {valid['sample_of']:,}" if "sample_of" in valid else ""
    print(
        f"{run.config.model}: NDCG@10 {valid['ndcg@10']:.4f}, HitRate@10 "
        f"{valid['hit_rate@10']:.4f} ({whose}, {counted(valid['n_users'], 'user')}{sample})"
    )
    if metrics.report is not None:
        _print_best_baseline(metrics.report["traditional"])
    if (note := basket_note(metrics.to_json())) is not None:
        print(f"note: {note}")
    say(f"run written to {run.directory}. Next: attnrec-export {shlex.quote(str(run.directory))}")
    if metrics.report is not None:
        say(f"report: {run.directory / REPORT_FILE}")


def _print_best_baseline(models: list[dict[str, Any]]) -> None:
    """The model to beat."""
    from attnrec.train.report.figures import best_of  # imports torch

    best = best_of(models)
    if best is None:
        return
    low, high = best["ndcg@10_to_run_interval"]
    print(
        f"best baseline, {best['model']}: NDCG@10 {best['ndcg@10']:.4f}, "
        f"{best['ndcg@10_to_run']:+.4f} to this run (paired 95 % interval {low:+.4f} to "
        f"{high:+.4f})"
    )


def _print_search(search: Search) -> None:
    """The best trials, what they changed, which settings mattered, and the gain."""
    trials = ranked(search["trials"])
    table = plain_table()
    for name in ("trial", "NDCG@10", "minutes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ended", no_wrap=True)
    table.add_column("against the recipe", overflow="fold")
    for trial in trials[:_N_SHOWN]:
        changed = changes(trial["values"], search["recipe"])
        table.add_row(
            str(trial["number"]),
            "-" if trial["ndcg@10"] is None else f"{trial['ndcg@10']:.4f}",
            f"{trial['seconds'] / 60:.1f}",
            ended(trial["outcome"], len(trial["curve"])),
            ", ".join(f"{name} {value_text(value)}" for name, value in changed.items())
            or "the recipe",
        )
    out.print(table)
    if len(trials) > _N_SHOWN:
        print(f"{len(trials) - _N_SHOWN} more trials: in metrics.json")
    if search["importance"]:
        shares = [f"{name} {share:.0%}" for name, share in search["importance"].items()]
        print(f"what mattered (share of the differences): {', '.join(shares[:5])}")
    _print_gain(search)


def _print_gain(search: Search) -> None:
    n_trials = len(search["trials"])
    used = (
        f"{counted(n_trials, 'trial')} in {search['seconds'] / 60:.1f} of "
        f"{search['minutes']:g} minutes"
    )
    if search["trials"][0]["outcome"] == "cut short":
        print(f"note: {used}: too few for the recipe, which was cut short; give --minutes more")
    elif n_trials == 1:
        print(f"note: {used}: too few for more than the recipe; give --minutes more")
    elif search["best"] == 0:
        print(f"search: {used}; nothing was better than the recipe, which is kept")
    else:
        low, high = search["gain_interval"]
        print(
            f"search: {used}; trial {search['best']} is kept, {search['gain']:+.4f} NDCG@10 to "
            f"the recipe (paired 95 % interval {low:+.4f} to {high:+.4f})"
        )
        print(
            f"note: the best of {n_trials} trials on the same validation users is partly luck, "
            "which no interval shows; attnrec-export and attnrec-evaluate measure the run on the "
            "test events"
        )


def print_comparison(comparison: Comparison, *, slices: bool = False) -> None:
    """A table, best file first."""
    out.print(_comparison_table(comparison))
    if comparison.files[0].by_age:
        out.print(_ages(comparison))
    if slices:
        out.print(_slices(comparison))
    if slices or comparison.files[0].by_diversity:
        for table in _lists(comparison):
            out.print(table)
    _print_notes(comparison)


def _comparison_table(comparison: Comparison) -> Table:
    files = comparison.best_first
    third = "recall@10" if "recall@10" in files[0].metrics.values else "mrr@10"
    names = ("hit_rate@10", third, "coverage@10")
    beside = ("to the best",) if len(files) > 1 else ()
    table = _new_table(("NDCG@10", *beside, *names, "MB", "us/user"))
    for name, file in zip(_names(files), files, strict=True):
        values = file.metrics.values
        low, high = file.metrics.intervals["ndcg@10"]
        less, more = file.to_best_interval
        difference = f"{file.to_best:+.4f}\n{less:+.3f} {more:+.3f}"
        if file is files[0]:
            difference = "best"
        table.add_row(
            name,
            f"{values['ndcg@10']:.4f}\n{low:.3f}-{high:.3f}",
            *(difference for _ in beside),
            *(f"{values[name]:.4f}" for name in names),
            f"{file.n_bytes / 1e6:.2f}",
            f"{file.us_per_user:,.0f}",
        )
    return table


def _ages(comparison: Comparison) -> Table:
    """NDCG@10 of each file by days since its last training event."""
    files = comparison.best_first
    table = plain_table()
    names = (f"NDCG@10\n{name}" for name in _names(files))
    for name in ("days since\nthe cut", "users", *names, "unknown\nitems"):
        table.add_column(name, justify="right", no_wrap=True)
    for windows in zip(*(file.by_age for file in files), strict=True):
        first, cells = windows[0], []
        for window in windows:
            low, high = window["ndcg@10_interval"]
            cells.append(f"{window['ndcg@10']:.4f} ±{(high - low) / 2:.3f}")
        days = f"{first['from_days']}-{first['to_days']}"
        table.add_row(days, f"{first['n_users']:,}", *cells, f"{first['missing_targets']:.1%}")
    return table


def _slices(comparison: Comparison) -> Table:
    """NDCG@10 of each file in each slice, with half the width of its interval."""
    files = comparison.best_first
    slices = files[0].slices
    table = _new_table([name.replace("_", "\n") for name in slices])
    table.add_row("users", *(f"{part['n_users']:,}" for part in slices.values()), style="dim")
    for name, file in zip(_names(files), files, strict=True):
        cells = []
        for part in file.slices.values():
            low, high = part["ndcg@10_interval"]
            cells.append(f"{part['ndcg@10']:.4f}\n±{(high - low) / 2:.3f}")
        table.add_row(name, *cells)
    return table


def _lists(comparison: Comparison) -> Iterator[Table]:
    """What the lists of each file are like, and by how varied they are asked to be."""
    files = comparison.best_first
    for name, file in zip(_names(files), files, strict=True):
        rows = file.by_diversity or [file.lists]
        table = plain_table()
        table.title = name if len(files) > 1 else None
        for figure in rows[0]:
            table.add_column(figure.replace("_", "\n").replace("@", "\n@"), justify="right")
        for row in rows:
            table.add_row(*(_cell(row, figure) for figure in rows[0]))
        yield table


def _cell(figures: Mapping[str, float], name: str) -> str:
    return f"{figures[name]:g}" if name == "diversity" else f"{figures[name]:.4f}"


def _new_table(columns: Sequence[str]) -> Table:
    table = plain_table()
    table.add_column("file", overflow="fold")
    for name in columns:
        table.add_column(name.replace("@", "\n@"), justify="right", no_wrap=True)
    return table


def _names(files: Sequence[FileFigures]) -> list[Text]:
    """Names, or folders, where these differ: whole paths would take the place of figures."""
    paths = [Path(file.path) for file in files]
    for short in ([path.name for path in paths], [path.absolute().parent.name for path in paths]):
        if len({*short}) == len(short) > 1:
            # Every row has two lines, so names are broken between their words.
            return [Text("\n".join(wrap(name, 16, break_long_words=False))) for name in short]
    return [Text(file.path) for file in files]


def _print_notes(comparison: Comparison) -> None:
    metrics = comparison.files[0].metrics
    print(
        f"{counted(metrics.n_users, 'user')}, {comparison.split}, {comparison.part}; "
        f"second lines: 95 % intervals; {metrics.missing_targets:.1%} of the targets are "
        "unknown items"
    )
    if metrics.n_cold_users is not None:
        print(
            f"not asked: {counted(metrics.n_cold_users, 'user')} whose first event lies in the "
            "window"
        )
    if comparison.left_out is not None:
        print(
            f"left out: {metrics.n_left_out:,} of {metrics.n_left_out + metrics.n_users:,} users, "
            f"whose targets are {comparison.left_out}"
        )

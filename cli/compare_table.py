"""What `attnrec-evaluate` and `attnrec-train --model all` print of files beside each other."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from rich.table import Table
from rich.text import Text

from attnrec.cli.console import out
from attnrec.runtime.errors import counted
from attnrec.train.evaluation.comparison import Comparison, FileFigures


def print_comparison(comparison: Comparison, *, slices: bool = False) -> None:
    """The table for people, best file first."""
    out.print(_table(comparison))
    if slices:
        out.print(_slices(comparison))
    _print_notes(comparison)


def _table(comparison: Comparison) -> Table:
    files = comparison.best_first
    third = "recall@10" if comparison.split == "last-session" else "mrr@10"
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


def _new_table(columns: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("file", overflow="fold")
    for name in columns:
        table.add_column(name.replace("@", "\n@"), justify="right", no_wrap=True)
    return table


def _names(files: Sequence[FileFigures]) -> list[Text]:
    """Names or folders where they tell the files apart: a path takes the room of figures."""
    paths = [Path(file.path) for file in files]
    for short in ([path.name for path in paths], [path.absolute().parent.name for path in paths]):
        if len({*short}) == len(short) > 1:
            # Every row has two lines; names are broken where a person would.
            return [Text("\n".join(wrap(name, 16, break_long_words=False))) for name in short]
    return [Text(file.path) for file in files]


def _print_notes(comparison: Comparison) -> None:
    metrics = comparison.files[0].metrics
    print(
        f"{counted(metrics.n_users, 'user')}, {comparison.split}, {comparison.part}; "
        f"second lines: 95 % intervals; {metrics.missing_targets:.1%} of the targets are "
        "unknown items"
    )
    if comparison.left_out is not None:
        print(
            f"left out: {metrics.n_left_out:,} of {metrics.n_left_out + metrics.n_users:,} users, "
            f"whose targets are {comparison.left_out}"
        )

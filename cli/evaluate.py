"""`attnrec-evaluate`: measure model files, through the runtime that will serve them."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from attnrec.cli.console import Json, Quiet, Verbose, Version, err, out, run_command, set_verbosity
from attnrec.train.evaluate_file import evaluate as evaluate_file

_COLUMNS = ("ndcg@10", "hit_rate@10", "mrr@10", "coverage@10")


def evaluate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Model files. Default: attnrec-run/model.onnx"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Log to measure on, read as in training. Default: the run's own."),
    ] = None,
    split: Annotated[
        Literal["test", "valid"],
        typer.Option(help="The last event of each user, or the one before."),
    ] = "test",
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Rank the held-out event of every user in the whole catalogue.

    Per user the last event is the test target and the second last the validation target; the
    events before are the history. Ties count against the model, nothing is sampled.
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    results: list[dict[str, Any]] = []
    for file in files or [Path("attnrec-run/model.onnx")]:
        with err.status(f"evaluating {file}"):
            metrics = evaluate_file(file, data, part=split)
        results.append({"file": str(file), "split": split, **metrics.to_json()})
    if as_json:
        print(json.dumps(results[0] if len(results) == 1 else {"models": results}))
        return
    table = Table(box=None, header_style="bold")
    table.add_column("file", overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(result["file"], *(f"{result[name]:.4f}" for name in _COLUMNS))
    out.print(table)
    first = results[0]
    low, high = first["ndcg@10_interval"]
    print(
        f"{first['n_users']:,} users, {split} events; 95 % interval of the first NDCG@10: "
        f"{low:.4f} to {high:.4f}; {first['missing_targets']:.1%} of the targets are unknown items"
    )


def main() -> None:
    """Entry point."""
    run_command(evaluate)

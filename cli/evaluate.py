"""`attnrec evaluate`: measure model files through the runtime that will serve them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from attnrec.cli.console import (
    EVERYWHERE,
    Json,
    check_picture,
    command,
    err,
    fail,
    given_options,
    refuse_idle,
)
from attnrec.cli.options import Resume
from attnrec.runtime.files import check_model_file
from attnrec.train.data.sources import check_files
from attnrec.train.runs.target import check_run
from attnrec.train.splits.config import Part, SplitName, TimeSplit

if TYPE_CHECKING:
    from attnrec.train.evaluation.comparison import Comparison  # imports pandas


_READ_BY_FOLDS = {"files", "folds", "test_days", "resume", "as_json"} | EVERYWHERE


@command
def evaluate(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Model files, or runs. Default: attnrec-run"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Log to measure on, read as in training, without the events that the files were "
            "trained on. Default: the run's own."
        ),
    ] = None,
    split: Annotated[
        SplitName | None,
        typer.Option(help="What is held out of the log. Default: as the files were trained."),
    ] = None,
    part: Annotated[
        Part, typer.Option(help="test: what came last; valid: what came before it.")
    ] = "test",
    slices: Annotated[
        bool,
        typer.Option(
            "--slices", help="Also by length of the history and popularity of the target."
        ),
    ] = False,
    diversity: Annotated[
        str | None,
        typer.Option(
            metavar="VALUES",
            help="Also lists that are more varied, for each of these values from 0 to 1, such as "
            "0,0.1,0.3,0.5: what that costs and brings.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Train the model of a run anew at so many cuts in time, window by window back, "
            "into RUN-folds."
        ),
    ] = None,
    test_days: Annotated[
        float | None,
        typer.Option(
            help="With --folds: days of a window, where the run has no cut of its own. Default: 7"
        ),
    ] = None,
    resume: Resume = False,
    no_worse: Annotated[
        bool,
        typer.Option(
            "--no-worse",
            help="Exit code 1 where the first file is certainly worse than another one, by the "
            "paired interval: for a script that would install it.",
        ),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the figures and their intervals.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Rank what was held out of every user's log in the whole catalogue, best file first.

    Held out is what the training of the files held out: the last event of each user, the last
    session, or what comes after a cut in time; of a longer log only what the files have not
    seen. The events before are the history. Ties count against the model, nothing is sampled.
    Intervals are 95 % bootstrap intervals over users; the difference to the best file is paired.
    --json has all figures, slices included.
    """
    if slices and as_json:
        raise ValueError("--json has the slices anyway: leave --slices out")
    paths = files or [Path("attnrec-run")]
    refuse_idle(context, {"no_worse": (len(paths) > 1, "a second FILE")})
    refuse_idle(context, {n: (folds is not None, "--folds") for n in ("test_days", "resume")})
    if folds is not None:
        _evaluate_folds(context, paths, folds, test_days, resume=resume, as_json=as_json)
        return
    if plot is not None:
        check_picture(plot)
    values = _values(diversity)
    for path in paths:
        check_model_file(path)
    if data is not None:
        check_files(data, None, None)
    # Only here: it needs pandas, and matplotlib.
    from attnrec.cli.results import print_comparison
    from attnrec.train.evaluation.comparison_plot import draw_comparison

    comparison = _compared(paths, data, part, split, values)
    if plot is not None:
        draw_comparison(comparison, plot)
    if as_json:
        result = comparison.to_json()
        if len(paths) == 1:
            result.update(*result.pop("models"))
        print(json.dumps(result))
    else:
        print_comparison(comparison, slices=slices)
    highest = comparison.files[0].to_best_interval[1]
    if no_worse and highest < 0:
        best = comparison.best_first[0].path
        fail(f"{paths[0]} is certainly worse than {best}, by {-highest:.4f} at least", code=1)


def _evaluate_folds(
    context: typer.Context,
    paths: list[Path],
    n_folds: int,
    test_days: float | None,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    for name, option in given_options(context).items():
        if name not in _READ_BY_FOLDS:
            raise ValueError(f"--folds trains anew and tests that, so {option} cannot be given")
    if len(paths) != 1:
        raise ValueError(f"--folds takes one run, not {len(paths)}")
    check_run(paths[0])
    # Only here: it needs torch.
    from attnrec.cli.folds import evaluate_folds_and_print

    if test_days is not None:
        TimeSplit(test_days=test_days)  # refused before anything is read
    evaluate_folds_and_print(paths[0], n_folds, test_days, resume=resume, as_json=as_json)


def _values(text: str | None) -> list[float]:
    """Values of --diversity. `ValueError` for what is none."""
    try:
        values = [float(part) for part in text.split(",")] if text else []
    except ValueError:
        values = [-1.0]
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"--diversity {text!r:.60} must be numbers from 0 to 1, by commas")
    return values


def _compared(
    paths: list[Path],
    data: Path | None,
    part: Part,
    split: SplitName | None,
    diversity: list[float],
) -> "Comparison":
    from attnrec.train.evaluation.comparison import compare

    with Progress(console=err, transient=True, disable=err.quiet) as progress:
        task = progress.add_task("recommending to every user", total=None)

        def tick(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return compare(paths, data, part=part, split=split, tick=tick, diversity=diversity)

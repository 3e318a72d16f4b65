"""`attnrec tune`: a search for the settings of a model, whose best trial becomes a run."""

from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli.console import Json, command
from attnrec.cli.options import Report, Shared, with_training_options
from attnrec.train.runs.target import check_target


@with_training_options(one_model=True)
@command
def tune(
    context: typer.Context,
    shared: Shared,
    minutes: Annotated[
        float, typer.Option(help="How long to search, without reading the log and the report.")
    ],
    out: Annotated[Path, typer.Option(help="Run directory to write.")] = Path("attnrec-run"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the trials of this command if it was interrupted; the minutes that "
            "were used count.",
        ),
    ] = False,
    report: Report = True,
    as_json: Json = False,
) -> None:
    """Search for better settings on a log, and keep the best trial as a run.

    The first trial is what attnrec-train does; the others vary settings around it, judged by
    validation. What you give, by an option or --set, stays. --max-minutes limits each trial. The
    run is one like any other: attnrec-export, attnrec-evaluate, attnrec-recommend. Needs
    attnrec[tune].
    """
    options = shared()
    from attnrec.train.tuning.space import check_tuning  # imports numpy

    check_tuning(options.config, minutes)
    check_target(out, resume=resume, tuning=True)
    # Only here: it needs torch.
    from attnrec.cli.training import print_trained, tune_run

    run = tune_run(options, out, minutes, resume=resume, report=report)
    print_trained(run, as_json=as_json)

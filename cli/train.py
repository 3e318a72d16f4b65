"""`attnrec train`: from a log of events to a run directory."""

from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli.console import EVERYWHERE, Json, command, given_options, say
from attnrec.cli.options import Report, Resume, Shared, with_training_options
from attnrec.train.models import model_kind
from attnrec.train.runs.target import check_run, check_target

_READ_BY_FINAL = {"final", "out", "resume", "threads", "report"}


@with_training_options(one_model=True)
@command
def train(
    context: typer.Context,
    shared: Shared,
    out: Annotated[
        Path | None, typer.Option(help="Run directory to write. Default: attnrec-run")
    ] = None,
    final: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Train as RUN did, but on every event, for shipping."),
    ] = None,
    resume: Resume = False,
    report: Report = True,
    as_json: Json = False,
) -> None:
    """Train a recommender on a log of events: one row per event, with user, item and time.

    Without DATA it trains on a year of purchases at a gift shop, which comes with attnrec. Per
    user the last event is kept for attnrec-evaluate and never looked at, the second last
    validates; with --split last-session, the last and the second last session; with --split time
    all events of the last seven days, and of the seven before. Then:
    attnrec-export, attnrec-evaluate, attnrec-recommend. To choose a model for a log: attnrec
    compare DATA; to search for settings: attnrec tune DATA --minutes 60.

    A GPU is used where there is one. Several processes, each with a GPU or --threads of its own:
    torchrun --nproc-per-node 2 --no-python attnrec-train ...
    """
    if final is not None:
        _refuse_beside_final(context)
        check_run(final)
        if out is None:
            whole = final.absolute()
            out = whole.with_name(f"{whole.name}-final")
    options, out = shared(), out or Path("attnrec-run")
    check_target(out, resume=resume)
    if final is None:
        _note_unused(context, options.config.model)
    # Only here: it needs torch.
    from attnrec.cli.training import print_trained, train_final_run, train_new_run

    conduct = {"resume": resume, "report": report}
    if final is None:
        run = train_new_run(options, out, **conduct)
    else:
        run = train_final_run(final, options.config.threads, out, **conduct)
    print_trained(run, as_json=as_json)


def _refuse_beside_final(context: typer.Context) -> None:
    """`ValueError` for an option on the command line that --final does not read."""
    for name, option in given_options(context).items():
        if name not in _READ_BY_FINAL | EVERYWHERE:
            raise ValueError(
                f"--final repeats the recipe of its run, so {option} cannot be given with it: "
                "leave it out, or train a new run first"
            )


def _note_unused(context: typer.Context, model: str) -> None:
    """Print where options of epochs are given for a model that has none."""
    written = given_options(context)
    unused = [written[name] for name in ("epochs", "max_minutes") if name in written]
    if unused and not model_kind(model).learns:
        say(f"{', '.join(unused)}: not used, {model} is counted in one pass over the log")

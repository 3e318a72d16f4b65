"""`attnrec train`: from a log of events to a run directory."""

from pathlib import Path
from typing import Annotated, Any

import typer

from attnrec.cli.console import EVERYWHERE, Json, command, given_options, say
from attnrec.cli.options import CUT, SCHEDULE, Report, Resume, Shared, with_training_options
from attnrec.train.models import model_kind
from attnrec.train.runs.target import check_run, check_target

_TABLES = {"data", "items", "users", "out", "resume", "report"}
_READ_WITH = {
    "final": {"threads", *_TABLES},
    "like": {*SCHEDULE, *CUT, *_TABLES},
    "init_from": {*SCHEDULE, *CUT, *_TABLES},
}
"""What is read with the options that follow a run."""
_NAMES = {"final": "final", "like": "like", "init_from": "next"}
"""What the new run is called after the name of the other one."""


@with_training_options(one_model=True)
@command
def train(
    context: typer.Context,
    shared: Shared,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run directory to write. Default: attnrec-run; after another RUN: RUN-final, "
            "RUN-like or RUN-next"
        ),
    ] = None,
    final: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Train as RUN did, but on every event, for shipping; on those of DATA, a later "
            "log, where that is given.",
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Train on DATA from scratch, with the recipe and settings of RUN. Its split and "
            "schedule may be given anew.",
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on from the weights of RUN on DATA, its log with the events since then, in a "
            "few epochs: needs --split time, with the validation after the events of RUN.",
        ),
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

    Every night: attnrec-train DATA --init-from RUN --split time --test-days 1 --out NEW, and
    attnrec-train --final NEW for shipping.

    A GPU is used where there is one. Several processes, each with a GPU or --threads of its own:
    torchrun --nproc-per-node 2 --no-python attnrec-train ...
    """
    follow = next((name for name in _NAMES if context.params[name] is not None), None)
    if follow is not None:
        before = _followed(context, follow)
        if out is None:
            whole = before.absolute()
            out = whole.with_name(f"{whole.name}-{_NAMES[follow]}")
    else:
        options, out = shared(), out or Path("attnrec-run")
    check_target(out, resume=resume)
    if follow is None:
        _note_unused(context, options.config.model)
    # Only here: it needs torch.
    from attnrec.cli.training import print_trained, train_after, train_new_run

    conduct: dict[str, Any] = {"resume": resume, "report": report}
    if follow is None:
        run = train_new_run(options, out, **conduct)
    else:
        run = train_after(follow, before, shared, out, **conduct)
        _note_unused(context, run.config.model)
    print_trained(run, as_json=as_json)


def _followed(context: typer.Context, follow: str) -> Path:
    """The other run. `ValueError` for an option on the command line that is not read with it."""
    written = given_options(context)
    flag = written[follow]
    for name, option in written.items():
        if name not in _READ_WITH[follow] | {follow} | EVERYWHERE:
            raise ValueError(
                f"{flag} repeats the recipe of its run, so {option} cannot be given with it: "
                "leave it out, or train a new run first"
            )
    if context.params["data"] is None and follow != "final":
        raise ValueError(f"{flag} trains on a log of its own: attnrec-train DATA {flag} RUN")
    before: Path = context.params[follow]
    check_run(before)
    return before


def _note_unused(context: typer.Context, model: str) -> None:
    """Print where options of epochs are given for a model that has none."""
    written = given_options(context)
    unused = [written[name] for name in ("epochs", "max_minutes") if name in written]
    if unused and not model_kind(model).learns:
        say(f"{', '.join(unused)}: not used, {model} is counted in one pass over the log")

"""`attnrec-train`: from a log of events to a run directory."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli import log_options
from attnrec.cli.console import (
    Json,
    Quiet,
    Verbose,
    Version,
    clean_errors,
    run_command,
    say,
    set_verbosity,
)
from attnrec.cli.train_modes import MODES, check, mode_of, target_of, unused_note
from attnrec.cli.train_options import ALL, refuse_settings
from attnrec.train.fitting.config import Schedule, TrainConfig
from attnrec.train.models import MODELS
from attnrec.train.models.learned_configs import SASRecConfig

_MODEL = "Model"

_BY_THE_LOG = "Default: as the log asks for; without a recipe"


def _default(setting: str) -> str:
    return f"Default of the attention models: {getattr(SASRecConfig, setting)}"


def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Log: CSV, CSV.gz, Parquet; a folder or archive of MovieLens; or movielens-100k, "
            "-1m, -latest-small, to be downloaded. Default: the embedded Online Retail log."
        ),
    ] = None,
    run_directory: Annotated[
        Path | None,
        typer.Option("--out", help="Run directory to write. Default: attnrec-run"),
    ] = None,
    final: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Train as RUN did, but on every event, for shipping."),
    ] = None,
    allow_users: Annotated[
        bool,
        typer.Option(
            "--allow-users",
            help=f"With --model {ALL}: also models whose files hold user ids.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where this command was interrupted, if it was. With --threads 1 and the "
            "same torch to the same weights, bit for bit.",
        ),
    ] = False,
    tune: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            help="Search for better settings for so long: the recipe first, then trials around "
            "it, judged by validation; the best becomes the run. What you give, by an option or "
            "--set, stays. Needs attnrec[tune].",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help=f"One of: {', '.join(MODELS)}; or {ALL}: train, export and compare the family. "
            "Settings of the first that are not given follow from the log.",
            rich_help_panel=_MODEL,
        ),
    ] = TrainConfig.model,
    max_len: Annotated[
        int | None,
        typer.Option(
            help=f"Newest events that count. {_BY_THE_LOG}: {SASRecConfig.max_len}",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    hidden_dim: Annotated[
        int | None,
        typer.Option(
            help=f"Width of the item vectors. {_default('hidden_dim')}", rich_help_panel=_MODEL
        ),
    ] = None,
    n_blocks: Annotated[
        int | None,
        typer.Option(help=f"Transformer blocks. {_default('n_blocks')}", rich_help_panel=_MODEL),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of the model, such as dropout=0.2; may be given several times. A "
            "name that there is not shows those that there are.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help=f"Most passes over the log. {_BY_THE_LOG}: {Schedule().epochs}",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            help="Stop after the epoch that passes this time; with --tune, each trial.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of everything. Default: 0", rich_help_panel=_MODEL)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Of a process. Default: all cores.", rich_help_panel=_MODEL)
    ] = None,
    items: log_options.ItemsTable = None,
    users: log_options.UsersTable = None,
    user_col: log_options.UserCol = "user_id",
    item_col: log_options.ItemCol = "item_id",
    time_col: log_options.TimeCol = "timestamp",
    event_col: log_options.EventCol = "event",
    rating_col: log_options.RatingCol = "rating",
    title_col: log_options.TitleCol = "title",
    attribute_cols: log_options.AttributeCols = "",
    tag_cols: log_options.TagCols = "",
    id_type: log_options.IdTypeOption = "auto",
    time_unit: log_options.TimeUnitOption = "auto",
    split: log_options.SplitOption = "leave-one-out",
    repeats: log_options.Repeats = False,
    min_rating: log_options.MinRating = None,
    events: log_options.EventTypes = "",
    event_weights: log_options.EventWeights = "",
    min_item_events: log_options.MinItemEvents = 1,
    min_user_events: log_options.MinUserEvents = 1,
    report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report",
            help="Fit traditional models too, and write report.html beside them: for people. "
            f"Not with --model {ALL}, which compares the files.",
        ),
    ] = True,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Train a recommender on a log of events: one row per event, with user, item and time.

    Without DATA it trains on a year of purchases at a gift shop, which comes with attnrec. Per
    user the last event is kept for attnrec-evaluate and never looked at, the second last
    validates; with --split last-session, the last and the second last session. Then:
    attnrec-export, attnrec-evaluate, attnrec-recommend.

    A GPU is used where there is one. Several processes, each with a GPU or --threads of its own:
    torchrun --nproc-per-node 2 --no-python attnrec-train ...
    """
    given = dict(locals())
    set_verbosity(verbose=verbose, quiet=quiet)
    mode = mode_of(context, given)
    given = {name: given[name] for name in MODES[mode].reads}  # nothing else decides
    check(mode, given)
    if note := unused_note(context, model):
        say(note)
    # Only here: it needs torch.
    from attnrec.cli.train_runs import RUNS

    RUNS[mode](given, target_of(mode, given))


def main() -> None:
    """Entry point, of every process that torchrun starts."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        _run()
        return
    # Only here: it needs torch.
    from attnrec.train.fitting.distributed import train_together

    with clean_errors():
        train_together(_run)


def _run() -> None:
    with clean_errors():
        refuse_settings(sys.argv[1:])
    run_command(train)

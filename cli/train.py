"""`attnrec-train`: from a log of events to a run directory."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from attnrec.cli.console import Json, Quiet, Verbose, Version, say, set_verbosity
from attnrec.cli.processes import run_together
from attnrec.cli.train_all import train_all
from attnrec.cli.train_options import ALL, LISTS, config_of, read_given
from attnrec.cli.training_progress import TrainingProgress
from attnrec.cli.training_result import print_result
from attnrec.train.config import Schedule, TrainConfig
from attnrec.train.models import MODELS
from attnrec.train.models.attention_pool import Attention, AttentionPoolConfig
from attnrec.train.models.sasrec import Block, SASRecConfig
from attnrec.train.recipe import DataRecipe, IdType, TimeUnit
from attnrec.train.run import Run, check_target
from attnrec.train.split import SplitName
from attnrec.train.training import train_final, train_log

_MODEL = "Model"
_READ = "Reading the log"
_FILTER = "Which events count"


_BY_THE_LOG = "Default: as the log asks for; without a recipe"


def _default(setting: str) -> str:
    return f"Default of the attention models: {getattr(SASRecConfig, setting)}"


def train(
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
    n_heads: Annotated[
        int | None,
        typer.Option(help=f"Attention heads. {_default('n_heads')}", rich_help_panel=_MODEL),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            help=f"More for small logs. {_BY_THE_LOG}: {SASRecConfig.dropout}",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    block: Annotated[
        Block | None,
        typer.Option(
            help=f"fusion, sasrec: ligr adds gates and SwiGLU. Default: {SASRecConfig.block}",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    attention: Annotated[
        Attention | None,
        typer.Option(
            help="attention-pool: how the events of a history are weighed. Default: "
            f"{AttentionPoolConfig.attention}",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of the model, such as logits=dot; may be given several times. A "
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
        typer.Option(help="Stop after the epoch that passes this time.", rich_help_panel=_MODEL),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything.", rich_help_panel=_MODEL)] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Of a process. Default: all cores.", rich_help_panel=_MODEL)
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Table with item ids and titles.", rich_help_panel=_READ)
    ] = None,
    users: Annotated[
        Path | None, typer.Option(help="Table with user ids and tags.", rich_help_panel=_READ)
    ] = None,
    user_col: Annotated[str, typer.Option(rich_help_panel=_READ)] = "user_id",
    item_col: Annotated[str, typer.Option(rich_help_panel=_READ)] = "item_id",
    time_col: Annotated[str, typer.Option(rich_help_panel=_READ)] = "timestamp",
    event_col: Annotated[str, typer.Option(rich_help_panel=_READ)] = "event",
    rating_col: Annotated[str, typer.Option(rich_help_panel=_READ)] = "rating",
    title_col: Annotated[
        str, typer.Option(help="'': the items have none.", rich_help_panel=_READ)
    ] = "title",
    attribute_cols: Annotated[
        str,
        typer.Option(
            help="Columns of --items that describe them, by commas.", rich_help_panel=_READ
        ),
    ] = "",
    tag_cols: Annotated[
        str,
        typer.Option(
            help="Columns of --users that describe them, by commas.", rich_help_panel=_READ
        ),
    ] = "",
    id_type: Annotated[
        IdType, typer.Option(help="auto: int64 if every id is one.", rich_help_panel=_READ)
    ] = "auto",
    time_unit: Annotated[
        TimeUnit, typer.Option(help="order: not times, only places.", rich_help_panel=_READ)
    ] = "auto",
    split: Annotated[
        SplitName,
        typer.Option(
            help="What is held back: the last two events of each user, or the last two sessions, "
            "events of one time, for baskets.",
            rich_help_panel=_FILTER,
        ),
    ] = "leave-one-out",
    repeats: Annotated[
        bool,
        typer.Option(
            "--repeats/--no-repeats",
            help="People take the same item again, and may be recommended it.",
            rich_help_panel=_FILTER,
        ),
    ] = False,
    min_rating: Annotated[
        float | None, typer.Option(help="Lowest rating that counts.", rich_help_panel=_FILTER)
    ] = None,
    events: Annotated[
        str, typer.Option(help="Event types that count, by commas.", rich_help_panel=_FILTER)
    ] = "",
    event_weights: Annotated[
        str,
        typer.Option(
            help="Weight of event types in training, such as cart=2,purchase=4. Others: 1.",
            rich_help_panel=_FILTER,
        ),
    ] = "",
    min_item_events: Annotated[
        int, typer.Option(help="Drop rarer items.", rich_help_panel=_FILTER)
    ] = 1,
    min_user_events: Annotated[
        int, typer.Option(help="Drop shorter users.", rich_help_panel=_FILTER)
    ] = 1,
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
    set_verbosity(verbose=verbose, quiet=quiet)
    given = dict(locals())
    if final is not None:
        _check_alone_with_final(given)
        run = _train_final(given, run_directory, quiet)
    elif model == ALL:
        train_all(config_of(given), lambda: read_given(given), run_directory, given)
        return
    else:
        run = _train_new(given, run_directory or Path("attnrec-run"), quiet)
    print_result(run, as_json=as_json)


def _train_new(given: dict[str, Any], target: Path, quiet: bool) -> Run:
    config = config_of(given)
    check_target(target, resume=given["resume"])
    if (target / "config.json").is_file():
        say(f"{target} holds a run, which this one replaces when it is done")
    log, report, recipe = read_given(given)
    with TrainingProgress(quiet=quiet) as progress:
        return train_log(log, report, recipe, config, out=target, **_watching(progress, given))


def _train_final(given: dict[str, Any], target: Path | None, quiet: bool) -> Run:
    final, threads = given["final"], given["threads"]
    before = Run.load(final)
    if threads is not None:
        before = replace(before, config=replace(before.config, threads=threads))
    with TrainingProgress(quiet=quiet) as progress:
        whole = final.absolute()
        named = target or whole.with_name(f"{whole.name}-final")
        return train_final(before, out=named, **_watching(progress, given))


def _watching(progress: TrainingProgress, given: dict[str, Any]) -> dict[str, Any]:
    """What every training is told, beside what is to be trained."""
    reporting = progress.on_report if given["report"] else None
    return {"progress": progress, "resume": given["resume"], "reporting": reporting}


def _check_alone_with_final(given: dict[str, Any]) -> None:
    """A final run repeats a recipe; options that would change it are a misunderstanding."""
    free = {"final", "resume", "run_directory", "threads"}
    free |= {"report", "as_json", "verbose", "quiet", "version"}
    defaults = {
        "allow_users": False,
        "model": TrainConfig.model, "split": "leave-one-out", "seed": 0, "id_type": "auto",
        "time_unit": "auto", "repeats": False,
        **{f.name: f.default for f in fields(DataRecipe)},
        **dict.fromkeys((*LISTS, "event_weights"), ""),
    }  # fmt: skip
    for name, value in given.items():
        if name not in free and value != defaults.get(name):
            option = "set" if name == "assignments" else name.replace("_", "-")
            raise ValueError(
                f"--final repeats the recipe of its run, so --{option} cannot be "
                "given with it; train a new run first"
            )


def main() -> None:
    """Entry point, of every process that torchrun starts."""
    run_together(train)

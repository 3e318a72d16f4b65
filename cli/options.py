"""The options that `train`, `tune` and `compare` share, made from the fields of two dataclasses.

A field of `DataRecipe` or `TrainConfig` gives the name, the type and the default of its option;
what stands below it in the source is the help.
"""

import ast
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial, wraps
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from attnrec.cli.console import (
    Command,
    clean_errors,
    given_options,
    keyword,
    refuse_idle,
    run_command,
    with_parameters,
)
from attnrec.train.data.recipe import DataRecipe, parse_weights
from attnrec.train.data.sources import MOVIELENS, check_files, recognise, with_known_columns
from attnrec.train.fitting.config import Schedule, TrainConfig, parse_settings
from attnrec.train.models import MODELS
from attnrec.train.models.configs import SASRecConfig
from attnrec.train.splits.config import SplitName, TimeSplit

Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on where this command was interrupted, if it was. With --threads 1 and the same "
        "torch to the same weights, bit for bit.",
    ),
]
Report = Annotated[
    bool,
    typer.Option(
        "--report/--no-report",
        help="Fit baselines too, and write report.html, which compares them with the run.",
    ),
]

_MODEL, _READ, _FILTER = "Model", "Reading the log", "Which events count"
_SETTINGS = ("max_len", "hidden_dim", "n_blocks")  # settings of models with an option of their own
_BY_THE_LOG = "Default: chosen from the log; without a recipe"
# Where the docstring of the field is longer, or shorter, than help for the option should be.
_HELP = {
    "model": f"One of: {', '.join(MODELS)}; or a class of your own, package.module:Class. "
    "Settings of the first that are not given follow from the log.",
    "max_len": f"Newest events that count. {_BY_THE_LOG}: {SASRecConfig.max_len}",
    "hidden_dim": f"Width of the item vectors. Default of the attention models: "
    f"{SASRecConfig.hidden_dim}",
    "n_blocks": f"Transformer blocks. Default of the attention models: {SASRecConfig.n_blocks}",
    "epochs": f"Most passes over the log. {_BY_THE_LOG}: {Schedule().epochs}",
    "max_minutes": "A training ends within this time, its last validation included; the learning "
    "rate falls over it. Default: no limit.",
    "items": "Table with item ids and titles.",
    "users": "Table with user ids and tags.",
    "threads": "Threads of a process. Default: all cores.",
    "split": "What is held back: the last two events of each user; the last two sessions, events "
    "of one time, for baskets; or, with time, all that comes after a cut in time.",
    "event_weights": "Weight of event types in training, such as cart=2,purchase=4. Others: 1.",
}


@dataclass(frozen=True)
class TrainingOptions:
    """A log, how it is read, and how a model is trained on it."""

    data: Path | None
    """A path, or the name of an archive of MovieLens; None: the embedded log."""
    items: Path | None
    users: Path | None
    recipe: DataRecipe
    config: TrainConfig

    @property
    def is_download(self) -> bool:
        """Whether `data` stands for an archive of MovieLens that is not a path here."""
        return self.data is not None and not self.data.exists() and str(self.data) in MOVIELENS

    @property
    def has_titles(self) -> bool:
        """Whether there is a table of items: one that was given, or one that comes with a log."""
        is_given = self.items is not None or self.data is None or self.is_download
        return is_given or bool(recognise(self.data)[1])

    def check_files(self) -> set[str]:
        """The kinds of the tables; refused are missing ones, and columns of tables not given."""
        data = None if self.is_download else self.data
        if not self.is_download:
            with_known_columns(data, self.recipe).check_tables(
                items=self.has_titles,
                users=self.users is not None,
                movielens_users=len(recognise(data)[1]) > 2,
            )
        return check_files(data, self.items, self.users)


Like = tuple[DataRecipe, TrainConfig]
Shared = Callable[..., TrainingOptions]
"""Gives the shared options of a command, and checks them; where it is given the recipe and the
configuration of a run, these, but for the split and the schedule that are on the command line."""
CUT = ("split", *(part.name for part in fields(TimeSplit)))
SCHEDULE = ("epochs", "max_minutes", "seed", "threads", "precision")


def with_training_options(*, one_model: bool) -> Callable[[Command], Command]:
    """Give a command the shared options in place of `shared`; one_model: also those of a model."""

    def extend(command: Command) -> Command:
        added = {parameter.name: parameter for parameter in _parameters(one_model=one_model)}

        @wraps(command)
        def extended(context: typer.Context, **values: Any) -> None:
            given = {name: values.pop(name) for name in added}
            command(context, partial(_training_options, context, given), **values)

        own = inspect.signature(command).parameters.values()
        parts = [added.values() if p.name == "shared" else [p] for p in own]
        return with_parameters(extended, [p for part in parts for p in part])

    return extend


def _parameters(*, one_model: bool) -> Iterator[inspect.Parameter]:
    log = "Log: CSV, Parquet, JSON lines or Feather; a folder of such files, or a pattern such as "
    log += "'logs/*.parquet'; a folder or archive of MovieLens; or movielens-100k, -1m, "
    log += "-latest-small, to be downloaded. Default: the embedded Online Retail log."
    yield keyword("data", Path | None, None, typer.Argument(help=log))
    if one_model:
        yield _of_field(TrainConfig, "model", _MODEL)
        for name in _SETTINGS:
            yield keyword(name, int | None, None, _option(name, _MODEL))
        any_other = typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of the model, such as dropout=0.2; may be given several times. A "
            "wrong name shows those that there are.",
            rich_help_panel=_MODEL,
        )
        yield keyword("assignments", list[str] | None, None, any_other)
    for name in SCHEDULE:
        yield _of_field(TrainConfig, name, _MODEL)
    for name in ("items", "users"):
        yield keyword(name, Path | None, None, _option(name, _READ))
    panel = _READ
    for field in fields(DataRecipe):
        if field.name == "repeats":  # the filters follow
            panel = _FILTER
            yield keyword("split", SplitName, "leave-one-out", _option("split", panel))
            yield from (_of_field(TimeSplit, part, panel) for part in CUT[1:])
        yield _of_field(DataRecipe, field.name, panel)


def _of_field(owner: type, name: str, panel: str) -> inspect.Parameter:
    kind, default = get_type_hints(owner)[name], getattr(owner, name, "")
    help = _HELP.get(name) or _docs(owner).get(name, " ")
    if get_origin(kind) is tuple:
        help, kind, default = f"{help} Separated by commas.", str, ""
    elif name == "event_weights":
        kind = str
    return keyword(name, kind, default, _option(name, panel, help))


def _option(name: str, panel: str, help: str = "") -> Any:
    """`--name`; its help is the text of a docstring, in which `min_rating` is --min-rating."""
    help = (help or _HELP[name]).replace("None:", "Default:").replace('"":', "'':")
    help = re.sub(r"`(\w+)`", lambda match: "--" + match[1].replace("_", "-"), help)
    switch = ["--repeats/--no-repeats"] if name == "repeats" else []
    return typer.Option(*switch, help=help, rich_help_panel=panel)


@cache
def _docs(owner: type) -> Mapping[str, str]:
    """The text below each field of a dataclass; empty where the source is not installed."""
    try:
        (node,) = ast.parse(inspect.getsource(owner)).body
    except OSError:
        return {}
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(field.target, ast.Name) and isinstance(below.value, ast.Constant)
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def _training_options(
    context: typer.Context, given: Mapping[str, Any], like: Like | None = None
) -> TrainingOptions:
    """The values of the shared parameters; `ValueError` for what cannot be, or has no effect."""
    if like is None:
        recipe, config = _recipe(given), _config(given)
    else:
        written, split = given_options(context), like[1].split
        typed = {n: v for n, v in _loop(given).items() if n in written}
        if "split" not in written and isinstance(split, TimeSplit):
            typed["split"] = split.moved({n: given[n] for n in CUT if n in written})
        recipe, config = like[0], replace(like[1], **typed)
    options = TrainingOptions(given["data"], given["items"], given["users"], recipe, config)
    refuse_idle(
        context,
        {
            "event_col": (bool(recipe.events or recipe.event_weights),
                          "--events or --event-weights"),
            "rating_col": (recipe.min_rating is not None, "--min-rating"),
            "title_col": (options.has_titles, "--items"),
            "users": (like is None or bool(recipe.tag_cols), "a run that knows tags of users"),
            "items": (options.data is not None, "DATA (the embedded log has its own titles)"),
            **{n: (isinstance(config.split, TimeSplit), "--split time") for n in CUT[1:]},
        },
    )  # fmt: skip
    refuse_idle(context, {"sep": ("csv" in options.check_files(), "a table in CSV files")})
    return options


def _config(given: Mapping[str, Any]) -> TrainConfig:
    """How to train; without a model of its own, what the compared models share."""
    if "model" not in given:
        return TrainConfig(**_loop(given))
    settings = parse_settings(given["model"], given["assignments"] or ())
    for name in _SETTINGS:
        if given[name] is not None:
            if name in settings:
                raise ValueError(f"--{name.replace('_', '-')} and --set {name}: leave one out")
            settings[name] = given[name]
    return TrainConfig(given["model"], settings, **_loop(given))


def _loop(given: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule and the split, as `TrainConfig` names them."""
    cut = TimeSplit(**{name: given[name] for name in CUT[1:]})
    split = cut if given["split"] == "time" else given["split"]
    return {name: given[name] for name in SCHEDULE} | {"split": split}


def _recipe(given: Mapping[str, Any]) -> DataRecipe:
    kinds = get_type_hints(DataRecipe)
    values = {name: given[name] for name in kinds}
    for name, kind in kinds.items():
        if get_origin(kind) is tuple:
            values[name] = tuple(part for part in given[name].split(",") if part)
    values["sep"] = values["sep"].replace("\\t", "\t")  # as people write a tab in a shell
    return DataRecipe(**values | {"event_weights": parse_weights(given["event_weights"])})


def refuse_unknown(arguments: Sequence[str], *, one_model: bool) -> None:
    """`ValueError` for an option of another command, and for a setting written as an option."""
    settings = {f.name for kind in MODELS.values() for f in fields(kind.config)}
    if ("--model", "all") in pairwise(arguments) or "--model=all" in arguments:
        raise ValueError("no model 'all': attnrec compare DATA trains and compares every model")
    for option in (argument.partition("=")[0] for argument in arguments):
        name = option.removeprefix("--").replace("-", "_") if option.startswith("--") else ""
        if not one_model and name in settings | {"model", "set"}:
            raise ValueError(
                f"every model is compared as it is, so {option} cannot be given: attnrec train "
                "--model NAME trains the one that you choose"
            )
        if name in settings - {*_SETTINGS}:
            raise ValueError(
                f"{option} is not an option: a setting of the model is given as --set {name}=VALUE"
            )
        if name == "tune":
            raise ValueError(
                f"{option} is a command of its own: attnrec tune DATA --minutes 60 searches for "
                "an hour, with the other options as they are"
            )


def run_training_command(command: Command, *, prefix: str) -> None:
    """`run_command`, in every process that torchrun starts."""

    def work() -> None:
        with clean_errors():
            one_model = "model" in inspect.signature(command).parameters
            refuse_unknown(sys.argv[1:], one_model=one_model)
        run_command(command, prefix=prefix)

    if os.environ.get("WORLD_SIZE", "1") == "1":
        work()
        return
    # Only here: it needs torch.
    from attnrec.train.fitting.distributed import train_together

    with clean_errors():
        train_together(work)

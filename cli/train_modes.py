"""The ways to call `attnrec-train`: what each reads, and what of it is refused before any work."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import typer

from attnrec.cli.modes import EVERYWHERE, refuse_idle, refuse_unread
from attnrec.cli.modes import given as written
from attnrec.cli.train_options import ALL, SETTINGS, check_log, config_of, has_titles, recipe_of
from attnrec.export.comparison_directory import check_comparison_directory
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.models import model_kind
from attnrec.train.runs.target import check_run, check_target

Given = Mapping[str, Any]

_ALWAYS = {"run_directory", "resume", "threads", *EVERYWHERE}
_LOG = {"data", "items", "users", *(f.name for f in fields(DataRecipe))}
_SHARED = _ALWAYS | _LOG | {"model", "split", "epochs", "max_minutes", "seed"}
_TRAINING = _SHARED | {*SETTINGS, "assignments", "report"}
_OF_EPOCHS = {"epochs", "max_minutes"}


@dataclass(frozen=True)
class Mode:
    """One way to call the command."""

    reads: frozenset[str]
    """Names of the parameters that decide something."""
    why: str = ""
    """Why others cannot be given."""
    remedy: str = ""
    """What to do but leave them out."""


MODES = {
    "new": Mode(frozenset(_TRAINING)),
    "tune": Mode(frozenset(_TRAINING | {"tune"})),
    "all": Mode(
        frozenset(_SHARED | {"allow_users"}),
        f"--model {ALL} trains every model as it is",
        "train the model that you choose by its name",
    ),
    "final": Mode(
        frozenset(_ALWAYS | {"final", "report"}),
        "--final repeats the recipe of its run",
        "train a new run first",
    ),
}


def mode_of(context: typer.Context, given: Given) -> str:
    """The way that the command is called; `ValueError` for an option that it does not read."""
    if given["final"] is not None:
        name = "final"
    elif given["model"] == ALL:
        name = "all"
    else:
        name = "new" if given["tune"] is None else "tune"
    mode = MODES[name]
    if mode.why:
        refuse_unread(context, mode.reads, mode.why, mode.remedy)
    typed = given["events"] or given["event_weights"]
    refuse_idle(
        context,
        {
            "allow_users": (name == "all", f"--model {ALL}"),
            "event_col": (bool(typed), "--events or --event-weights"),
            "rating_col": (given["min_rating"] is not None, "--min-rating"),
            "title_col": (has_titles(given), "--items"),
            "items": (given["data"] is not None, "DATA (the embedded log has its own titles)"),
        },
    )
    return name


def unused_note(context: typer.Context, model: str) -> str | None:
    """What to say where training options are given for a model that has no epochs."""
    unused = [option for name, option in written(context).items() if name in _OF_EPOCHS]
    if not unused or model == ALL or model_kind(model).learns:
        return None
    return f"{', '.join(unused)}: not used, {model} is counted in one pass over the log"


def target_of(mode: str, given: Given) -> Path:
    """The run directory to write, which may follow from another."""
    if given["run_directory"] is not None:
        return Path(given["run_directory"])
    if mode == "final":
        whole = Path(given["final"]).absolute()
        return whole.with_name(f"{whole.name}-final")
    return Path("attnrec-all" if mode == "all" else "attnrec-run")


def check(mode: str, given: Given) -> None:
    """Refuse what the arguments and a look at files tell, before torch is imported."""
    if mode == "final":
        check_run(Path(given["final"]))
        check_target(target_of(mode, given), resume=given["resume"])
        return
    config, recipe = config_of(given), recipe_of(given, given["data"])
    if mode == "tune":
        from attnrec.train.tuning.space import check_tuning  # with numpy

        check_tuning(config, given["tune"])
    check_log(given, recipe)
    target, resume = target_of(mode, given), given["resume"]
    if mode == "all":
        check_comparison_directory(target, resume=resume)
    else:
        check_target(target, resume=resume, tuning=mode == "tune")

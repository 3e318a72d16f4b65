"""What `attnrec-train` was given, as the values that the library takes."""

from dataclasses import fields
from typing import Any

from attnrec.cli.console import err, say
from attnrec.cli.movielens import fetched
from attnrec.train.config import TrainConfig, parse_settings
from attnrec.train.interactions import Interactions
from attnrec.train.movielens import with_known_columns
from attnrec.train.recipe import DataRecipe
from attnrec.train.report import DataReport
from attnrec.train.training import read_log

ALL = "all"
LISTS = ("events", "attribute_cols", "tag_cols")
_SETTINGS = ("max_len", "hidden_dim", "n_blocks", "n_heads", "dropout", "block", "attention")


def config_of(given: dict[str, Any]) -> TrainConfig:
    """How to train; of the whole family what its members share."""
    settings = parse_settings(given["model"], given["assignments"] or ())
    for name in _SETTINGS:
        if given[name] is not None:
            if name in settings:
                raise ValueError(f"--{name.replace('_', '-')} and --set {name}: leave one out")
            settings[name] = given[name]
    names = ("model", "split", "epochs", "max_minutes", "seed", "threads")
    loop = {name: given[name] for name in names if given[name] is not None}
    if given["model"] == ALL:
        for name in settings:
            raise ValueError(
                f"--model {ALL} trains every model as it is, so --{name.replace('_', '-')} cannot "
                "be given with it; train that model by its name"
            )
        del loop["model"]
    return TrainConfig(settings=settings, **loop)


def read_given(given: dict[str, Any]) -> tuple[Interactions, DataReport, DataRecipe]:
    """Read the log, with its tables, and tell what was in it."""
    recipe_values = {f.name: given[f.name] for f in fields(DataRecipe)}
    lists = {name: tuple(part for part in given[name].split(",") if part) for name in LISTS}
    weights = _event_weights(given["event_weights"])
    recipe = DataRecipe(**{**recipe_values, **lists, "event_weights": weights})
    source = fetched(given["data"], quiet=given["quiet"])
    recipe = with_known_columns(source, recipe)
    with err.status("reading the log"):
        log, report = read_log(source, recipe, items=given["items"], users=given["users"])
    for line in report.lines():
        say(line)
    return log, report, recipe


def _event_weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        kind, _, weight = part.rpartition("=")
        if kind in weights:
            raise ValueError(f"--event-weights names {kind!r} twice")
        try:
            weights[kind] = float(weight)
        except ValueError:
            raise ValueError(
                f"--event-weights {part!r} is not a type with a weight; write for example "
                "cart=2,purchase=4"
            ) from None
    return weights

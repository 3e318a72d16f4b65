"""What `attnrec-train` was given, as the values that the library takes."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.sources import MOVIELENS, check_files, recognise, with_known_columns
from attnrec.train.fitting.config import TrainConfig, parse_settings
from attnrec.train.models import MODELS

ALL = "all"
LISTS = ("events", "attribute_cols", "tag_cols")
SETTINGS = ("max_len", "hidden_dim", "n_blocks")
"""Settings of models that have an option of their own."""


def refuse_settings(arguments: Sequence[str]) -> None:
    """`ValueError` for a setting that is written as an option and has none of its own."""
    settings = {f.name for kind in MODELS.values() for f in fields(kind.config)} - {*SETTINGS}
    for option in (argument.partition("=")[0] for argument in arguments):
        name = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and name in settings:
            raise ValueError(
                f"{option} is not an option: a setting of the model is given as --set {name}=VALUE"
            )


def config_of(given: Mapping[str, Any]) -> TrainConfig:
    """How to train; of the whole family what its members share."""
    settings = parse_settings(given["model"], given.get("assignments") or ())
    for name in SETTINGS:
        if given.get(name) is not None:
            if name in settings:
                raise ValueError(f"--{name.replace('_', '-')} and --set {name}: leave one out")
            settings[name] = given[name]
    names = ("model", "split", "epochs", "max_minutes", "seed", "threads")
    loop = {name: given[name] for name in names if given[name] is not None}
    if given["model"] == ALL:
        del loop["model"]
    return TrainConfig(settings=settings, **loop)


def recipe_of(given: Mapping[str, Any], source: Path | None) -> DataRecipe:
    """How the log `source` is read; MovieLens with its own columns."""
    values = {f.name: given[f.name] for f in fields(DataRecipe)}
    lists = {name: tuple(part for part in given[name].split(",") if part) for name in LISTS}
    weights = _event_weights(given["event_weights"])
    recipe = DataRecipe(**{**values, **lists, "event_weights": weights})
    return with_known_columns(source, recipe)


def is_download(data: Path | None) -> bool:
    """Whether it stands for an archive of MovieLens that is not a path here."""
    return data is not None and not data.exists() and str(data) in MOVIELENS


def has_titles(given: Mapping[str, Any]) -> bool:
    """Whether there is a table of items: one that was given, or one that comes with the log."""
    data = given["data"]
    if given["items"] is not None or data is None or is_download(data):
        return True
    return bool(recognise(data)[1])


def check_log(given: Mapping[str, Any], recipe: DataRecipe) -> None:
    """Refuse files that there are not, and tables and columns that do not belong together."""
    data, items, users = given["data"], given["items"], given["users"]
    if is_download(data):
        data = None
    else:
        recipe.check_tables(
            items=has_titles(given),
            users=users is not None,
            movielens_users=len(recognise(data)[1]) > 2,
        )
    check_files(data, items, users)


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

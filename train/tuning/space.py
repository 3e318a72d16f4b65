"""What a search may change: ranges around the values of the recipe.

The recipe is good on any log, so a search stays near it: each rule below makes a range from the
value of the recipe. A setting that was given by hand stays as it was given, and one without a
rule stays as the recipe has it. To search wider, change a line.
"""

import math
import os
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from attnrec.train.checks import LARGEST, check_number
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.models import MODELS, model_kind
from attnrec.train.models.configs import Attention, Query

if TYPE_CHECKING:
    from attnrec.train.models.base import HistoryConfig

_DIGITS = 3  # significant, of a value that is tried
_MOST_CHANGES = 3  # settings that the first trials change at once


@dataclass(frozen=True)
class Between:
    """Any number from `low` to `high`."""

    low: float
    high: float
    by_factors: bool
    """Drawn on a logarithmic scale."""


@dataclass(frozen=True)
class OneOf:
    """One of some values."""

    values: tuple[Any, ...]


Range = Between | OneOf
Space = Mapping[str, Range]
"""Range by name of the setting."""
_Rule = Callable[[Any], Range | None]
"""The range around a value of the recipe; None: there is none."""


def _times(factor: float) -> _Rule:
    """Up to that factor less or more."""

    def around(value: float) -> Range | None:
        low, high = shortened(value / factor), shortened(value * factor)
        return Between(low, high, by_factors=True) if low < high else None

    return around


def _plus_minus(reach: float, *, below: float) -> _Rule:
    """Up to `reach` less or more, from 0 to `below`."""

    def around(value: float) -> Range:
        low, high = shortened(max(0.0, value - reach)), shortened(min(below, value + reach))
        return Between(min(low, value), max(high, value), by_factors=False)

    return around


def _half_or_double(least: int) -> _Rule:
    """Half, the same or double, but not below `least`."""
    return lambda value: OneOf((*([value // 2] if value // 2 >= least else []), value, 2 * value))


def _losses(value: str) -> Range | None:
    """Softmax over a wide catalogue is what the recipe avoids, so a search does not go there."""
    near = {
        "softmax": ("softmax", "sampled-softmax"),
        "sampled-softmax": ("sampled-softmax", "gbce"),
    }
    return OneOf(near[value]) if value in near else None


_RULES: Mapping[str, _Rule] = {
    "learning_rate": _times(3),
    "weight_decay": _times(10),
    "batch_events": _half_or_double(least=16),
    "dropout": _plus_minus(0.2, below=0.8),
    "temperature": _times(1.6),
    "loss": _losses,
    "n_negatives": _half_or_double(least=1),
    "hidden_dim": _half_or_double(least=8),
    "n_heads": lambda value: None,  # only decides which widths there are
    "n_blocks": lambda value: OneOf((*([value - 1] if value > 1 else []), value, value + 1)),
    # A history of one event is what models have that do not read it.
    "max_len": lambda value: None if value == 1 else _half_or_double(least=5)(value),
    # What the recipe leaves out, the log does not have.
    "time_gaps": lambda value: OneOf((True, False)) if value else None,
    "attention": lambda value: OneOf(get_args(Attention)),
    "query": lambda value: OneOf(get_args(Query)),
    "count_floor": _times(3),
    "user_dropout": _plus_minus(0.1, below=0.5),
}
_TRAINING = ("learning_rate", "weight_decay", "batch_events")


def _is_idle(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a setting changes nothing beside these others: a trial leaves it as it is."""
    return name == "n_negatives" and values.get("loss") == "softmax"


def given_by_hand(config: TrainConfig) -> set[str]:
    """Settings that a search must leave alone: those that are not as they are by default."""
    changed = (f.name for f in fields(config) if getattr(config, f.name) != f.default)
    return {*changed, *config.settings} - {"settings"}


def values_of(config: TrainConfig, model_config: "HistoryConfig") -> dict[str, Any]:
    """Every setting that a rule knows, by name."""
    training = {name: getattr(config, name) for name in _TRAINING}
    training["batch_events"] = config.schedule.batch_events
    every = {**training, **vars(model_config)}
    return {name: every[name] for name in _RULES if name in every}


def search_space(values: Mapping[str, Any], given: Set[str]) -> dict[str, Range]:
    """Ranges around the recipe. `ValueError` where everything was given."""
    space: dict[str, Range] = {}
    for name, value in values.items():
        found = None if name in given else _RULES[name](value)
        if isinstance(found, OneOf):
            most, heads = LARGEST.get(name), values.get("n_heads", 1)
            sizes = (v for v in found.values if most is None or v <= most)
            found = OneOf(tuple(v for v in sizes if name != "hidden_dim" or v % heads == 0))
        if found is not None and not (isinstance(found, OneOf) and len(found.values) == 1):
            space[name] = found
    if "loss" not in space and _is_idle("n_negatives", values):
        space.pop("n_negatives", None)
    if not space:
        fixed = ", ".join(sorted(given & values.keys()))
        raise ValueError(
            f"every setting that a search could change was given ({fixed}): leave one out, or "
            "train without a search"
        )
    return space


def check_tuning(config: TrainConfig, minutes: float) -> None:
    """`ValueError` for a search that cannot be, before a log is read."""
    check_number("minutes", minutes, above=0)
    if os.environ.get("WORLD_SIZE", "1") != "1":  # a trial may end inside of a step
        raise ValueError(
            "a search trains in one process: start it without torchrun, and give the settings "
            "that it finds to a training of several processes"
        )
    if not model_kind(config.model).learns:
        learned = [name for name, kind in MODELS.items() if kind.learns]
        raise ValueError(
            f"model {config.model} has no training to tune: train it without a search, "
            f"or take a model that is trained: {', '.join(learned)}"
        )
    search_space(values_of(config, config.model_config(n_items=1)), given_by_hand(config))
    if find_spec("optuna") is None:
        raise ValueError(
            "a search needs optuna, which is not installed: pip install 'attnrec[tune]'"
        )


def near(space: Space, values: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The recipe with one to three settings drawn anew: how a search begins.

    Were all of them drawn, nearly every trial would have something in it that spoils it.
    """
    n_changes = int(rng.integers(1, _MOST_CHANGES + 1))
    at_work = sorted(name for name in space if not _is_idle(name, values))
    names = rng.permutation(at_work)[:n_changes].tolist()
    drawn = {name: values[name] for name in space}
    return drawn | {name: _draw(space[name], values[name], rng) for name in names}


def _draw(wanted: Range, value: Any, rng: np.random.Generator) -> Any:
    if isinstance(wanted, OneOf):
        others = [other for other in wanted.values if other != value]
        return others[int(rng.integers(len(others)))]
    if wanted.by_factors:
        return math.exp(rng.uniform(math.log(wanted.low), math.log(wanted.high)))
    return float(rng.uniform(wanted.low, wanted.high))


def settled(drawn: Mapping[str, Any], space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial makes of drawn values: short numbers, and idle settings as in the recipe."""
    made = dict(drawn)
    for name, wanted in space.items():
        if isinstance(wanted, Between) and made[name] != values[name]:
            made[name] = min(max(shortened(made[name]), wanted.low), wanted.high)
    together = {**values, **made}
    return {
        name: values[name] if _is_idle(name, together) else value for name, value in made.items()
    }


def with_values(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The configuration with other values for these settings."""
    training = {name: value for name, value in values.items() if name in _TRAINING}
    others = {name: value for name, value in values.items() if name not in training}
    return replace(config, settings={**config.settings, **others}, **training)


def shortened(value: float) -> float:
    """With three digits."""
    return float(f"{value:.{_DIGITS}g}")

"""The rules and slates of `attnrec recommend`, from its options to the arguments of a request."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

TAGS = ("require_all", "require_any", "forbid")
AMOUNTS = ("boost", "at_least", "at_most", "max_per", "min_per")
FIELDS = (*TAGS, *AMOUNTS, "diversity")
"""Fields of a request that say what may be shown."""

_Tags = list[str] | None

RequireAll = Annotated[
    _Tags,
    typer.Option(metavar="COLUMN:VALUE", help="Items must have this tag; repeat it for more."),
]
RequireAny = Annotated[
    _Tags,
    typer.Option(
        metavar="COLUMN:VALUE",
        help="Of every column that is named, items must have one of the tags.",
    ),
]
Forbid = Annotated[
    _Tags, typer.Option(metavar="COLUMN:VALUE", help="Items must not have this tag.")
]
Boost = Annotated[
    _Tags,
    typer.Option(
        metavar="COLUMN:VALUE=AMOUNT",
        help="Lift items with this tag; 1 is the usual gap between places 1 and 100.",
    ),
]
AtLeast = Annotated[
    _Tags, typer.Option(metavar="NUMBER=VALUE", help="Least value of a number of the items.")
]
AtMost = Annotated[
    _Tags, typer.Option(metavar="NUMBER=VALUE", help="Largest value, such as price=50.")
]
Diversity = Annotated[
    float | None, typer.Option(help="From 0, the best items, to 1, the least similar ones.")
]
MaxPer = Annotated[
    _Tags,
    typer.Option(metavar="COLUMN=N", help="Most items of each value of a column, or of a tag."),
]
MinPer = Annotated[
    _Tags, typer.Option(metavar="COLUMN:VALUE=N", help="Least items of a tag in the list.")
]


def rules_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Recommender.recommend`, of the options that were given. `ValueError`."""
    found: dict[str, Any] = {}
    for name in FIELDS:
        value = options[name]
        if value is None or value == []:
            continue
        found[name] = _amounts(name, value) if name in AMOUNTS else value
    return found


def _amounts(name: str, texts: Sequence[str]) -> dict[str, float]:
    amounts: dict[str, float] = {}
    kind = int if name in ("max_per", "min_per") else float
    for text in texts:
        key, equals, amount = text.rpartition("=")
        try:
            amounts[key] = kind(amount)
        except ValueError:
            equals = ""
        if not (key and equals):
            whole = "a whole number" if kind is int else "a number"
            option = name.replace("_", "-")
            raise ValueError(f"--{option} {text!r:.60} must be NAME=AMOUNT, with {whole}")
    return amounts

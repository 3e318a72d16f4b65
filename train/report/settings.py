"""Settings with their values, defaults, meanings and reasons, for a table."""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from attnrec.train.fitting.config import value_text


class Setting(NamedTuple):
    """A setting as text."""

    name: str
    value: str
    is_default: bool
    """True as well where the value follows from the log and there is no default."""
    meaning: str
    """The docstring of its field; "" where the source is not available."""
    reason: str
    """Why it has this value; "" without a reason."""


def settings_of(
    config: Any, reasons: Mapping[str, str], *, without: tuple[str, ...] = ()
) -> list[Setting]:
    """Every field of a dataclass, but for those `without`; reasons: by the name of the field."""
    meanings = field_comments(type(config))
    rows = []
    for field in fields(config):
        if field.name in without:
            continue
        value = getattr(config, field.name)
        make = field.default_factory
        default = field.default if make is MISSING else make()
        words = meanings.get(field.name, ""), reasons.get(field.name, "")
        is_default = default is MISSING or value == default
        rows.append(Setting(field.name, value_text(value), is_default, *words))
    return rows


def field_comments(kind: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, by its name; needs the source."""
    comments: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if not is_dataclass(part):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(part))
        except (OSError, TypeError):  # of a notebook, or without its source
            continue
        (definition,) = ast.parse(source).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in pairwise(definition.body):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(words))),
                ):
                    comments[name] = " ".join(words.split())
    return comments

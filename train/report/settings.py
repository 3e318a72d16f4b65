"""Settings in words: value, default, meaning, and why."""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from attnrec.train.fitting.config import value_text


class Setting(NamedTuple):
    """One of them, in words."""

    name: str
    value: str
    is_default: bool
    """Also where there is none, because the value follows from the log."""
    meaning: str
    """From the source; "" where that is not at hand."""
    reason: str
    """Why it has this value; "" where nobody said."""


def settings_of(
    config: Any, reasons: Mapping[str, str], *, without: tuple[str, ...] = ()
) -> list[Setting]:
    """Every field of a dataclass, but for those `without`; reasons: by the name of the field."""
    meanings = field_comments(type(config))
    told = []
    for field in fields(config):
        if field.name in without:
            continue
        value = getattr(config, field.name)
        make = field.default_factory
        default = field.default if make is MISSING else make()
        words = meanings.get(field.name, ""), reasons.get(field.name, "")
        is_default = default is MISSING or value == default
        told.append(Setting(field.name, value_text(value), is_default, *words))
    return told


def field_comments(kind: type) -> dict[str, str]:
    """What stands below each field of a dataclass in its source; nothing where there is none."""
    comments: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if not is_dataclass(part):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(part))
        except (OSError, TypeError):  # made in a notebook, or shipped without its source
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

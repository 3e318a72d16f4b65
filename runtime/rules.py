"""Rules of a request: which items may be shown, and which stand higher; checked, and as arrays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import numpy as np

from attnrec.runtime.answers import Recommendations
from attnrec.runtime.arguments import IdArray, id_lists, plain_list, stack
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo

MOST_TAGS = 1000
"""Tags in one list of a request."""
_SHOWN = 8


@dataclass(frozen=True)
class Rules:
    """What a shop may show, by the tags ("column:value") and numbers that a file knows.

    They apply together, on top of `exclude` and `candidates`.
    """

    require_all: Sequence[str] = ()
    """Items must have all of these tags."""
    require_any: Sequence[str] = ()
    """Of every column that is named here, items must have one of the tags."""
    forbid: Sequence[str] = ()
    """Items must have none of these tags."""
    boost: Mapping[str, float] = field(default_factory=dict)
    """What a tag adds to a score: 1 is the usual gap between places 1 and 100, in every model."""
    at_least: Mapping[str, float] = field(default_factory=dict)
    """Least value of a number, such as {"price": 5}. An item without the number fails."""
    at_most: Mapping[str, float] = field(default_factory=dict)
    """Largest value of a number; likewise."""


NO_RULES = Rules()


class RuleOptions(TypedDict, total=False):
    """`Rules` as arguments of a request."""

    require_all: Sequence[str]
    require_any: Sequence[str]
    forbid: Sequence[str]
    boost: Mapping[str, float]
    at_least: Mapping[str, float]
    at_most: Mapping[str, float]


def rules_of(options: RuleOptions) -> Rules | None:
    """The rules of a request; None: it has none. `TypeError` for another argument."""
    unknown = options.keys() - RuleOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"got an unexpected keyword argument {min(unknown)!r}")
    given: Any = {name: value for name, value in options.items() if value is not None}
    return Rules(**given) if given else None


class CheckedRules:
    """The rules of many histories, checked. `ValueError` names what is wrong and what there is."""

    def __init__(self, info: ModelInfo, rules: Any, n_rows: int = 1) -> None:
        """rules: one for all histories, or a list with one or None for each; None: no rules."""
        lists = [rules] * n_rows if rules is None or isinstance(rules, Rules) else rules
        given = [
            NO_RULES if own is None else own
            for own in id_lists("rules", lists, n_rows, "rules of requests")
        ]
        self._has_tags, self._numbers = names.BOOST in info.inputs, list(_numbers_of(info))
        self._rows = [NO_RULES] * n_rows
        self.unknown_tags: list[tuple[str, ...] | None] = [None] * n_rows
        """Tags of each row that the file does not know; None: it has no rules."""
        for row, own in enumerate(given):
            if not isinstance(own, Rules):
                raise ValueError(f"rules must be Rules(...), not {repr(own)[:60]}")
            if own is not NO_RULES:
                self._rows[row], self.unknown_tags[row] = _checked(info, own)

    def with_unknown_tags(self, answer: Recommendations, row: int = 0) -> Recommendations:
        """The answer with the tags of its request that the file does not know."""
        unknown = self.unknown_tags[row]
        return answer if unknown is None else replace(answer, unknown_tags=unknown)

    def inputs(self, rows: Sequence[int], required: Sequence[str] = ()) -> dict[str, IdArray]:
        """The inputs of the graph for some of the histories; required: more tags for all."""
        own = [self._rows[row] for row in rows]
        if required:
            own = [replace(one, require_all=[*one.require_all, *required]) for one in own]
        arrays: dict[str, IdArray] = {}
        if self._has_tags:
            for name in names.TAG_INPUTS:
                tags = [np.array([*getattr(one, name)], dtype=object) for one in own]
                arrays[name] = tags[0][None] if len(tags) == 1 else stack(tags, "string", "")
            by = np.zeros(arrays[names.BOOST].shape, dtype=np.float32)
            for row, one in enumerate(own):
                by[row, : len(one.boost)] = [*one.boost.values()]
            arrays[names.BOOST_BY] = by
        if self._numbers:
            for name in names.BOUNDS:
                bounds = [
                    [getattr(one, name).get(number, math.nan) for number in self._numbers]
                    for one in own
                ]
                arrays[name] = np.array(bounds, dtype=np.float32)
        return arrays


def every_tag(info: ModelInfo) -> list[str]:
    """Every tag of a file, in the order in which it stores them."""
    tags = info.rules.get("tags", {})
    return [f"{column}:{value}" for column, values in tags.items() for value in values]


def _checked(info: ModelInfo, rules: Rules) -> tuple[Rules, tuple[str, ...]]:
    """Rules with plain values, and their unknown tags."""
    tags: dict[str, Any] = {
        name: _tags(info, name, getattr(rules, name)) for name in names.TAG_INPUTS[:-1]
    }
    boost = _numbered(names.BOOST, rules.boost)
    _tags(info, names.BOOST, [*boost])
    bounds: dict[str, Any] = {
        name: _bounds(info, name, getattr(rules, name)) for name in names.BOUNDS
    }
    known = info.rules["tags"] if info.rules else {}
    every = dict.fromkeys(tag for own in (*tags.values(), boost) for tag in own)
    unknown = tuple(
        t for t in every if t.partition(":")[2] not in known.get(t.partition(":")[0], ())
    )
    return Rules(**tags, boost=boost, **bounds), unknown


def _tags(info: ModelInfo, name: str, tags: Any) -> list[str]:
    listed = plain_list(tags)
    if listed is None:
        raise ValueError(f"{name} must be a list of tags, not {repr(tags)[:60]}")
    if listed and names.BOOST not in info.inputs:
        raise _no_rules(info, f"{name} names tags")
    if len(listed) > MOST_TAGS:
        raise ValueError(f"{name} holds {len(listed)} tags, the limit is {MOST_TAGS}")
    columns = info.rules["tags"] if info.rules else {}
    for tag in listed:
        if not isinstance(tag, str) or ":" not in tag:
            raise ValueError(
                f"{name} holds {repr(tag)[:60]}, and a tag is 'column:value' with one of the "
                f"columns {_some(columns)}"
            )
    return list(map(str, listed))


def _bounds(info: ModelInfo, name: str, bounds: Any) -> dict[str, float]:
    known = _numbers_of(info)
    found = _numbered(name, bounds)
    if found and not known:
        raise _no_rules(info, f"{name} names numbers")
    for number in found:
        if number not in known:
            raise ValueError(
                f"{name} names {number!r}, which is none of the numbers of this file: "
                f"{_some(known)}"
            )
    return found


def _numbered(name: str, values: Any) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} must map names to numbers, not {repr(values)[:60]}")
    for key, value in values.items():
        is_number = isinstance(value, (int, float, np.integer, np.floating))
        if not is_number or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{name} of {key!r} must be a number, not {repr(value)[:60]}")
    return {str(key): float(value) for key, value in values.items()}


def _numbers_of(info: ModelInfo) -> Mapping[str, Any]:
    numbers: Mapping[str, Any] = info.rules["numbers"] if info.rules else {}
    return numbers


def _no_rules(info: ModelInfo, what: str) -> ValueError:
    there = [*names.BOUNDS] if _numbers_of(info) else ["none"]
    there = [*names.TAG_INPUTS] if names.BOOST in info.inputs else there
    return ValueError(
        f"{what}, and this file has none: its rules are {', '.join(there)}; export the run with "
        "`tags` and `numbers` of an items table"
    )


def _some(values: Any) -> str:
    named = [*map(str, values)]
    return ", ".join(named[:_SHOWN]) + (", ..." if len(named) > _SHOWN else "") or "none"

"""Synthetic calls with rules: every corner of them, where the items of a file have tags."""

from collections.abc import Iterator

import numpy as np

from attnrec.export.item_rules import ItemRules, column_of
from attnrec.export.parity.synthetic_calls import GraphCall, Maker
from attnrec.runtime.rules import Rules
from attnrec.train.splits.split import Catalogue

_K = 10


def calls_with_rules(
    catalogue: Catalogue, id_type: str, rules: ItemRules | None
) -> Iterator[GraphCall]:
    """Calls for the gate; none where the file has no rules."""
    if rules is None:
        return
    make = Maker(catalogue, id_type)
    some, listed = make.draw(5), make.draw(30)
    every = dict(_of_tags(rules) if rules.tags else {}) | dict(_of_numbers(rules))
    for name, own in every.items():
        yield GraphCall(f"rules: {name}", [some], _K, exclude=[some[:2]], rules=[own])
        yield GraphCall(
            f"rules among candidates: {name}", [some], _K, candidates=[listed], rules=[own]
        )
        yield GraphCall(f"rules, all items: {name}", [[]], catalogue.n_items, rules=[own])
    drawn = [*_drawn(rules, 64)]
    histories, exclude = (
        [make.draw(n % 7) for n in range(64)],
        [make.draw(n % 3) for n in range(64)],
    )
    yield GraphCall("64 rows, each with its rules", histories, _K, exclude, rules=drawn)
    among = [make.draw(n % 11) for n in range(64)]
    yield GraphCall(
        "64 rows, rules and candidates", histories, _K, exclude, among, rules=drawn[::-1]
    )


def golden_rules(catalogue: Catalogue, id_type: str, rules: ItemRules | None) -> list[GraphCall]:
    """The few that a file keeps."""
    if rules is None:
        return []
    history = [Maker(catalogue, id_type).draw(4)]
    return [
        GraphCall(f"rules {n}", history, 5, rules=[own]) for n, own in enumerate(_drawn(rules, 3))
    ]


def _of_tags(rules: ItemRules) -> Iterator[tuple[str, Rules]]:
    tags = rules.tags
    first, last, rarest = tags[0], tags[-1], tags[int(np.diff(rules.starts).argmin())]
    column, unknown = column_of(first), f"{column_of(first)}:no such value"
    in_column = [tag for tag in tags if column_of(tag) == column]
    yield "all of one", Rules(require_all=[rarest])
    yield "all of two", Rules(require_all=[first, last])
    yield "one twice", Rules(require_all=[first, first], forbid=[last, last])
    yield "unknown", Rules(require_all=[first, unknown])
    yield "any of a column", Rules(require_any=in_column[:1000])
    yield "any of two columns", Rules(require_any=[first, last, first])
    yield "any, some unknown", Rules(require_any=[first, unknown])
    yield "any, all unknown", Rules(require_any=[unknown])
    yield "any of an unknown column", Rules(require_any=[first, "no such column:value"])
    yield "forbidden", Rules(forbid=[first, unknown])
    yield "required and forbidden", Rules(require_any=[first], forbid=[first])
    yield "boosted", Rules(boost={rarest: 1.5, unknown: 9.0, last: -0.5})
    yield "boosted and required", Rules(boost={first: 0.3}, require_any=[first, rarest])


def _of_numbers(rules: ItemRules) -> Iterator[tuple[str, Rules]]:
    for name, values in rules.numbers.items():
        low, middle, high = (float(v) for v in np.nanquantile(values, [0, 0.5, 1]))
        yield f"{name} at least", Rules(at_least={name: middle})
        yield f"{name} at most", Rules(at_most={name: middle})
        yield f"{name} within", Rules(at_least={name: low}, at_most={name: high})
        yield f"no {name}", Rules(at_least={name: high}, at_most={name: low})


def _drawn(rules: ItemRules, n: int) -> Iterator[Rules]:
    """Rules of all kinds together; every fifth row has none."""
    rng = np.random.default_rng(len(rules.tags))
    for row in range(n):
        if row % 5 == 4:
            yield Rules()
            continue
        drawn = rng.choice(len(rules.tags), min(8, len(rules.tags)), replace=False)
        tags = [rules.tags[place] for place in drawn]
        name = list(rules.numbers)[row % len(rules.numbers)] if rules.numbers else None
        middle = {} if name is None else {name: float(np.nanmedian(rules.numbers[name]))}
        kind = row % 4
        yield Rules(
            require_all=tags[:1] if kind == 0 else (),
            require_any=tags[1 : 1 + row % 3] if kind != 1 else (),
            forbid=tags[4:6] if kind > 1 else (),
            boost=dict.fromkeys(tags[6:], 0.5 + row / 64),
            at_least=middle if kind == 2 else {},
            at_most=middle if kind == 3 else {},
        )

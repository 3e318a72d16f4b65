"""Checks of settings: the name, the wrong value and what would be right, in one `ValueError`.

A name stands in backticks, by which a command knows it and writes its own option instead.
"""

import math
from collections.abc import Collection, Mapping

from attnrec.runtime.model_file.format import LONGEST

LARGEST: Mapping[str, int] = {
    "max_len": LONGEST,
    "hidden_dim": 4096,
    "n_blocks": 64,
    "timed_blocks": 64,
    "n_heads": 4096,
    "n_negatives": 100_000,
    "n_neighbours": 10_000,
    "window": 1000,
    "batch_events": 100_000,
    "epochs": 100_000,
    "patience": 100_000,
    "threads": 256,
}
"""Highest value of each size: far above any use, below what takes all memory before it fails."""


def check_size(name: str, value: object) -> None:
    """`ValueError` unless `value` is a whole number from 1 to `LARGEST[name]`."""
    check_whole(name, value, 1, LARGEST[name])


def check_whole(name: str, value: object, lowest: int = 1, highest: int | None = None) -> None:
    """`ValueError` unless `value` is a whole number from `lowest` to `highest`."""
    span = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
    most = math.inf if highest is None else highest
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= most:
        raise ValueError(f"`{name}` must be a whole number, {span}, not {value!r}")


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    lowest: float | None = None,
    below: float = math.inf,
    highest: float | None = None,
) -> None:
    """`ValueError` unless `value` is a finite number in the given bounds."""
    limits = {"above": above, "at least": lowest, "below": below if below < math.inf else None}
    limits["at most"] = highest
    bounds = " and ".join(f"{word} {n:g}" for word, n in limits.items() if n is not None)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or (above is not None and value <= above)
        or (lowest is not None and value < lowest)
        or value >= below
        or (highest is not None and value > highest)
    ):
        raise ValueError(f"`{name}` must be {f'a number {bounds}'.rstrip()}, not {value!r}")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """`ValueError` unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}, not {value!r}")


def check_kind(name: str, value: object, kind: type, remedy: str) -> None:
    """`ValueError` for an argument of another kind, such as a name in place of what it names."""
    if not isinstance(value, kind):
        given = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
        raise ValueError(f"`{name}` must be a {kind.__name__}, not {given}; {remedy}")

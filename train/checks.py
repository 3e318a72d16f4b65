"""Checks of settings: the name, the wrong value and what would be right, in one `ValueError`."""

import math
from collections.abc import Collection


def check_whole(name: str, value: object, lowest: int = 1, highest: int = 2**63 - 1) -> None:
    """`ValueError` unless `value` is a whole number from `lowest` to `highest`."""
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        span = f"at least {lowest}" if highest == 2**63 - 1 else f"from {lowest} to {highest}"
        raise ValueError(f"{name} must be a whole number, {span}, not {value!r}")


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    lowest: float | None = None,
    below: float = math.inf,
) -> None:
    """`ValueError` unless `value` is a finite number in the given bounds."""
    bounds = []
    if above is not None:
        bounds.append(f"above {above:g}")
    if lowest is not None:
        bounds.append(f"at least {lowest:g}")
    if below < math.inf:
        bounds.append(f"below {below:g}")
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or (above is not None and value <= above)
        or (lowest is not None and value < lowest)
        or value >= below
    ):
        raise ValueError(f"{name} must be a number {' and '.join(bounds)}, not {value!r}")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """`ValueError` unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_kind(name: str, value: object, kind: type, remedy: str) -> None:
    """`ValueError` for an argument of another kind, such as a name in place of what it names."""
    if not isinstance(value, kind):
        given = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
        raise ValueError(f"{name} must be a {kind.__name__}, not {given}; {remedy}")

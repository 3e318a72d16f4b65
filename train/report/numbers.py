"""Figures as text."""

from collections.abc import Mapping
from typing import Any

_GAP = "\N{NO-BREAK SPACE}"


def interval(figures: Mapping[str, Any], name: str) -> str:
    """The 95 % interval of a metric."""
    low, high = figures[f"{name}_interval"]
    return f"{low:.4f} to {high:.4f}"


def difference(model: Mapping[str, Any], *, turned: bool = False) -> tuple[str, str]:
    """NDCG@10 of a traditional model less that of the run, and its interval.

    turned: that of the run less that of the model.
    """
    mean, (low, high) = model["ndcg@10_to_run"], model["ndcg@10_to_run_interval"]
    if turned:
        mean, low, high = -mean, -high, -low
    return signed(mean), f"{signed(low)} to {signed(high)}"


def signed(value: float) -> str:
    """With a sign that has the width of a digit."""
    rounded = round(value, 4)
    return f"{rounded:+.4f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.0000"


def seconds(took: float | None) -> str:
    """A duration for people."""
    if took is None:
        return "unknown"
    if took < 9.95:
        return f"{max(0.1, took):.1f}{_GAP}s"
    return f"{took:.0f}{_GAP}s" if took < 120 else f"{took / 60:.1f}{_GAP}min"

"""Trials of a search as a reader wants them: ranked, what they changed, how they ended."""

from collections.abc import Mapping, Sequence
from typing import Any


def ranked(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Told trials, best first; those that were stopped or failed last."""

    def place(trial: Mapping[str, Any]) -> tuple[bool, float, int]:
        counts = trial["outcome"] in ("done", "cut short")
        return not counts, -(trial["ndcg@10"] or 0.0), trial["number"]

    return sorted(trials, key=place)


def changes(values: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the recipe."""
    return {name: value for name, value in values.items() if value != recipe[name]}


def ended(outcome: str, n_epochs: int) -> str:
    """How a trial ended, in words."""
    epochs = f"{n_epochs} epoch{'' if n_epochs == 1 else 's'}"
    words = {"done": "done after", "cut short": "out of time after", "stopped": "stopped after"}
    return f"{words[outcome]} {epochs}" if outcome in words else outcome

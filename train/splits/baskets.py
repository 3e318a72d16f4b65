"""Logs of baskets, in which most events have the time of the event before."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnrec.runtime.errors import DataError
from attnrec.train.data.interactions import Interactions
from attnrec.train.splits.held_out import last_of_users

MANY = 0.5
"""Share of the held-out events with the time of the event before from which on a log is one of
baskets."""


def same_time_share(log: Interactions) -> float:
    """Share of the validation events that have the time of the event before.

    Near 1, the task is to complete a basket rather than to predict the next visit.
    """
    target = log.offsets[1:][np.diff(log.offsets) >= 3] - 2
    return float(np.mean(log.timestamps[target] == log.timestamps[target - 1]))


def n_last_session_users(log: Interactions) -> int:
    """Users with targets under last-session."""
    try:
        return len(last_of_users(log, "last-session")[0])
    except DataError:
        return 0


def basket_note(metrics: Mapping[str, Any]) -> str | None:
    """A note where most held-out events have the time of the event before; else None.

    metrics: those of a run. The other split is offered only where at least a quarter of the users
    have targets under it.
    """
    share = metrics.get("same_time_targets")
    if share is None or share <= MANY:
        return None
    note = (
        f"{share:.0%} of the held-out events have the time of the event before: here the task is "
        "to complete a basket"
    )
    valid = metrics["valid"]
    if metrics.get("last_session_users", 0) < valid.get("sample_of", valid["n_users"]) / 4:
        return note
    return f"{note}; --split last-session predicts the next one"

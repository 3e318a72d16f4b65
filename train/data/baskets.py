"""What a run says of a log of baskets, where many events have one time."""

from collections.abc import Mapping
from typing import Any

MANY = 0.5
"""Share of the held-out events from which on a log is one of baskets."""


def basket_note(metrics: Mapping[str, Any]) -> str | None:
    """A sentence for people where most held-out events have the time of the event before.

    metrics: those of a run. The other split is offered only where it asks at least a quarter of
    the users.
    """
    share = metrics.get("same_time_targets")
    if share is None or share <= MANY:
        return None
    note = (
        f"{share:.0%} of the held-out events have the time of the event before: here the task is "
        "to complete a basket"
    )
    n_users, n_asked = metrics["valid"]["n_users"], metrics.get("last_session_users", 0)
    if n_asked < n_users / 4:
        return note
    return f"{note}; --split last-session asks for the next one"

"""The part of the page that says what was trained on what."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnrec.train.fitting.config import TrainConfig
from attnrec.train.report.elements import Content, Markup, section, table, tag

_DROPPED = {
    "dropped_event_type": "other event types",
    "dropped_rating": "low ratings",
    "dropped_repeated": "later events of a user with the same item",
    "dropped_rare_items": "items with too few events",
    "dropped_short_users": "users with too few events",
}


def log_section(
    data: Mapping[str, Any], config: TrainConfig, metrics: Mapping[str, Any], *, n_items: int
) -> Markup:
    """The log, what was dropped and why, and how it was divided."""
    rows: list[Sequence[Content]] = [
        ("log", data["source"]),
        ("rows read", f"{data['rows_read']:,}"),
        ("events", f"{data['n_events']:,}"),
        ("users", f"{data['n_users']:,}, {data['n_users_evaluable']:,} with 3 events or more"),
        ("items", f"{data['n_items']:,}{_told_of_items(data)}"),
        ("catalogue", f"{n_items:,} items with an event to train on"),
        ("time", _span(data)),
        ("split", metrics["protocol"]),
        ("fingerprint", tag("code", data["fingerprint"][:16])),
    ]
    dropped: list[Sequence[Content]] = [
        (reason, f"{data[name]:,}", f"{data[name] / max(1, data['rows_read']):.1%}")
        for name, reason in _DROPPED.items()
        if data[name]
    ]
    return section(
        "What was trained on what",
        table(
            f"The log that {config.model} was trained on.", ("what", "figure"), rows, kind="facts"
        ),
        table("Rows that were dropped.", ("reason", "rows", "share"), dropped)
        if dropped
        else tag("p", "No row was dropped."),
    )


def _told_of_items(data: Mapping[str, Any]) -> str:
    titles, described = data["n_titles"], data.get("n_described")
    told = "" if titles is None else f", {titles:,} with a title"
    return told if described is None else f"{told}, {described:,} with attributes"


def _span(data: Mapping[str, Any]) -> str:
    if not data["first_time"]:
        return "an order, no times"
    guess = ", guessed" if data["time_unit_guessed"] else ""
    return f"{data['first_time']} to {data['last_time']} (unit {data['time_unit']}{guess})"

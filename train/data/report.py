"""What was read from a log and what became of it."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DataReport:
    """The figures of one reading; `lines` for people, `to_json` for files."""

    source: str
    """Name of the file, or "DataFrame"."""
    rows_read: int
    """Rows of the source."""
    dropped_event_type: int
    """Rows of an event type that does not count."""
    dropped_rating: int
    """Rows below the lowest rating."""
    dropped_repeated: int
    """Later events of a user with the same item."""
    dropped_rare_items: int
    """Events of items with too few events."""
    dropped_short_users: int
    """Events of users with too few events."""
    n_users: int
    """Users left."""
    n_users_evaluable: int
    """Users with 3 events or more: one each to train, validate and test."""
    n_items: int
    """Items left."""
    n_events: int
    """Events left."""
    user_id_type: str
    """"int64" or "string"."""
    item_id_type: str
    """"int64" or "string"."""
    time_unit: str
    """"s", "ms", "us", "ns", "iso", "datetime" or "order"."""
    time_unit_guessed: bool
    """Whether the unit was guessed from the values."""
    first_time: str | None
    """Time of the first event, ISO 8601 in UTC; None where the log has only an order."""
    last_time: str | None
    """Time of the last event, likewise."""
    n_titles: int | None
    """Items with a title; None without an items table."""
    fingerprint: str
    """sha256 over the prepared arrays (hex): the same log gives the same in every format."""
    n_described: int | None = None
    """Items with an attribute; None without attribute columns."""
    n_tagged: int | None = None
    """Users with a tag; None without tag columns."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict that ``json.dumps`` takes."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for people, a few short lines."""
        dropped = {
            "other event types": self.dropped_event_type,
            "low ratings": self.dropped_rating,
            "repeats": self.dropped_repeated,
            "rare items": self.dropped_rare_items,
            "short users": self.dropped_short_users,
        }
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
        span = f"{self.first_time} to {self.last_time}" if self.first_time else "order only"
        guess = ", guessed" if self.time_unit_guessed else ""
        titles = "" if self.n_titles is None else f", {self.n_titles:,} with a title"
        if self.n_described is not None:
            titles += f", {self.n_described:,} with attributes"
        tagged = "" if self.n_tagged is None else f", {self.n_tagged:,} with tags"
        return [
            f"read     {self.source}: {self.rows_read:,} rows",
            f"dropped  {reasons or 'nothing'}",
            f"events   {self.n_events:,}",
            f"users    {self.n_users:,} ({self.user_id_type} ids), "
            f"{self.n_users_evaluable:,} with 3 events or more{tagged}",
            f"items    {self.n_items:,} ({self.item_id_type} ids){titles}",
            f"time     {span} (unit {self.time_unit}{guess})",
            f"sha256   {self.fingerprint[:16]}",
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())

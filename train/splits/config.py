"""How a log is divided: by the events of each user, or at a time. Needs nothing but Python."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from attnrec.train.checks import check_choice, check_number

Part = Literal["valid", "test"]
SplitName = Literal["leave-one-out", "last-session", "time"]

_RANKING = "the rest is trained on; whole catalogue ranked; ties count against the model"
PROTOCOLS: dict[str, str] = {
    "leave-one-out": "leave-one-out: per user the last event is the test target, the second last "
    f"the validation target, {_RANKING}",
    "last-session": "last-session: per user all events of the last timestamp are the test "
    f"targets, those of the second last the validation targets, {_RANKING}",
}
"""What each split by users means, as reports and model files say it."""

Targets = Literal["all", "first", "last"]
AskAt = Literal["first", "cut"]


@dataclass(frozen=True)
class TimeSplit:
    """Where a log is cut: one of `test_days`, `test_from` and `test_share`, else 7 days."""

    test_days: float | None = None
    """Last days of the log that are the test window. Default of `split` time: 7."""
    test_from: str | None = None
    """When the test window begins instead: a date or an ISO 8601 time, UTC if it names no zone."""
    test_share: float | None = None
    """Share of the events that lie in the test window instead, such as 0.1."""
    valid_days: float | None = None
    """Days of the validation window before it. None: as long as the test window, or with
    `test_share` as many events."""
    targets: Targets = "all"
    """The targets of a user: all events in the window, the first, or the last. The history of the
    last includes the earlier events of the window."""
    ask_at: AskAt = "first"
    """Time of the request: that of the first target, or the cut."""

    def __post_init__(self) -> None:
        given = [
            n for n in ("test_days", "test_from", "test_share") if getattr(self, n) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"`{given[0]}` and `{given[1]}` both set the cut: leave one out")
        for name in ("test_days", "valid_days"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0)
        if self.test_share is not None:
            check_number("test_share", self.test_share, above=0, below=0.5)
        if self.test_from is not None:
            unix_seconds(self.test_from)
        check_choice("targets", self.targets, get_args(Targets))
        check_choice("ask_at", self.ask_at, get_args(AskAt))
        if self.targets == "last" and self.ask_at == "cut":
            raise ValueError(
                "the last target has a history that goes on after the cut, so it cannot be asked "
                "for at the cut: leave `ask_at` out, or take `targets` first or all"
            )

    def moved(self, given: Mapping[str, Any]) -> "TimeSplit":
        """The same with other values; one that sets the test window replaces the one that did."""
        starts = {"test_days", "test_from", "test_share"}
        gone = dict.fromkeys(starts) if starts & given.keys() else {}
        return replace(self, **{**gone, **given})

    def __str__(self) -> str:
        return "time"


SplitBy = SplitName | TimeSplit
"""How to divide a log; "time" is `TimeSplit()`."""


def unix_seconds(text: str) -> int:
    """Of a date or an ISO 8601 time, UTC where it names no zone; `ValueError` for other text."""
    try:
        given = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`test_from` must be a date such as 2011-12-01, or an ISO 8601 time, not {text!r}"
        ) from error
    return int(given.replace(tzinfo=given.tzinfo or UTC).timestamp())

"""How a log can be divided into what is trained on and what is asked."""

from typing import Literal

Part = Literal["valid", "test"]
SplitName = Literal["leave-one-out", "last-session"]

_RANKING = "the rest is trained on; whole catalogue ranked; ties count against the model"
PROTOCOLS: dict[SplitName, str] = {
    "leave-one-out": "leave-one-out: per user the last event is the test target, the second last "
    f"the validation target, {_RANKING}",
    "last-session": "last-session: per user all events of the last timestamp are the test "
    f"targets, those of the second last the validation targets, {_RANKING}",
}
"""What each split means, for people and for the file."""

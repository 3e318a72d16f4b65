"""Refusals as problem documents (RFC 9457): the value, the limit, and what to do."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.exceptions import HTTPException

from attnrec.runtime.model_file.format import (
    CALLER_INPUTS,
    CANDIDATES,
    EXCLUDE,
    HISTORY,
    TIMESTAMPS,
    IdType,
    K,
)

ARRIVED, GONE, LATE, TARGET = "arrived", "gone", "late", "target"
"""Entries in the state of a request: when it began, by `time.perf_counter`; whether its client has
closed the connection; whether its body is late; the host in its first line, if there is one."""
CLOSE = {"Connection": "close"}  # what is left of the body is not waited for
STOPS = "the server stops; send the request to another one"
PROBLEM_JSON = "application/problem+json"


class Problem(Struct):
    """A refusal in the format of RFC 9457; the last three members only where they apply."""

    type: str
    title: str
    status: int
    detail: str
    field: str | UnsetType = UNSET
    value: Any = UNSET
    limit: int | UnsetType = UNSET


class Refused(HTTPException):
    """A request that gets a problem document instead of an answer."""

    def __init__(
        self, status: int, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(status, detail, headers)
        self.members = members


class ClientGone(Exception):
    """The client has closed the connection; no answer is needed."""


encode: Callable[[object], bytes] = msgspec.json.Encoder().encode


def problem_of(status: int, detail: str, **members: Any) -> bytes:
    """A problem document."""
    return encode(Problem("about:blank", HTTPStatus(status).phrase, status, detail, **members))


_WORDS = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)
# In these messages of msgspec the name of a field stands last.
_NAMED = re.compile(r"Object (?:missing required|contains unknown) field (.*)", re.DOTALL)
_FIELDS = f"{HISTORY}|{EXCLUDE}|{CANDIDATES}|{K}|items?|{'|'.join(CALLER_INPUTS)}"
_ARGUMENT = re.compile(rf"({_FIELDS})(?:_id)?\b|this file does not declare the input '(\w+)'")
_STEP = re.compile(r"\[(\d+)\]|(\w+)")


def wrong_value(error: str, body: bytes, id_type: IdType) -> Refused:
    """The message of msgspec about a value, with the value, the limit and the remedy."""
    words = _WORDS.fullmatch(error)
    what, field = words.groups("") if words else (error, "")
    what = what.replace("`", "")[:200]
    detail = f"{field}: {what}" if field else what
    if named := _NAMED.fullmatch(what):
        field = f"{field}.{named[1]}" if field else named[1]
    if not field:
        return Refused(422, what, **_limit(what))
    is_id = field.endswith("]") or field == "item"
    if is_id and not named and "user" not in field and not field.startswith(TIMESTAMPS):
        kind = "whole numbers (int64)" if id_type == "int64" else "strings"
        detail += f"; item ids of this file are {kind}"
    return Refused(422, detail, field=field, value=_value_at(field, body), **_limit(what))


def wrong_argument(error: str, body: bytes) -> Refused:
    """The message of the runtime about an argument, with the field that it names.

    For a list of rows it does not name the row.
    """
    found = _ARGUMENT.match(error)
    if found is None or body.lstrip()[:1] != b"{":
        return Refused(422, error)
    field = found[1] or found[2]
    return Refused(422, error, field=field, value=_value_at(field, body))


def _limit(what: str) -> dict[str, Any]:
    found = re.search(r"[<>]= (-?\d+)$", what)
    return {"limit": int(found[1])} if found else {}


def _value_at(field: str, body: bytes) -> Any:
    """The plain value that stands at a place such as "[3].history[0]", cut where it is long."""
    try:
        value = msgspec.json.decode(body)
        for index, name in _STEP.findall(field):
            value = value[int(index)] if index else value[name]
    except (msgspec.DecodeError, ValueError, RecursionError, LookupError, TypeError):
        return UNSET
    if isinstance(value, (list, dict)):
        return UNSET
    # Up to 19 digits: larger numbers the encoder cannot write.
    return value if isinstance(value, float) or len(str(value)) <= 19 else f"{value!s:.60}"

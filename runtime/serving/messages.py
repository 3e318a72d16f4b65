"""Requests and answers as JSON: their shapes, their limits, and the words of a refusal.

msgspec is used here and nowhere else.
"""

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.exceptions import HTTPException

from attnrec.runtime.arguments import LONGEST
from attnrec.runtime.format import IdType
from attnrec.runtime.recommendations import Recommendations

MOST_ROWS = 256
"""Questions of one request."""
MOST_ITEMS = 1000
"""Largest k: an answer is held in memory as a whole."""

MOST_TAGS = 1000
"""Tags of a user in one question."""

Id = TypeVar("Id", int, str)
User = TypeVar("User", int, str)
# Both bounds: with one alone msgspec takes numbers of any size.
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Ids = Annotated[Sequence[Id], Meta(max_length=LONGEST)]


class Question(Struct, Generic[Id, User], forbid_unknown_fields=True):
    """One row of a request: the arguments of `Recommender.recommend`."""

    history: _Ids[Id]
    k: Annotated[int, Meta(ge=1, le=MOST_ITEMS)] = 10
    exclude: _Ids[Id] = ()
    candidates: _Ids[Id] | None = None
    exclude_seen: bool | None = None
    user: User | None = None
    user_tags: Annotated[Sequence[str], Meta(max_length=MOST_TAGS)] | None = None


class Item(Struct):
    """One item of an answer; the title only where the file has titles."""

    id: int | str
    score: float
    title: str | UnsetType = UNSET


class Answer(Struct):
    """What one row gets: items, best first."""

    items: list[Item]
    n_known: int
    model_version: str


class Problem(Struct):
    """A refusal as RFC 9457 has it; the last three only where there is such a thing."""

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


encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
Asked = Question[Any, Any]
Decode = Callable[[bytes], Asked | list[Asked]]


def answer_of(found: Recommendations, version: str) -> Answer:
    """An answer of the runtime as one of HTTP."""
    titles: Sequence[str | UnsetType] = found.titles or [UNSET] * len(found)
    items = list(map(Item, found.item_ids, found.scores, titles))
    return Answer(items, found.n_known, version)


def problem_of(status: int, detail: str, **members: Any) -> bytes:
    """A problem document."""
    return encode(Problem("about:blank", HTTPStatus(status).phrase, status, detail, **members))


def decoder(id_type: IdType, user_id_type: IdType | None = None) -> Decode:
    """From a body to its question, or to a list of them. `Refused` says what is wrong with it."""
    shapes: dict[tuple[bool, bool], Any] = {
        (True, True): Question[_Int64, _Int64],
        (True, False): Question[_Int64, str],
        (False, True): Question[str, _Int64],
        (False, False): Question[str, str],
    }
    row: Any = shapes[id_type == "int64", user_id_type == "int64"]
    rows: Any = Annotated[list[row], Meta(max_length=MOST_ROWS)]
    parse = msgspec.json.Decoder(row | rows).decode

    def decode(body: bytes) -> Asked | list[Asked]:
        try:
            asked: Asked | list[Asked] = parse(body)
        except msgspec.ValidationError as error:
            raise _wrong_value(str(error), body, id_type) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(400, f"the body is not JSON in UTF-8: {error}") from error
        return asked

    return decode


_WORDS = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\[(\d+)\]|(\w+)")


def _wrong_value(error: str, body: bytes, id_type: IdType) -> Refused:
    """What msgspec says of a value, with the value, the limit and the remedy."""
    words = _WORDS.fullmatch(error)
    what, field = words.groups("") if words else (error, "")
    what = what.replace("`", "")[:200]
    if not field:
        return Refused(422, what, **_limit(what))
    detail = f"{field}: {what}"
    if field.endswith("]") and "field" not in what and "user" not in field:
        kind = "whole numbers (int64)" if id_type == "int64" else "strings"
        detail += f"; item ids of this file are {kind}"
    return Refused(422, detail, field=field, value=_value_at(field, body), **_limit(what))


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

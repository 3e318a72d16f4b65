"""Requests and answers as JSON: their shapes and their limits."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from attnrec.runtime.answers import Recommendations, SimilarItems
from attnrec.runtime.model_file.format import LONGEST, IdType
from attnrec.runtime.rules import MOST_TAGS, RuleOptions
from attnrec.runtime.serving.errors import Refused, wrong_value

MOST_ROWS = 256
"""Rows of one request."""
MOST_ITEMS = 1000
"""Largest k: an answer is held in memory as a whole."""
MOST_ANSWERED = 25_600
"""Largest sum of k over the rows of one request: about 2 MB of answer."""
MOST_EVENTS = 1000
"""Events of a history in /v1/explain: the score is computed once without each."""

Id = TypeVar("Id", int, str)
User = TypeVar("User", int, str)
# Both bounds: with one alone msgspec takes numbers of any size.
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Ids = Annotated[Sequence[Id], Meta(max_length=LONGEST)]
_K = Annotated[int, Meta(ge=1, le=MOST_ITEMS)]
_Times = Annotated[Sequence[Int64], Meta(max_length=LONGEST)] | None
_Tags = Annotated[Sequence[str], Meta(max_length=MOST_TAGS)] | None
_Numbers = Annotated[dict[str, float], Meta(max_length=MOST_TAGS)] | None
_Counts = (
    Annotated[dict[str, Annotated[int, Meta(ge=0, le=MOST_ITEMS)]], Meta(max_length=MOST_TAGS)]
    | None
)


class _SideInputs(Struct, Generic[User], kw_only=True, forbid_unknown_fields=True):
    """What the caller may give with a history, if the file declares it."""

    user: User | None = None
    user_tags: _Tags = None
    timestamps: _Times = None
    request_time: Int64 | None = None


class RecommendRequest(_SideInputs[User], Generic[Id, User], forbid_unknown_fields=True):
    """One row of a request: the arguments of `Recommender.recommend`."""

    history: _Ids[Id]
    k: _K = 10
    exclude: _Ids[Id] | None = None
    candidates: _Ids[Id] | None = None
    exclude_seen: bool | None = None
    require_all: _Tags = None
    require_any: _Tags = None
    forbid: _Tags = None
    boost: _Numbers = None
    at_least: _Numbers = None
    at_most: _Numbers = None
    diversity: Annotated[float, Meta(ge=0, le=1)] = 0.0
    max_per: _Counts = None
    min_per: _Counts = None

    def rules(self) -> RuleOptions:
        """The rules that it has."""
        given = {name: getattr(self, name) for name in RuleOptions.__annotations__}
        found: Any = {name: value for name, value in given.items() if value is not None}
        return cast(RuleOptions, found)

    def slate(self) -> dict[str, Any]:
        """How its list is made."""
        return {name: getattr(self, name) for name in ("diversity", "max_per", "min_per")}


class ScoreRequest(_SideInputs[User], Generic[Id, User], forbid_unknown_fields=True):
    """The arguments of `Recommender.score`."""

    history: _Ids[Id]
    items: _Ids[Id]


class SimilarRequest(Struct, Generic[Id, User], forbid_unknown_fields=True):
    """The arguments of `Recommender.similar`."""

    item: Id
    k: _K = 10


class ExplainRequest(_SideInputs[User], Generic[Id, User], forbid_unknown_fields=True):
    """The arguments of `Recommender.explain`."""

    history: Annotated[Sequence[Id], Meta(max_length=MOST_EVENTS)]
    item: Id
    boost: _Numbers = None


class Item(Struct):
    """One item of an answer; the title only where the file has titles."""

    id: int | str
    score: float
    title: str | UnsetType = UNSET


class RecommendResponse(Struct):
    """The answer to one row: items, best first."""

    items: list[Item]
    n_known: int
    model_version: str
    n_allowed: int | UnsetType = UNSET
    unknown_tags: Sequence[str] | UnsetType = UNSET

    @classmethod
    def of(cls, found: Recommendations, model_version: str) -> "RecommendResponse":
        """The answer of the runtime; what it does not know is left out."""
        allowed, unknown = found.n_allowed, found.unknown_tags
        return cls(
            items_of(found),
            found.n_known,
            model_version,
            UNSET if allowed is None else allowed,
            UNSET if unknown is None else unknown,
        )


class ScoreResponse(Struct):
    """Scores in the order of the items; null for unknown and unavailable ones."""

    scores: list[float | None]
    model_version: str


class SimilarResponse(Struct):
    """Items, most similar first."""

    items: list[Item]
    model_version: str


class ExplainedEvent(Struct):
    """The contribution of one event of the history to the score of the explained item."""

    id: int | str
    contribution: float
    title: str | UnsetType = UNSET
    attention: float | UnsetType = UNSET


class ExplainResponse(Struct):
    """The item with its score, and every event of the history in its order."""

    item: Item
    events: list[ExplainedEvent]
    model_version: str
    boosts: dict[str, float] | UnsetType = UNSET


class FoundItem(Struct):
    """An item of the catalogue."""

    id: int | str
    title: str | UnsetType = UNSET


class FoundItems(Struct):
    """The result of a search, and the number of items in the catalogue."""

    items: list[FoundItem]
    n_items: int


Row = RecommendRequest[Any, Any]


def items_of(found: Recommendations | SimilarItems) -> list[Item]:
    """Items of an answer of the runtime."""
    titles: Sequence[str | UnsetType] = found.titles or [UNSET] * len(found)
    return list(map(Item, found.item_ids, found.scores, titles))


def shape_of(request: Any, id_type: IdType, user_id_type: IdType | None) -> Any:
    """A type of request with the id types of a file filled in."""
    item_id = Int64 if id_type == "int64" else str
    return request[item_id, Int64 if user_id_type == "int64" else str]


def decoder(shape: Any, id_type: IdType) -> Callable[[bytes], Any]:
    """From a body to a request. `Refused` names a wrong value."""
    parse = msgspec.json.Decoder(shape).decode

    def decode(body: bytes) -> Any:
        try:
            return parse(body)
        except msgspec.ValidationError as error:
            raise wrong_value(str(error), body, id_type) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(400, f"the body is not JSON in UTF-8: {error}") from error

    return decode


def check_size(n_items: int, status: int = 422) -> None:
    """`Refused` if the rows want too many items together."""
    if n_items > MOST_ANSWERED:
        detail = (
            f"the rows want {n_items} items together, the limit is {MOST_ANSWERED}; "
            "send fewer rows, or a smaller k"
        )
        raise Refused(status, detail, limit=MOST_ANSWERED)


def rows_of(shape: Any) -> Any:
    """One row, or a list of rows."""
    return shape | Annotated[list[shape], Meta(max_length=MOST_ROWS)]

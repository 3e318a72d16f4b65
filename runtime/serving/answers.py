"""A loaded file and its answers to request bodies: bytes in, bytes out, no HTTP."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from msgspec import UNSET, UnsetType

from attnrec.runtime.deadline import current
from attnrec.runtime.errors import SelfTestError
from attnrec.runtime.model_file.format import CALLER_INPUTS
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.rules import rules_of
from attnrec.runtime.serving import schemas
from attnrec.runtime.serving.errors import encode, wrong_argument
from attnrec.runtime.serving.schemas import Row
from attnrec.runtime.serving.search import TitleIndex
from attnrec.runtime.slates import Slate

_SHORT_SECONDS = 0.003
_SHORT_BODY = 4096

Content = TypeVar("Content")


class ReadOnce(Generic[Content]):
    """Reads in a thread of its own. A request waits until its deadline; a later one finds it."""

    def __init__(self, read: Callable[[], Content]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._content: Future[Content] | None = None

    def get(self) -> Content:
        """The content, or the error of reading it, which is tried again the next time.

        `DeadlineExceeded` if it is not there when the call of this thread has to end.
        """
        with self._lock:
            if self._content is None or (self._content.done() and self._content.exception()):
                content = Future[Content]()
                threading.Thread(target=self._fill, args=(content,), daemon=True).start()
                self._content = content  # only where the thread did start
            content = self._content
        deadline = current.deadline
        try:
            return content.result(None if deadline is None else max(0.0, deadline.left()))
        except NotYet:
            if deadline is None or content.done():
                raise
            raise deadline.exceeded() from None

    def _fill(self, content: Future[Content]) -> None:
        try:
            content.set_result(self._read())
        except Exception as error:
            content.set_exception(error)


@dataclass(frozen=True)
class ServedFile:
    """A file as it is served; a server changes files by changing this one reference."""

    recommender: Recommender
    version: str
    """First digits of the sha256 of the file."""
    fault: str | None
    """Why the file must not be used on this machine; None: it passed its self-test."""
    answers_at_once: bool
    """One answer takes so little time that the thread of the server may compute it."""
    loaded_at: float
    """Seconds since 1970."""

    @classmethod
    def of(cls, recommender: Recommender) -> "ServedFile":
        """Prepare a file, and test it with its golden vectors."""
        fault, n_vectors = None, 0
        begun = time.perf_counter()
        try:
            n_vectors = recommender.selftest()
        except SelfTestError as error:
            fault = str(error)
        seconds = (time.perf_counter() - begun) / max(1, n_vectors)
        version = (recommender.info.sha256 or "unsealed")[:12]
        return cls(recommender, version, fault, seconds < _SHORT_SECONDS, time.time())

    @cached_property
    def routes(self) -> dict[str, "_Route"]:
        """What answers a body, by path.

        Functions, not methods of this object: with a cycle the memory of a file that was replaced
        would be free only when the garbage collector finds it.
        """
        info = self.recommender.info

        def decoder(kind: Any, *, many: bool = False) -> Callable[[bytes], Any]:
            shape = schemas.shape_of(kind, info.id_type, info.user_id_type)
            return schemas.decoder(schemas.rows_of(shape) if many else shape, info.id_type)

        return {
            "/v1/recommend": _Route(
                decoder(schemas.RecommendRequest, many=True), ServedFile._recommend
            ),
            "/v1/score": _Route(decoder(schemas.ScoreRequest), ServedFile._score),
            "/v1/similar": _Route(decoder(schemas.SimilarRequest), ServedFile._similar),
            "/v1/explain": _Route(decoder(schemas.ExplainRequest), ServedFile._explain),
        }

    def answer(self, path: str, body: bytes) -> bytes:
        """From the body of a request to that of its answer. `Refused` names a wrong value."""
        route = self.routes[path]
        request = route.decode(body)
        try:
            return encode(route.answer(self, request))
        except ValueError as error:  # it names the argument
            raise wrong_argument(str(error), body) from error

    def is_short(self, path: str, body: bytes) -> bool:
        """Whether answering surely takes a few milliseconds at most."""
        one = path in ("/v1/recommend", "/v1/score") and body[:1] == b"{"
        return self.answers_at_once and one and len(body) <= _SHORT_BODY

    @cached_property
    def facts(self) -> bytes:
        """The metadata of the file, as JSON."""
        return encode(self.recommender.info)

    @cached_property
    def titles(self) -> ReadOnce[TitleIndex]:
        """The titles to search in, read on the first search."""
        return ReadOnce(partial(TitleIndex.of, self.recommender))

    @cached_property
    def _vectors(self) -> ReadOnce[None]:
        """Item vectors, read by the first request for similar items."""
        return ReadOnce(self.recommender._read_similar)

    def _recommend(self, request: Row | list[Row]) -> object:
        if isinstance(request, list):
            return self._recommend_many(request)
        found = self.recommender.recommend(
            request.history,
            request.k,
            exclude=request.exclude,
            candidates=request.candidates,
            exclude_seen=request.exclude_seen,
            **request.slate(),
            **request.rules(),
            **_side_inputs(request),
        )
        return schemas.RecommendResponse.of(found, self.version)

    def _recommend_many(self, rows: Sequence[Row]) -> object:
        """Rows with the same k, `exclude_seen` and slate share a batch."""
        schemas.check_size(sum(min(one.k, self.recommender.info.n_items) for one in rows))
        groups: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(repr((row.k, row.exclude_seen, row.slate())), []).append(place)
        answers: dict[int, schemas.RecommendResponse] = {}
        for places in groups.values():
            batch = [rows[place] for place in places]
            rules = [rules_of(row.rules()) for row in batch]
            found = self.recommender.recommend_batch(
                [row.history for row in batch],
                batch[0].k,
                exclude=[row.exclude for row in batch],
                candidates=[row.candidates for row in batch],
                exclude_seen=batch[0].exclude_seen,
                rules=_none_if_empty(rules),
                slate=_slate_of(batch[0]),
                users=_none_if_empty([row.user for row in batch]),
                user_tags=_none_if_empty([row.user_tags for row in batch]),
                timestamps=_none_if_empty([row.timestamps for row in batch]),
                request_times=_none_if_empty([row.request_time for row in batch]),
            )
            for place, one in zip(places, found, strict=True):
                answers[place] = schemas.RecommendResponse.of(one, self.version)
        return [answers[place] for place in range(len(rows))]

    def _score(self, request: schemas.ScoreRequest[Any, Any]) -> object:
        found = self.recommender.score(request.history, request.items, **_side_inputs(request))
        return schemas.ScoreResponse(list(found), self.version)  # NaN becomes null

    def _similar(self, request: schemas.SimilarRequest[Any, Any]) -> object:
        self._vectors.get()
        found = self.recommender.similar(request.item, request.k)
        return schemas.SimilarResponse(schemas.items_of(found), self.version)

    def _explain(self, request: schemas.ExplainRequest[Any, Any]) -> object:
        given = _side_inputs(request)
        found = self.recommender.explain(
            request.history, request.item, boost=request.boost, **given
        )
        unset = [UNSET] * len(found.history)
        titles: Sequence[str | UnsetType] = found.titles or unset
        attention: Sequence[float | UnsetType] = found.attention or unset
        events = map(schemas.ExplainedEvent, found.history, found.contributions, titles, attention)
        title = UNSET if found.title is None else found.title
        item = schemas.Item(found.item_id, found.score, title)
        boosts = UNSET if found.boosts is None else found.boosts
        return schemas.ExplainResponse(item, list(events), self.version, boosts)


@dataclass(frozen=True)
class _Route:
    """How bodies of one path are read and answered."""

    decode: Callable[[bytes], Any]
    """From the body to a request; `Refused` names a wrong value."""
    answer: Callable[[ServedFile, Any], object]


def _slate_of(request: Row) -> Slate | None:
    slate = Slate(request.diversity, request.max_per or {}, request.min_per or {})
    return None if slate.is_plain() else slate


def _side_inputs(request: Any) -> dict[str, Any]:
    """The side inputs that the caller gives with the history."""
    return {name: getattr(request, name) for name in CALLER_INPUTS}


def _none_if_empty(values: list[Any]) -> list[Any] | None:
    """A side input of the rows; None where no row has it."""
    return None if all(value is None for value in values) else values

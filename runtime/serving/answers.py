"""A loaded file and how bodies are answered from it: bytes in, bytes out, no HTTP."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from msgspec import UNSET, UnsetType

from attnrec.runtime.errors import SelfTestError
from attnrec.runtime.model_file.format import CALLER_INPUTS
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.serving import schemas
from attnrec.runtime.serving.errors import encode, wrong_argument
from attnrec.runtime.serving.read_once import ReadOnce
from attnrec.runtime.serving.schemas import Asked
from attnrec.runtime.serving.search import Catalogue

_SHORT_SECONDS = 0.003
_SHORT_BODY = 4096


@dataclass(frozen=True)
class Served:
    """A file as it is served; a server changes files by changing this one reference."""

    recommender: Recommender
    version: str
    """First digits of the sha256 of the file."""
    fault: str | None
    """Why it must not be used on this machine; None: it reproduces its golden vectors."""
    answers_at_once: bool
    """One answer takes so little time that nobody need notice."""
    loaded_at: float
    """Seconds since 1970."""

    @classmethod
    def of(cls, recommender: Recommender) -> "Served":
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

        def decoder(question: Any, *, many: bool = False) -> Callable[[bytes], Any]:
            shape = schemas.shape_of(question, info.id_type, info.user_id_type)
            return schemas.decoder(schemas.rows_of(shape) if many else shape, info.id_type)

        return {
            "/v1/recommend": _Route(decoder(schemas.Question, many=True), Served._recommend),
            "/v1/score": _Route(decoder(schemas.ScoreQuestion), Served._score),
            "/v1/similar": _Route(decoder(schemas.SimilarQuestion), Served._similar),
            "/v1/explain": _Route(decoder(schemas.ExplainQuestion), Served._explain),
        }

    def answer(self, path: str, body: bytes) -> bytes:
        """From the body of a request to that of its answer. `Refused` if it cannot be asked."""
        route = self.routes[path]
        asked = route.decode(body)
        try:
            return encode(route.answer(self, asked))
        except ValueError as error:  # of the arguments, and it says which
            raise wrong_argument(str(error), body) from error

    def is_short(self, path: str, body: bytes) -> bool:
        """Whether answering will surely be over soon."""
        one = path in ("/v1/recommend", "/v1/score") and body[:1] == b"{"
        return self.answers_at_once and one and len(body) <= _SHORT_BODY

    @cached_property
    def facts(self) -> bytes:
        """What the file says of itself, as JSON."""
        return encode(self.recommender.info)

    @cached_property
    def catalogue(self) -> ReadOnce[Catalogue]:
        """What can be searched, read on the first search."""
        return ReadOnce(partial(Catalogue.of, self.recommender))

    @cached_property
    def _vectors(self) -> ReadOnce[None]:
        """Item vectors, read when similar items are first wanted."""
        return ReadOnce(self.recommender._read_similar)

    def _recommend(self, asked: Asked | list[Asked]) -> object:
        if isinstance(asked, list):
            return self._recommend_many(asked)
        found = self.recommender.recommend(
            asked.history,
            asked.k,
            exclude=asked.exclude,
            candidates=asked.candidates,
            exclude_seen=asked.exclude_seen,
            **_said(asked),
        )
        return schemas.Answer(schemas.items_of(found), found.n_known, self.version)

    def _recommend_many(self, asked: Sequence[Asked]) -> object:
        """Questions with the same k and policy share a batch."""
        schemas.check_size(sum(min(one.k, self.recommender.info.n_items) for one in asked))
        groups: dict[tuple[int, bool | None], list[int]] = {}
        for place, question in enumerate(asked):
            groups.setdefault((question.k, question.exclude_seen), []).append(place)
        answers: dict[int, schemas.Answer] = {}
        for (k, exclude_seen), places in groups.items():
            rows = [asked[place] for place in places]
            found = self.recommender.recommend_batch(
                [row.history for row in rows],
                k,
                exclude=[row.exclude for row in rows],
                candidates=[row.candidates for row in rows],
                exclude_seen=exclude_seen,
                users=_given([row.user for row in rows]),
                user_tags=_given([row.user_tags for row in rows]),
                timestamps=_given([row.timestamps for row in rows]),
                request_times=_given([row.request_time for row in rows]),
            )
            for place, one in zip(places, found, strict=True):
                items = schemas.items_of(one)
                answers[place] = schemas.Answer(items, one.n_known, self.version)
        return [answers[place] for place in range(len(asked))]

    def _score(self, asked: schemas.ScoreQuestion[Any, Any]) -> object:
        found = self.recommender.score(asked.history, asked.items, **_said(asked))
        return schemas.ScoreAnswer(list(found), self.version)  # NaN becomes null

    def _similar(self, asked: schemas.SimilarQuestion[Any, Any]) -> object:
        self._vectors.get()
        found = self.recommender.similar(asked.item, asked.k)
        return schemas.SimilarAnswer(schemas.items_of(found), self.version)

    def _explain(self, asked: schemas.ExplainQuestion[Any, Any]) -> object:
        found = self.recommender.explain(asked.history, asked.item, **_said(asked))
        unset = [UNSET] * len(found.history)
        titles: Sequence[str | UnsetType] = found.titles or unset
        attention: Sequence[float | UnsetType] = found.attention or unset
        events = map(schemas.Event, found.history, found.contributions, titles, attention)
        title = UNSET if found.title is None else found.title
        item = schemas.Item(found.item_id, found.score, title)
        return schemas.ExplainAnswer(item, list(events), self.version)


@dataclass(frozen=True)
class _Route:
    """How bodies of one path are read and answered."""

    decode: Callable[[bytes], Any]
    """`Refused` for what is no question."""
    answer: Callable[[Served, Any], object]


def _said(asked: Any) -> dict[str, Any]:
    """What a question says beside the history and the items."""
    return {name: getattr(asked, name) for name in CALLER_INPUTS}


def _given(values: list[Any]) -> list[Any] | None:
    """What the rows say of who asks; None where no row says anything."""
    return None if all(value is None for value in values) else values

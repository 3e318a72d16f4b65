"""The answers of a `Recommender`, from the outputs of the graph."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from numpy.typing import NDArray

_NOTHING_LEFT = float("-inf")


@dataclass(frozen=True, slots=True)
class _Ranking:
    item_ids: list[int] | list[str]
    """Raw ids, as in the log that the model was trained on."""
    scores: list[float]
    """Score of each item, highest first; comparable within one answer."""
    titles: list[str] | None
    """Title of each item, "" where unknown; None if the file holds no titles."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def pairs(self) -> list[tuple[int | str, float]]:
        """Pairs (item_id, score), best first."""
        return list(zip(self.item_ids, self.scores, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """A plain dict, for JSON; without titles where the file holds none."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Recommendations(_Ranking):
    """Items for one history, best first; shorter than k when fewer may be recommended."""

    n_known: int
    """Events of the history that the model knows; 0: the answer to an empty history."""
    n_allowed: int | None = None
    """Items that `exclude`, `candidates` and rules leave; None: the file knows no rules."""
    unknown_tags: tuple[str, ...] | None = None
    """Tags of the request that the file does not know; None: there were no rules."""


@dataclass(frozen=True, slots=True)
class SimilarItems(_Ranking):
    """Items like one, most similar first."""

    kind: Literal["cosine", "next"]
    """Meaning of the scores: cosines of item vectors (-1 to 1), or, of a model without vectors,
    the scores of the next item after that item alone."""


def answer_of(outputs: list[NDArray[Any]]) -> Recommendations:
    """The outputs of the graph for one row.

    Written out, without a loop: after a run, Python is out of the processor's cache, and each of
    its steps costs several times as much as when it is repeated.
    """
    titles, n_allowed = _further(outputs)
    ids, scores, n_known = outputs[0].tolist(), outputs[1].tolist(), outputs[2].tolist()
    return _without_padding(
        ids[0],
        scores[0],
        None if titles is None else titles.tolist()[0],
        n_known[0],
        None if n_allowed is None else n_allowed.tolist()[0],
    )


def answers_of(outputs: list[NDArray[Any]]) -> list[Recommendations]:
    """The outputs of the graph, one answer for each row."""
    items, scores, n_known = (output.tolist() for output in outputs[:3])
    further = (values if values is None else values.tolist() for values in _further(outputs))
    titles, n_allowed = ([None] * len(items) if values is None else values for values in further)
    rows = zip(items, scores, titles, n_known, n_allowed, strict=True)
    return [_without_padding(*row) for row in rows]


def _further(outputs: list[NDArray[Any]]) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Titles (B, K) and n_allowed (B,), each where the file has it."""
    titles = n_allowed = None
    if len(outputs) > 3:
        if outputs[3].ndim == 2:
            titles = outputs[3]
        if outputs[-1].ndim == 1:
            n_allowed = outputs[-1]
    return titles, n_allowed


def _without_padding(
    ids: list[Any],
    scores: list[float],
    titles: list[str] | None,
    n_known: int,
    n_allowed: int | None,
) -> Recommendations:
    # Lists, not arrays: a comparison with the help of numpy costs more than all of this.
    if scores and scores[-1] == _NOTHING_LEFT:  # they are sorted
        n = scores.index(_NOTHING_LEFT)
        ids, scores, titles = ids[:n], scores[:n], titles and titles[:n]
    return Recommendations(ids, scores, titles, n_known, n_allowed)

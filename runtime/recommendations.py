"""The answer to one history."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

_NOTHING_LEFT = float("-inf")


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Items for one history, best first; shorter than k when fewer may be recommended."""

    item_ids: list[int] | list[str]
    """Raw ids, as in the log that the model was trained on."""
    scores: list[float]
    """Score of each item, highest first; comparable within one answer."""
    titles: list[str] | None
    """Title of each item, "" where unknown; None if the file holds no titles."""
    n_known: int
    """Events of the history that the model knows; 0: this is its answer to a newcomer."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def __iter__(self) -> Iterator[tuple[int | str, float]]:
        """Pairs (item_id, score), best first."""
        return iter(zip(self.item_ids, self.scores, strict=True))


def answers_of(outputs: list[NDArray[Any]]) -> list[Recommendations]:
    """The outputs of the graph, one answer for each row."""
    # Lists from here on: after a run the numpy machinery is out of the processor's cache,
    # and a comparison with its help costs more than all of this.
    items, scores, n_known, *more = (output.tolist() for output in outputs)
    titles = more[0] if more else [None] * len(items)
    answers = []
    for ids, values, named, known in zip(items, scores, titles, n_known, strict=True):
        if values and values[-1] == _NOTHING_LEFT:  # they are sorted: cut the padding off
            n = values.index(_NOTHING_LEFT)
            ids, values, named = ids[:n], values[:n], named and named[:n]
        answers.append(Recommendations(ids, values, named, known))
    return answers

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
    items, scores, n_known = outputs[:3]
    titles = outputs[3] if len(outputs) > 3 else None
    # Lists from here on: after a run the numpy machinery is out of the processor's cache,
    # and a comparison with its help costs more than all of this.
    answers = []
    for row, known in enumerate(n_known.tolist()):
        ids, values = items[row].tolist(), scores[row].tolist()
        names_of_items = None if titles is None else titles[row].tolist()
        if values and values[-1] == _NOTHING_LEFT:  # they are sorted: cut the padding off
            n = values.index(_NOTHING_LEFT)
            ids, values = ids[:n], values[:n]
            names_of_items = names_of_items and names_of_items[:n]
        answers.append(Recommendations(ids, values, names_of_items, known))
    return answers

"""The answer to one history."""

from collections.abc import Iterator
from dataclasses import dataclass


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

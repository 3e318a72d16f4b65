"""Search for items by their titles."""

from collections.abc import Sequence

from attnrec.runtime.deadline import check_deadline
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.serving.schemas import FoundItem, FoundItems

MOST_FOUND = 100
LONGEST_QUERY = 200
_PART = 1000  # titles between two looks at the clock


class TitleIndex:
    """The items of a file with their titles."""

    def __init__(self, item_ids: Sequence[int | str], titles: list[str] | None) -> None:
        """titles: one for each item, "" where unknown; None if the file holds none."""
        self._ids, self._titles = item_ids, titles
        names = titles or [""] * len(item_ids)
        self._names = [
            (name or str(item_id)).casefold()
            for name, item_id in zip(names, self._ids, strict=True)
        ]

    @classmethod
    def of(cls, recommender: Recommender) -> "TitleIndex":
        """Read ids and titles from the file."""
        stored = recommender.stored()
        titles = stored.texts("item_titles")[1:] if "item_titles" in stored else None
        return cls(stored.item_ids(), titles)

    def search(self, query: str, limit: int) -> FoundItems:
        """Items whose title (id, of items without one) has every word, in the file's order.

        A title that begins with the query comes first. An empty query finds the first items.
        `DeadlineExceeded` where there is a deadline and it is over.
        """
        wanted = query.casefold()
        words = _distinct(wanted.split())
        rows: list[int] = []
        for start in range(0, len(self._names), _PART):
            check_deadline()
            part = enumerate(self._names[start : start + _PART], start)
            rows += [row for row, name in part if all(word in name for word in words)]
        # Only the first of 100,000 hits are returned.
        rows.sort(key=lambda row: not self._names[row].startswith(wanted))
        titles = self._titles
        items = [
            FoundItem(self._ids[row]) if titles is None else FoundItem(self._ids[row], titles[row])
            for row in rows[:limit]
        ]
        return FoundItems(items, len(self._ids))


def _distinct(words: list[str]) -> list[str]:
    """The words that are part of no other one, long and rare ones first."""
    distinct: list[str] = []
    for word in sorted(words, key=len, reverse=True):
        if not any(word in longer for longer in distinct):
            distinct.append(word)
    return distinct

"""Slates: of the best items a list that is varied, capped by tag, or holds some of a tag.

    next = argmax over the pool  (1 - d) relevance(j) - d max over chosen i  similarity(i, j)

Maximal marginal relevance: Carbonell and Goldstein, "The use of MMR", SIGIR 1998, equation 2, with
d for 1 - lambda. Relevance is the score, from 0 to 1 within the pool; similarity is the cosine of
the item vectors, or of the sets of tags where a model has no vectors.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.answers import Recommendations
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.model_file.tensors import StoredTensors
from attnrec.runtime.rules import MOST_TAGS, every_tag
from attnrec.runtime.session import notify_after_fork
from attnrec.runtime.similar import SimilarIndex

_POOL = 10  # items for each place of the list

Ask = Callable[[int, tuple[str, ...]], Recommendations]
"""The best items of a request, and of those the ones with all of these tags."""


@dataclass(frozen=True)
class Slate:
    """How a list is made of the best items."""

    diversity: float = 0.0
    """From 0, the best items, to 1, the least similar ones."""
    max_per: Mapping[str, int] = field(default_factory=dict)
    """Most items of one value of a column, {"brand": 2}, or of a tag, {"category:shoes": 3}."""
    min_per: Mapping[str, int] = field(default_factory=dict)
    """Least items of a tag, {"category:new": 1}, where the request allows so many."""

    def is_plain(self) -> bool:
        """Whether it is the best items, as they are."""
        return not (self.diversity or self.max_per or self.min_per)

    def check(self, info: ModelInfo, k: int) -> "Slate":
        """Returns itself; `ValueError` for what the file does not know, and for too many items."""
        d = self.diversity
        if isinstance(d, bool) or not isinstance(d, (int, float)) or not 0 <= d <= 1:
            raise ValueError(f"diversity must be a number from 0 to 1, not {d!r}")
        columns = info.rules.get("tags", {})
        for name, given in (("max_per", self.max_per), ("min_per", self.min_per)):
            if not isinstance(given, Mapping) or len(given) > MOST_TAGS:
                raise ValueError(f"{name} must map at most {MOST_TAGS} tags to numbers")
            for tag, number in given.items():
                column, colon, _ = str(tag).partition(":")
                if column not in columns or (name == "min_per" and not colon):
                    what = "a tag 'column:value'" + " or a column" * (name == "max_per")
                    there = ", ".join(columns) or "none"
                    raise ValueError(
                        f"{name} names {tag!r}, and wants {what}; columns of this file: {there}"
                    )
                if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                    raise ValueError(f"{name} of {tag!r} must be a whole number, not {number!r}")
        if sum(self.min_per.values()) > k:
            raise ValueError(f"min_per wants {sum(self.min_per.values())} items, and k is {k}")
        return self


class SlateMaker:
    """Makes lists with the tags and vectors of a file, which it reads on first use."""

    def __init__(self) -> None:
        self._rows: dict[Any, int] | None = None
        self._vectors: NDArray[np.float32] | None = None
        self._tags: list[tuple[str, ...]] = []
        self.after_fork()
        notify_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def read_once(
        self,
        read: Callable[[], StoredTensors],
        similar: SimilarIndex,
        info: ModelInfo,
    ) -> None:
        """Read the file, unless that was done. similar: with the vectors, read already."""
        with self._lock:
            if self._rows is not None:
                return
            stored = read()
            self._vectors = similar.vectors
            ids = stored.item_ids()
            self._tags = [()] * len(ids)
            if "tag_items" in stored:
                self._tags = tags_of_items(stored, info)
            self._rows = {item_id: row for row, item_id in enumerate(ids)}

    def make(self, ask: Ask, slate: Slate, k: int) -> Recommendations:
        """The list: at most k items, fewer only where the request leaves no others."""
        size = _POOL * k
        while True:
            pool = ask(size, ())
            extra = [ask(n, (tag,)) for tag, n in slate.min_per.items() if n]
            chosen = self._chosen(_together([pool, *extra]), slate, k)
            if len(chosen) == k or len(pool) < size:
                return _picked(_together([pool, *extra]), chosen)
            size *= 4

    def _chosen(self, pool: Recommendations, slate: Slate, k: int) -> list[int]:
        """Places in the pool, in the order of the list."""
        assert self._rows is not None
        rows = [self._rows[item_id] for item_id in pool.item_ids]
        tags = [self._tags[row] for row in rows]
        scores = np.array(pool.scores, dtype=np.float64)
        value = (1 - slate.diversity) * (scores - scores.min(initial=0)) / _spread(scores)
        nearest = np.zeros(len(rows))
        likeness = self._likeness(rows, tags) if slate.diversity else None
        counted: Counter[str] = Counter()
        missing = {tag: n for tag, n in slate.min_per.items() if n}
        is_left = np.ones(len(rows), dtype=bool)
        chosen: list[int] = []
        while len(chosen) < k and is_left.any():
            gain = np.where(is_left, value - slate.diversity * nearest, -np.inf)
            if missing and sum(missing.values()) >= k - len(chosen):
                wanted = np.array([not missing.keys().isdisjoint(own) for own in tags])
                gain = np.where(wanted, gain, -np.inf) if (wanted & is_left).any() else gain
            best = int(gain.argmax())
            is_left[best] = False
            if any(counted[name] >= most for name, most in _caps(tags[best], slate.max_per)):
                continue
            chosen.append(best)
            for tag in tags[best]:
                counted[tag] += 1
                if missing.get(tag):
                    missing[tag] -= 1
                    missing = {tag: n for tag, n in missing.items() if n}
            if likeness is not None:
                nearest = np.maximum(nearest, likeness(best))
        # In the order of the scores where nothing but caps was asked for.
        return chosen if slate.diversity else sorted(chosen, key=lambda i: (-scores[i], i))

    def _likeness(
        self, rows: list[int], tags: list[tuple[str, ...]]
    ) -> Callable[[int], NDArray[Any]]:
        """Of one place of the pool the similarity to all."""
        if self._vectors is not None:
            vectors = self._vectors[rows]

            def of_vectors(place: int) -> NDArray[Any]:
                cosines: NDArray[Any] = vectors @ vectors[place]
                return cosines

            return of_vectors
        sets = [frozenset(own) for own in tags]

        def of_tags(place: int) -> NDArray[Any]:
            own = sets[place]
            lengths = [max(1.0, len(own) * len(other)) ** 0.5 for other in sets]
            shared = [len(own & other) for other in sets]
            cosines: NDArray[Any] = np.array(shared) / np.array(lengths)
            return cosines

        return of_tags


def tags_of_items(stored: StoredTensors, info: ModelInfo) -> list[tuple[str, ...]]:
    """The tags of each item, in the order of the catalogue."""
    items, starts = stored.numbers("tag_items"), stored.numbers("tag_starts")
    lengths = stored.numbers("tag_lengths")
    own: list[list[str]] = [[] for _ in range(info.n_items)]
    for tag, start, length in zip(every_tag(info), starts[1:-1], lengths[1:-1], strict=True):
        for row in items[start : start + length].tolist():
            own[row - 1].append(tag)
    return [tuple(tags) for tags in own]


def _caps(tags: tuple[str, ...], max_per: Mapping[str, int]) -> list[tuple[str, int]]:
    """The tags of an item that are capped, with how many items of each there may be."""
    caps = []
    for tag in tags:
        most = max_per.get(tag, max_per.get(tag.partition(":")[0]))
        if most is not None:
            caps.append((tag, most))
    return caps


def _spread(scores: NDArray[np.float64]) -> float:
    return float(np.ptp(scores)) or 1.0 if len(scores) else 1.0


def _together(lists: list[Recommendations]) -> Recommendations:
    """All items once, best first; equal scores in the order in which they came."""
    if len(lists) == 1:
        return lists[0]
    first, places = lists[0], dict[Any, tuple[int, int]]()
    for n, own in enumerate(lists):
        for place, item_id in enumerate(own.item_ids):
            places.setdefault(item_id, (n, place))
    order = sorted(places.values(), key=lambda at: -lists[at[0]].scores[at[1]])
    ids: list[Any] = [lists[n].item_ids[i] for n, i in order]
    titles = None if first.titles is None else [(lists[n].titles or [])[i] for n, i in order]
    scores = [lists[n].scores[i] for n, i in order]
    return replace(first, item_ids=ids, scores=scores, titles=titles)


def _picked(pool: Recommendations, places: list[int]) -> Recommendations:
    ids: list[Any] = [pool.item_ids[place] for place in places]
    titles = None if pool.titles is None else [pool.titles[place] for place in places]
    scores = [pool.scores[place] for place in places]
    return replace(pool, item_ids=ids, scores=scores, titles=titles)

"""What lists are like, beyond whether the target is in them. Formulas: docs/metrics.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime import Recommender, Slate
from attnrec.runtime.similar import unit_vectors
from attnrec.runtime.slates import tags_of_items
from attnrec.train.evaluation.metrics import user_gains
from attnrec.train.splits.held_out import HeldOut
from attnrec.train.splits.split import Catalogue

_FIRST = 10
_BATCH = 1024

Lists = Sequence[Sequence[Any]]
"""Item ids of each user, (n_users, at most 10)."""


@dataclass(frozen=True, eq=False)
class KnownItems:
    """What figures of lists look at."""

    row: Mapping[Any, int]
    """Place of each item of the file."""
    n_events: NDArray[np.int64]
    """Training events of each (N,)."""
    vectors: NDArray[np.float32] | None
    """Item vectors of length 1 (N, D), if the model has any."""
    tags: Sequence[frozenset[str]] | None
    """Tags of each (N,), if the file has any."""

    @classmethod
    def of(cls, recommender: Recommender, catalogue: Catalogue) -> "KnownItems":
        """Those of a file; catalogue: with the training events."""
        stored, info = recommender.stored(), recommender.info
        ids: list[Any] = [*stored.item_ids()]
        pairs = zip(catalogue.item_ids.tolist(), catalogue.n_events.tolist(), strict=True)
        taken: dict[Any, int] = dict(pairs)
        tags = None
        if "tag_items" in stored:
            tags = [frozenset(own) for own in tags_of_items(stored, info)]
        n_events = np.array([taken.get(item_id, 0) for item_id in ids])
        return cls({item: i for i, item in enumerate(ids)}, n_events, unit_vectors(stored), tags)


def exposure(lists: Lists, histories: Lists, known: KnownItems) -> dict[str, float]:
    """Figures of the lists of all users; where all are empty, the coverage, 0, alone.

    coverage@10, gini@10, novelty@10, popularity_lift@10, new_items@10, and, of what the file has,
    diversity_by_vectors@10 and diversity_by_tags@10.
    """
    rows = [[known.row[item_id] for item_id in own] for own in lists if len(own)]
    if not rows:
        return {"coverage@10": 0.0}
    shown = np.bincount(np.concatenate(rows), minlength=len(known.n_events))
    share = (known.n_events + 1) / (known.n_events.sum() + len(known.n_events))
    of_lists = np.mean([share[own].mean() for own in rows])
    taken = [[known.row[i] for i in own if i in known.row] for own in histories]
    of_histories = [share[own].mean() for own in taken if own]
    figures = {
        "coverage@10": float((shown > 0).mean()),
        "gini@10": gini(shown),
        "novelty@10": float((shown @ -np.log2(share)) / shown.sum()),
        "new_items@10": float(shown[known.n_events == 0].sum() / shown.sum()),
    }
    if of_histories:
        figures["popularity_lift@10"] = float(of_lists / np.mean(of_histories) - 1)
    vectors, tags = known.vectors, known.tags
    several = [own for own in rows if len(own) > 1]
    if vectors is not None and several:
        figures["diversity_by_vectors@10"] = float(np.mean([_apart(vectors[r]) for r in several]))
    if tags is not None and several:
        apart = [_tags_apart([tags[row] for row in own]) for own in several]
        figures["diversity_by_tags@10"] = float(np.mean(apart))
    return {name: round(value, 6) for name, value in figures.items()}


def gini(counts: NDArray[np.int64]) -> float:
    """Gini coefficient of how often each item is shown (N,): 0 for all alike, near 1 for few."""
    ordered, n = np.sort(counts), len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def _apart(vectors: NDArray[np.float32]) -> float:
    """Mean of 1 - cosine over all pairs of rows of length 1."""
    n = len(vectors)
    total = float(np.square(vectors.sum(axis=0)).sum())  # of all pairs, those of a row with itself
    return 1.0 - (total - n) / (n * (n - 1))


def _tags_apart(tags: Sequence[frozenset[str]]) -> float:
    """Mean of 1 - cosine over all pairs of sets."""
    pairs = [*combinations(tags, 2)]
    alike = [len(a & b) / max(1, len(a) * len(b)) ** 0.5 for a, b in pairs]
    return 1.0 - float(sum(alike)) / len(pairs)


def by_diversity(
    recommender: Recommender,
    held_out: HeldOut,
    known: KnownItems,
    values: Sequence[float],
    *,
    exclude_seen: bool,
    inputs: Sequence[str] = (),
) -> list[dict[str, float]]:
    """NDCG@10 and the figures of lists for each value of `diversity`, in their order."""
    curve = []
    for value in values:
        lists: list[Sequence[Any]] = []
        for start in range(0, len(held_out.histories), _BATCH):
            some = held_out.between(start, start + _BATCH)
            given = some.side_inputs(inputs)
            answers = recommender.recommend_batch(
                some.histories, _FIRST, exclude_seen=exclude_seen,
                slate=Slate(value) if value else None, **given,
            )  # fmt: skip
            lists += [answer.item_ids for answer in answers]
        gains = user_gains(_places(lists, held_out), held_out.n_targets())["ndcg@10"]
        figures = exposure(lists, [h.tolist() for h in held_out.histories], known)
        curve.append({"diversity": value, "ndcg@10": round(float(gains.mean()), 6), **figures})
    return curve


def _places(lists: Lists, held_out: HeldOut) -> NDArray[np.float64]:
    """Place of each target in the list of its user, from 1; inf where it is not there."""
    users = np.repeat(np.arange(len(lists)), held_out.n_targets()).tolist()
    places = [{item: place for place, item in enumerate(own, start=1)} for own in lists]
    pairs = zip(users, held_out.targets.tolist(), strict=True)
    return np.array([places[user].get(target, np.inf) for user, target in pairs])

"""Items like an item: the nearest item vectors, or what is recommended after that item alone."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.answers import Recommendations, SimilarItems
from attnrec.runtime.deadline import check_deadline
from attnrec.runtime.model_file.tensors import StoredTensors
from attnrec.runtime.session import notify_after_fork

_UNSIGNED_ZERO, _ZERO_OF_PAIRS = 128, 8  # of codes in blocks
_STEPS_OF_RESTS = 16  # in one step of the pairs
_COMPARED = 100  # answers that share so many items in the same order count as one


class SimilarIndex:
    """The catalogue of a file with its item vectors, (N, D), read from the file on first use."""

    def __init__(self) -> None:
        self._ids: list[Any] | None = None
        self._titles: list[str] | None = None
        self._vectors: NDArray[np.float32] | None = None
        self._unavailable: list[int] = []
        self.after_fork()
        notify_after_fork(self)

    def after_fork(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def read_once(self, read: Callable[[], StoredTensors], unavailable: Iterable[Any]) -> None:
        """Read the file, unless that was done. unavailable: ids that are never returned."""
        with self._lock:
            if self._ids is not None:
                return
            stored = read()
            self._vectors = unit_vectors(stored)
            ids: list[Any] = []
            if self._vectors is not None:
                ids += stored.item_ids()
                unwanted = {*unavailable}
                self._unavailable = [i for i, one in enumerate(ids) if one in unwanted]
                self._titles = stored.texts("item_titles")[1:] if "item_titles" in stored else None
            self._ids = ids

    @property
    def vectors(self) -> NDArray[np.float32] | None:
        """Item vectors of length 1 (N, D), after `read_once`; None for a model without."""
        return self._vectors

    def find(
        self, recommend: Callable[..., Recommendations], item_id: Any, k: int
    ) -> SimilarItems:
        """See `Recommender.similar`; `recommend` answers for a model without item vectors."""
        vectors, ids, titles = self._vectors, self._ids or [], self._titles
        if vectors is None:
            return _after(recommend, item_id, k)
        if item_id not in ids:
            raise _unknown(item_id)
        row = ids.index(item_id)
        check_deadline()
        scores = vectors @ vectors[row]
        check_deadline()
        scores[[row, *self._unavailable]] = -np.inf
        nearest = _highest(scores, k)
        return SimilarItems(
            item_ids=[ids[i] for i in nearest],
            scores=scores[nearest].tolist(),
            titles=None if titles is None else [titles[i] for i in nearest],
            kind="cosine",
        )


def unit_vectors(stored: StoredTensors) -> NDArray[np.float32] | None:
    """Item vectors divided by their lengths; None for a model that has none."""
    if "item_table" in stored:
        vectors = stored.numbers("item_table")[1:].astype(np.float32)
    elif (codes := _codes(stored)) is not None:
        codes *= stored.numbers("item_scales")[1:]  # in place: once in memory
        vectors = codes.reshape(len(codes), -1)
    else:
        return None
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]  # in place: once in memory
    return vectors


def _codes(stored: StoredTensors) -> NDArray[np.float32] | None:
    """Codes of the item vectors (N, D / block, block), as numbers with a sign."""
    if "item_code_pairs" in stored:
        codes = _of_pairs(stored.numbers("item_code_pairs")[1:])
        if "item_code_rests" in stored:
            codes += _of_pairs(stored.numbers("item_code_rests")[1:]) / _STEPS_OF_RESTS
        return codes
    if "item_codes" not in stored:
        return None
    codes = stored.numbers("item_codes")[1:]
    numbers = codes.astype(np.float32)
    if codes.dtype == np.uint8:
        numbers -= _UNSIGNED_ZERO
    return numbers


def _of_pairs(pairs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Numbers with a sign (N, D / block, block) of codes of 4 bits (N, D / block, block / 2)."""
    codes = np.stack([pairs & 15, pairs >> 4], axis=-1).astype(np.float32)
    return codes.reshape(*pairs.shape[:2], -1) - _ZERO_OF_PAIRS


def _after(recommend: Callable[..., Recommendations], item_id: Any, k: int) -> SimilarItems:
    """The answer to the item alone; `ValueError` where it is that to an empty history."""
    options = {"k": max(k, _COMPARED), "exclude": [item_id], "exclude_seen": False}
    found, of_empty = recommend([item_id], **options), recommend([], **options)
    if not found.n_known:
        raise _unknown(item_id)
    if found.item_ids == of_empty.item_ids:
        raise ValueError(
            f"after {item_id!r} alone this model recommends the same as after an empty "
            "history, so it has no similar items; use a model with item vectors, such as sasrec"
        )
    titles = found.titles and found.titles[:k]
    return SimilarItems(found.item_ids[:k], found.scores[:k], titles, kind="next")


def _highest(scores: NDArray[np.float32], k: int) -> list[int]:
    """Places of the k highest scores above -inf, highest first, equal ones in their order."""
    places = np.flatnonzero(scores > -np.inf)
    if k < len(places):
        kth = np.partition(scores[places], len(places) - k)[len(places) - k]
        places = places[scores[places] >= kth]
    best: list[int] = places[np.argsort(-scores[places], kind="stable")][:k].tolist()
    return best


def _unknown(item_id: Any) -> ValueError:
    return ValueError(
        f"item_id {item_id!r} is none of the items of this file; name one that recommend returns"
    )

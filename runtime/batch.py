"""A batch: many histories checked at once, and answered in calls of the graph that suit it."""

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from attnrec.runtime.answers import Recommendations, answers_of
from attnrec.runtime.arguments import IdArray, Ids, as_ids, id_lists, id_row, plain_list
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.side_inputs import CheckedSideInputs

BATCH = 16
"""Histories of one call of the graph. With more, their scores leave the caches: 64 take 1.1 times
as long for 3,652 items, 1.3 to 1.5 times for 12,000 and more."""

_TOGETHER = 16
"""Calls of the graph whose arrays are in memory at once."""
_ROWS = 4096
"""Lists that are checked in one pass: their ids are in memory once more meanwhile."""

GraphFunction = Callable[..., list[Any]]
"""history (B, T), exclude (B, X), candidates (B, C), k, side inputs -> outputs of the graph."""


def banned_ids(
    info: ModelInfo,
    seen: IdArray,
    exclude: Ids | None,
    exclude_seen: bool | None,
) -> IdArray:
    """Ids never to return for one history: `exclude`, and the history itself if seen ones are."""
    if exclude_seen is None:
        exclude_seen = not info.repeats
    if exclude is None:
        return seen if exclude_seen else seen[:0]
    banned = id_row(names.EXCLUDE, exclude, info.id_type)
    return np.concatenate([seen, banned]) if exclude_seen else banned


class BatchRequest:
    """The checked ids of many histories. `ValueError` names the first that are wrong."""

    def __init__(
        self,
        info: ModelInfo,
        histories: Any,
        exclude: Any,
        candidates: Any,
        exclude_seen: bool | None,
    ) -> None:
        self._info = info
        self._seen = Ragged("histories", id_lists("histories", histories), info.id_type)
        n_rows = len(self)
        self._bans_seen = not info.repeats if exclude_seen is None else bool(exclude_seen)
        self._banned: Ragged | None = None
        if exclude is not None:
            lists = id_lists(names.EXCLUDE, exclude, n_rows)
            self._banned = Ragged(names.EXCLUDE, _without_none(lists), info.id_type)
        self._is_free = np.ones(n_rows, dtype=bool)  # to be answered from the whole catalogue
        if candidates is not None:
            lists = id_lists(names.CANDIDATES, candidates, n_rows)
            self._is_free[:] = [ids is None for ids in lists]
            self._allowed = Ragged(names.CANDIDATES, _without_none(lists), info.id_type)

    @property
    def lengths(self) -> list[int]:
        """Events of each history, unknown ones included."""
        lengths: list[int] = self._seen.lengths.tolist()
        return lengths

    def __len__(self) -> int:
        return len(self._seen.lengths)

    def answer(
        self, run: GraphFunction, k: int, side_inputs: CheckedSideInputs
    ) -> list[Recommendations]:
        """One answer for each history.

        Whether there are candidates belongs to a call of the graph; within one, rows of similar
        length stand together, so that little padding is computed.
        """
        by_length = np.argsort(self._seen.lengths, kind="stable")
        batches: list[list[int]] = []
        for among_all in (True, False):
            group = by_length[self._is_free[by_length] == among_all].tolist()
            batches += [group[start : start + BATCH] for start in range(0, len(group), BATCH)]
        answers: list[Recommendations | None] = [None] * len(self)
        for start in range(0, len(batches), _TOGETHER):
            some = batches[start : start + _TOGETHER]
            # First all that Python does, then all that the model does: each finds the processor's
            # caches as it left them, which is half of the time of Python here.
            arguments = [(*self._stacked(batch), k, side_inputs.inputs(batch)) for batch in some]
            outputs = [run(*own) for own in arguments]
            for batch, values in zip(some, outputs, strict=True):
                for row, answer in zip(batch, answers_of(values), strict=True):
                    answers[row] = side_inputs.with_unknown_tags(answer, row)
        return [answer for answer in answers if answer is not None]

    def slates(
        self,
        run: GraphFunction,
        k: int,
        side_inputs: CheckedSideInputs,
        make: Callable[..., Recommendations],
    ) -> list[Recommendations]:
        """One list for each history, made by `make(ask, k=k)`; see `SlateMaker.make`."""

        def asking(row: int) -> Recommendations:
            def ask(n: int, tags: tuple[str, ...]) -> Recommendations:
                given = side_inputs.inputs([row])
                if side_inputs.rules is not None:
                    given |= side_inputs.rules.inputs([row], tags)
                (answer,) = answers_of(run(*self._stacked([row]), n, given))
                return side_inputs.with_unknown_tags(answer, row)

            return make(ask, k=k)

        return [asking(row) for row in range(len(self))]

    def _stacked(self, batch: Sequence[int]) -> list[IdArray]:
        """history (B, T), exclude (B, X) and candidates (B, C)."""
        history = self._seen.stacked(batch)
        exclude = history if self._bans_seen else history[:, :0]
        if self._banned is not None:
            exclude = np.concatenate([exclude, self._banned.stacked(batch)], axis=1)
        if self._is_free[batch[0]]:
            return [history, exclude, history[:, :0]]
        among = self._allowed.stacked(batch)
        if not among.shape[1]:  # padding keeps C from being 0, where nothing is allowed
            among = np.full((len(batch), 1), names.PADDING[self._info.id_type], among.dtype)
        return [history, exclude, among]


def _without_none(lists: Sequence[Any]) -> list[Any]:
    return [() if ids is None else ids for ids in lists]


class Ragged:
    """The ids of many lists, one after the other. `ValueError` names the first that is wrong."""

    def __init__(self, name: str, lists: Sequence[Ids], id_type: str) -> None:
        """name: of the argument, for messages."""
        self.lengths = np.zeros(len(lists), dtype=np.int64)
        parts = [np.empty(0, dtype=np.int64 if id_type == "int64" else object)]
        rest = iter(lists)
        for start in range(0, len(lists), _ROWS):
            rows = [plain_list(ids) for ids in islice(rest, _ROWS)]
            part: IdArray | None = None
            if all(row is not None and len(row) <= names.LONGEST for row in rows):
                # Many in one pass: by themselves, lists of 50 cost three times as much.
                part = as_ids(list(chain.from_iterable(filter(None, rows))), id_type)
            if part is None:
                for i, ids in enumerate(lists):
                    id_row(f"{name}[{i}]", ids, id_type)  # raises the error that names the id
                raise AssertionError(f"{name} are wrong as a whole, but not one by one")
            self.lengths[start : start + _ROWS] = [len(row or ()) for row in rows]
            parts.append(part)
        self._starts = np.cumsum(self.lengths) - self.lengths
        self._padding = int(self.lengths.sum())
        parts.append(np.array([names.PADDING[id_type]], dtype=parts[0].dtype))
        self._flat = np.concatenate(parts)

    def stacked(self, rows: Sequence[int]) -> IdArray:
        """Some of the lists as one array (B, longest), padded at the end."""
        lengths = self.lengths[rows, None]  # (B, 1)
        place = np.arange(lengths.max(initial=0))  # (T,)
        where = np.where(place < lengths, self._starts[rows, None] + place, self._padding)
        found: IdArray = self._flat[where]
        return found

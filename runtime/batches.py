"""Many histories of one question, in calls of the graph that suit it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from attnrec.runtime import format as names
from attnrec.runtime.arguments import IdArray, Ids, id_lists, id_row, stack
from attnrec.runtime.callers import Callers
from attnrec.runtime.model_info import ModelInfo
from attnrec.runtime.recommendations import Recommendations, answers_of

BATCH = 64
"""Histories of one call of the graph: more is not faster and costs memory."""

Run = Callable[..., list[Any]]
"""history (B, T), exclude (B, X), candidates (B, C), k, who asks -> the outputs of the graph."""


def banned_ids(
    info: ModelInfo,
    seen: IdArray,
    exclude: Ids,
    exclude_seen: bool | None,
    name: str = names.EXCLUDE,
) -> IdArray:
    """What is never to be returned after a history: of `exclude`, and of the history itself."""
    if exclude_seen is None:
        exclude_seen = not info.repeats
    if isinstance(exclude, tuple) and not exclude:  # the default
        return seen if exclude_seen else seen[:0]
    banned = id_row(name, exclude, info.id_type)
    return np.concatenate([seen, banned]) if exclude_seen else banned


class Rows:
    """The checked ids of many histories. `ValueError` names the first that are wrong."""

    def __init__(
        self,
        info: ModelInfo,
        histories: Any,
        exclude: Any,
        candidates: Any,
        exclude_seen: bool | None,
    ) -> None:
        self._id_type = id_type = info.id_type
        histories = id_lists("histories", histories)
        self._seen = [id_row(f"histories[{i}]", h, id_type) for i, h in enumerate(histories)]
        n_rows = len(histories)
        exclude = [()] * n_rows if exclude is None else id_lists(names.EXCLUDE, exclude, n_rows)
        self._banned = [
            banned_ids(info, row, ids, exclude_seen, f"exclude[{i}]")
            for i, (row, ids) in enumerate(zip(self._seen, exclude, strict=True))
        ]
        self._allowed: list[IdArray | None] = [None] * n_rows  # None: the whole catalogue
        if candidates is not None:
            for i, ids in enumerate(id_lists(names.CANDIDATES, candidates, n_rows)):
                if ids is not None:
                    self._allowed[i] = id_row(f"candidates[{i}]", ids, id_type)

    @property
    def lengths(self) -> list[int]:
        """Events of each history, unknown ones included."""
        return [len(row) for row in self._seen]

    def __len__(self) -> int:
        return len(self._seen)

    def answer(self, run: Run, k: int, callers: Callers) -> list[Recommendations]:
        """One answer for each history.

        Whether there are candidates belongs to a call of the graph; within one, rows of similar
        length stand together, so that little padding is computed.
        """
        answers: dict[int, Recommendations] = {}
        for among_all in (True, False):
            group = [i for i, ids in enumerate(self._allowed) if (ids is None) is among_all]
            group.sort(key=lambda i: len(self._seen[i]))
            for start in range(0, len(group), BATCH):
                batch = group[start : start + BATCH]
                outputs = run(*self._stacked(batch), k, callers.inputs(batch))
                answers.update(zip(batch, answers_of(outputs), strict=True))
        return [answers[i] for i in range(len(self))]

    def _stacked(self, batch: Sequence[int]) -> list[IdArray]:
        """history (B, T), exclude (B, X) and candidates (B, C)."""
        padding = names.PADDING[self._id_type]
        candidates = [ids for i in batch if (ids := self._allowed[i]) is not None]
        # A row with [] is padded beside its mates; alone, padding keeps C from being 0.
        width = [np.array([padding])] if candidates else []
        parts = [[self._seen[i] for i in batch], [self._banned[i] for i in batch]]
        history, exclude, among = (
            stack(rows, self._id_type, padding) for rows in (*parts, [*candidates, *width])
        )
        return [history, exclude, among[: len(batch)]]

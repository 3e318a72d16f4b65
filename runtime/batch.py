"""Many histories of one question, in calls of the graph that suit it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from attnrec.runtime.answers import Recommendations, answers_of
from attnrec.runtime.arguments import IdArray, Ids, id_lists, id_row
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.ragged import Ragged
from attnrec.runtime.side_inputs import CheckedSideInputs

BATCH = 64
"""Histories of one call of the graph: more is not faster and costs memory."""

_TOGETHER = 16
"""Calls of the graph whose arrays are in memory at once."""

Run = Callable[..., list[Any]]
"""history (B, T), exclude (B, X), candidates (B, C), k, who asks -> the outputs of the graph."""


def banned_ids(
    info: ModelInfo,
    seen: IdArray,
    exclude: Ids | None,
    exclude_seen: bool | None,
) -> IdArray:
    """What is never to be returned after a history: of `exclude`, and of the history itself."""
    if exclude_seen is None:
        exclude_seen = not info.repeats
    if exclude is None:
        return seen if exclude_seen else seen[:0]
    banned = id_row(names.EXCLUDE, exclude, info.id_type)
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
        self._info = info
        id_type = info.id_type
        self._seen = Ragged("histories", id_lists("histories", histories), id_type)
        n_rows = len(self)
        self._bans_seen = not info.repeats if exclude_seen is None else bool(exclude_seen)
        self._banned: Ragged | None = None
        if exclude is not None:
            rows = id_lists(names.EXCLUDE, exclude, n_rows)
            lists = [() if ids is None else ids for ids in rows]
            self._banned = Ragged(names.EXCLUDE, lists, id_type)
        self._is_free = np.ones(n_rows, dtype=bool)  # to be answered from the whole catalogue
        if candidates is not None:
            allowed = id_lists(names.CANDIDATES, candidates, n_rows)
            self._is_free[:] = [ids is None for ids in allowed]
            listed = [() if ids is None else ids for ids in allowed]
            self._allowed = Ragged(names.CANDIDATES, listed, id_type)

    @property
    def lengths(self) -> list[int]:
        """Events of each history, unknown ones included."""
        lengths: list[int] = self._seen.lengths.tolist()
        return lengths

    def __len__(self) -> int:
        return len(self._seen.lengths)

    def answer(self, run: Run, k: int, callers: CheckedSideInputs) -> list[Recommendations]:
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
            # caches as it left them, which is half of what Python costs here.
            asked = [(*self._stacked(batch), k, callers.inputs(batch)) for batch in some]
            outputs = [run(*arguments) for arguments in asked]
            for batch, found in zip(some, outputs, strict=True):
                for row, answer in zip(batch, answers_of(found), strict=True):
                    answers[row] = answer
        return [answer for answer in answers if answer is not None]

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

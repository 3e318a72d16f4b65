"""The answers that an exported file is compared with: training module, numpy and a dictionary.

Nothing here uses ONNX. Ids are looked up one by one, histories are padded by the code that made
the training batches, exclusion and top-k are plain numpy, one row at a time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from attnrec.runtime.answers import Recommendations
from attnrec.runtime.arguments import Ids
from attnrec.runtime.model_file.format import NO_TIME
from attnrec.runtime.side_inputs import RequestTimes, SideInputs, Tags, Times, UserIds
from attnrec.train.data.users import Users
from attnrec.train.models.base import (
    RecommenderModel,
    TableModel,
    catalogue_scores,
    last_attention,
)
from attnrec.train.splits.batches import left_pad
from attnrec.train.splits.split import Catalogue

# Histories of one forward pass; their (64, N) scores stay small for any catalogue.
_BATCH = 64
_NO_INPUTS = SideInputs()


class TorchRecommender:
    """Answers like a `Recommender`, straight from a torch model."""

    def __init__(
        self,
        model: RecommenderModel,
        catalogue: Catalogue,
        item_table: NDArray[np.float32] | None = None,
        users: Users | None = None,
    ) -> None:
        """`model` is used as it is now: put it in eval mode first.

        item_table: another table (N + 1, D) for it, such as a quantized one. users: needed where
        the model declares the user or tags of the user.
        """
        self._model = model
        self._device = model.device
        if {"user", "user_tags"}.intersection(model.inputs):
            if users is None:
                raise ValueError(f"the model declares {', '.join(model.inputs)}: give users")
            self._users = users
            self._user_row = {user: row for row, user in enumerate(users.ids.tolist(), start=1)}
            self._tag_row = {tag: row for row, tag in enumerate(users.tags, start=1)}
        self._item_table: torch.Tensor | None = None
        if item_table is not None:
            self._item_table = torch.from_numpy(item_table).to(self._device)
        elif isinstance(model, TableModel):  # once, not for every batch
            self._item_table = model.item_table().detach()
        self._max_len = model.config.max_len
        self._ids = catalogue.item_ids.tolist()
        self._titles = None if catalogue.titles is None else catalogue.titles.tolist()
        self._row = {item_id: row for row, item_id in enumerate(self._ids, start=1)}

    def rows(self, ids: Ids) -> NDArray[np.int64]:
        """Catalogue rows of the known ids, in order; unknown ids and padding are dropped."""
        raw = ids.tolist() if isinstance(ids, np.ndarray) else ids
        found = [self._row.get(item_id, 0) for item_id in raw]
        return np.array([row for row in found if row], dtype=np.int64)

    def row(self, item_id: int | str) -> int:
        """Catalogue row of an item, -1 for an unknown one."""
        return self._row.get(item_id, -1)

    def scores(
        self, histories: Sequence[Ids], side_inputs: SideInputs = _NO_INPUTS
    ) -> NDArray[np.float32]:
        """Scores of every item, (B, N + 1); column 0 belongs to no item."""
        padded = self._padded(histories)
        context = self._context(histories, side_inputs)
        with torch.inference_mode():
            scores = catalogue_scores(self._model, padded, self._item_table, **context)
        found: NDArray[np.float32] = scores.cpu().numpy()
        return found

    def _context(self, histories: Sequence[Ids], given: SideInputs) -> dict[str, torch.Tensor]:
        """The inputs that the model declares: rows of users, and of tags, and times."""
        context: dict[str, torch.Tensor] = {}
        if {"user", "user_tags"}.intersection(self._model.inputs):
            context |= self._users_of(len(histories), given)
        if "timestamps" in self._model.inputs:
            context |= self._times(histories, given)
        return {name: context[name].to(self._device) for name in self._model.inputs}

    def _users_of(self, n_rows: int, given: SideInputs) -> dict[str, torch.Tensor]:
        """Tags of the request replace the stored ones of a user."""
        raw = [None] * n_rows if given.users is None else [*given.users]
        user = [self._user_row.get(user_id, 0) for user_id in raw]
        of_request = [[]] * n_rows if given.user_tags is None else given.user_tags
        tags = [
            [self._tag_row[tag] for tag in own or () if tag in self._tag_row]
            or (self._users.tag_rows[row].tolist() if "user" in self._model.inputs else [])
            for own, row in zip(of_request, user, strict=True)
        ]
        padded = torch.zeros(n_rows, max(map(len, tags), default=0), dtype=torch.int64)
        for row, own in zip(padded, tags, strict=True):
            row[: len(own)] = torch.tensor(own, dtype=torch.int64)
        return {"user": torch.tensor(user), "user_tags": padded}

    def _times(self, histories: Sequence[Ids], given: SideInputs) -> dict[str, torch.Tensor]:
        """Times of the known events, (B, T) as the history is padded, and of the requests (B,)."""
        n_rows = len(histories)
        lists = [None] * n_rows if given.timestamps is None else given.timestamps
        known = []
        for history, times in zip(histories, lists, strict=True):
            raw = history.tolist() if isinstance(history, np.ndarray) else history
            filled = [NO_TIME] * len(raw) if times is None else times
            own = [at for item, at in zip(raw, filled, strict=True) if item in self._row]
            known.append(np.array(own, dtype=np.int64))
        requests = [None] * n_rows if given.request_times is None else given.request_times
        return {
            "timestamps": left_pad(known, self._max_len, padding=NO_TIME),
            "request_time": torch.tensor([NO_TIME if at is None else int(at) for at in requests]),
        }

    def attention(
        self, histories: Sequence[Ids], side_inputs: SideInputs = _NO_INPUTS
    ) -> NDArray[np.float32] | None:
        """Weights of the events (B, W), as the newest known ones; None without attention."""
        model = self._model
        if not isinstance(model, TableModel) or not model.has_attention:
            return None
        assert self._item_table is not None
        context = self._context(histories, side_inputs)
        with torch.inference_mode():
            weights = last_attention(model, self._padded(histories), self._item_table, **context)
        found: NDArray[np.float32] = weights.cpu().numpy()
        return found

    def _padded(self, histories: Sequence[Ids]) -> torch.Tensor:
        padded = left_pad([self.rows(history) for history in histories], self._max_len)
        return padded.to(self._device)

    def admissible(
        self, exclude: NDArray[np.int64], candidates: NDArray[np.int64] | None = None
    ) -> NDArray[np.bool_]:
        """Which rows (N + 1,) may be returned: the candidates, or all, without `exclude`."""
        admissible = np.zeros(len(self._ids) + 1, dtype=bool)
        admissible[slice(1, None) if candidates is None else candidates] = True
        admissible[exclude] = False
        return admissible

    def recommend_batch(
        self,
        histories: Sequence[Ids],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        exclude: Sequence[Ids] | None = None,
        users: UserIds | None = None,
        user_tags: Sequence[Tags | None] | None = None,
        timestamps: Sequence[Times | None] | None = None,
        request_times: RequestTimes | None = None,
    ) -> list[Recommendations]:
        """Best `k` items for each history, best first, equal scores by row."""
        side_inputs = SideInputs(users, user_tags, timestamps, request_times)
        # By length, so that a batch computes next to no padding.
        order = sorted(range(len(histories)), key=lambda i: len(histories[i]))
        answers: dict[int, Recommendations] = {}
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            scores = self.scores([histories[i] for i in batch], side_inputs.of(batch))
            for i, row_scores in zip(batch, scores, strict=True):
                seen = self.rows(histories[i])
                banned = seen if exclude_seen else seen[:0]
                if exclude is not None:
                    banned = np.concatenate([banned, self.rows(exclude[i])])
                admissible = self.admissible(banned)
                rows = top_rows(row_scores, admissible, k)
                answers[i] = self._answer(rows, row_scores, len(seen))
        return [answers[i] for i in range(len(histories))]

    def _answer(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], n_known: int
    ) -> Recommendations:
        return Recommendations(
            item_ids=[self._ids[row - 1] for row in rows],
            scores=scores[rows].tolist(),
            titles=None if self._titles is None else [self._titles[row - 1] for row in rows],
            n_known=n_known,
        )


def top_rows(
    scores: NDArray[np.float32], admissible: NDArray[np.bool_], k: int
) -> NDArray[np.int64]:
    """Rows of the k best admissible items, best first; equal scores: lower row first."""
    rows = np.flatnonzero(admissible)
    if 0 < k < len(rows) // 4:
        # Everything from the k-th score up, its equals included: the sort below decides.
        kth = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= kth]
    return rows[np.argsort(-scores[rows], kind="stable")][: max(k, 0)]

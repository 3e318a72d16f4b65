"""`Recommender`: one model file, loaded once, used from any thread."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.answers import Recommendations, SimilarItems, answer_of
from attnrec.runtime.arguments import IdArray, Ids, check_options, id_row
from attnrec.runtime.batch import BatchRequest, banned_ids
from attnrec.runtime.explain import ExplainedItem, Explanation
from attnrec.runtime.loaded_model import LoadedModel
from attnrec.runtime.model_file import format as names
from attnrec.runtime.rules import CheckedRules, RuleOptions, Rules, rules_of
from attnrec.runtime.side_inputs import (
    CheckedSideInputs,
    RequestTimes,
    SideInputs,
    Tags,
    Times,
    UserIds,
)
from attnrec.runtime.slates import Slate, SlateMaker


class Recommender(LoadedModel):
    """Answers "what next?" for a history of raw item ids.

    >>> recommender = Recommender.load("model.onnx")  # doctest: +SKIP
    >>> recommender.recommend(["85116", "22375"], k=3).titles  # doctest: +SKIP

    Safe to share between threads. Survives `fork`, and `pickle` by loading its file again.
    """

    def recommend(
        self,
        history: Ids,
        k: int = 10,
        *,
        exclude: Ids | None = None,
        candidates: Ids | None = None,
        exclude_seen: bool | None = None,
        user: int | str | None = None,
        user_tags: Tags | None = None,
        timestamps: Times | None = None,
        request_time: int | None = None,
        diversity: float = 0.0,
        max_per: Mapping[str, int] | None = None,
        min_per: Mapping[str, int] | None = None,
        **rules: Unpack[RuleOptions],
    ) -> Recommendations:
        """The best `k` items after `history` (raw ids, oldest first); fewer if fewer are left.

        exclude: ids never to return. candidates: return only from these. None of either: no
        restriction. exclude_seen: leave out the items of the history; by default as in training.
        user, user_tags (they replace those of training), timestamps (Unix seconds of every event),
        request_time (now): only for files that declare them. Unknown ids are ignored. An empty
        history and an unknown user are answered as trained for them; without times the answer is
        that of the model without time bias.
        require_all, require_any, forbid, boost, at_least, at_most: see `Rules`. diversity,
        max_per, min_per: see `Slate`. `ValueError` names what the file does not know.
        """
        check_options(k, exclude_seen)
        seen = id_row(names.HISTORY, history, self._info.id_type)
        side_inputs = self._side_inputs(seen, user, user_tags, timestamps, request_time)
        banned = banned_ids(self._info, seen, exclude, exclude_seen)
        allowed = self._nothing
        if candidates is not None:
            allowed = id_row(names.CANDIDATES, candidates, self._info.id_type)[None]
            if not allowed.size:  # for the graph no restriction, in a request nothing: padding
                allowed = np.full((1, 1), names.PADDING[self._info.id_type], allowed.dtype)

        def ask(n: int, more: dict[str, IdArray]) -> Recommendations:
            given = {**side_inputs, **more}
            return answer_of(self._run(seen[None], banned[None], allowed, n, given))

        if not (rules or diversity or max_per or min_per):
            return ask(k, {})
        slate = Slate(diversity, max_per or {}, min_per or {}).check(self._info, k)
        checked = CheckedRules(self._info, rules_of(rules))

        def ruled(n: int, tags: tuple[str, ...]) -> Recommendations:
            return checked.with_unknown_tags(ask(n, checked.inputs([0], tags)))

        return ruled(k, ()) if slate.is_plain() else self._slates().make(ruled, slate, k)

    def recommend_batch(
        self,
        histories: Sequence[Ids] | NDArray[Any],
        k: int = 10,
        *,
        exclude: Sequence[Ids | None] | NDArray[Any] | None = None,
        candidates: Sequence[Ids | None] | NDArray[Any] | None = None,
        exclude_seen: bool | None = None,
        users: UserIds | None = None,
        user_tags: Sequence[Tags | None] | None = None,
        timestamps: Sequence[Times | None] | None = None,
        request_times: RequestTimes | None = None,
        rules: Rules | Sequence[Rules | None] | None = None,
        slate: Slate | None = None,
    ) -> list[Recommendations]:
        """`recommend` for many histories, faster; every list has one entry for each of them.

        rules: the same for all, or a list. slate: of every answer.
        """
        check_options(k, exclude_seen)
        request = BatchRequest(self._info, histories, exclude, candidates, exclude_seen)
        given = SideInputs(users, user_tags, timestamps, request_times)
        side_inputs = CheckedSideInputs(self._info, given, request.lengths, rules).check_unit()
        if slate is None:
            return request.answer(self._run, k, side_inputs)
        if not isinstance(slate, Slate):
            raise ValueError(f"slate must be Slate(...), not {repr(slate)[:60]}")
        make = partial(self._slates().make, slate=slate.check(self._info, k))
        return request.slates(self._run, k, side_inputs, make)

    def recommend_iter(
        self, histories: Iterable[Ids], k: int = 10, *, batch_size: int = 1024, **options: Any
    ) -> Iterator[Recommendations]:
        """`recommend` for histories that need not be in memory together, answered in their order.

        batch_size: histories that are read and answered at once. options: of `recommend_batch`
        that hold for every history, such as `exclude_seen`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        waiting = iter(histories)
        while batch := list(islice(waiting, batch_size)):
            yield from self.recommend_batch(batch, k, **options)

    def score(
        self,
        history: Ids,
        item_ids: Ids,
        *,
        user: int | str | None = None,
        user_tags: Tags | None = None,
        timestamps: Times | None = None,
        request_time: int | None = None,
    ) -> list[float]:
        """Score of each of `item_ids` after `history`, in the order given; NaN for unknown ids."""
        id_type = self._info.id_type
        seen = id_row(names.HISTORY, history, id_type)
        wanted = id_row("item_ids", item_ids, id_type)
        side_inputs = self._side_inputs(seen, user, user_tags, timestamps, request_time)
        if not len(wanted):
            return []
        outputs = self._run(seen[None], self._nothing, wanted[None], len(wanted), side_inputs)
        score_of: dict[int | str, float] = dict(answer_of(outputs).pairs())
        return [score_of.get(item_id, float("nan")) for item_id in wanted.tolist()]

    def explain(
        self,
        history: Ids,
        item_id: int | str,
        *,
        user: int | str | None = None,
        user_tags: Tags | None = None,
        timestamps: Times | None = None,
        request_time: int | None = None,
        boost: Mapping[str, float] | None = None,
    ) -> Explanation:
        """How much each event of `history`, and each boost, adds to the score of `item_id`.

        Every event that counts is left out once and the item scored again, some at a time.
        `ValueError` for an item that the file does not know, or that is unavailable.
        """
        seen = id_row(names.HISTORY, history, self._info.id_type)
        (item,) = id_row("item_id", [item_id], self._info.id_type).tolist()
        side_inputs = self._side_inputs(seen, user, user_tags, timestamps, request_time)
        explained = ExplainedItem(self._info, self._run, seen, item, side_inputs, boost or {})
        return explained.explain()

    def similar(self, item_id: int | str, k: int = 10) -> SimilarItems:
        """The `k` items most like one: by the cosine of their vectors where the model has any.

        For other models: what they recommend after that item alone; `ValueError` where that is
        the answer to an empty history. The first call reads the vectors from the file.
        """
        check_options(k, None)
        (item,) = id_row("item_id", [item_id], self._info.id_type).tolist()
        self._read_similar()
        return self._similar.find(self.recommend, item, k)

    def _read_similar(self) -> None:
        self._similar.read_once(self.stored, self.unavailable)

    def _slates(self) -> SlateMaker:
        self._read_similar()
        self._slate_maker.read_once(self.stored, self._similar, self._info)
        return self._slate_maker

    def _side_inputs(
        self, history: IdArray, user: Any, user_tags: Any, timestamps: Any, request_time: Any
    ) -> dict[str, IdArray]:
        """The side inputs of one row, checked; without rules."""
        if user is user_tags is timestamps is request_time is None:
            return self._no_side_inputs
        row = SideInputs.of_one(user, user_tags, timestamps, request_time)
        return CheckedSideInputs(self._info, row, [len(history)]).check_unit().inputs_of_one()

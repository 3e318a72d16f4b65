"""`Recommender`: one model file, loaded once, used from any thread."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from attnrec.runtime.answers import Recommendations, SimilarItems, answer_of
from attnrec.runtime.arguments import IdArray, Ids, check_options, id_row, stack
from attnrec.runtime.batch import BatchRequest, banned_ids
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.explain import ExplainedItem, Explanation
from attnrec.runtime.loaded_file import Origin, RunGraph
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.model_file.reading import check_onnxruntime
from attnrec.runtime.model_file.tensors import StoredTensors
from attnrec.runtime.selftest import check_golden
from attnrec.runtime.side_inputs import (
    CheckedSideInputs,
    RequestTimes,
    SideInputs,
    Tags,
    Times,
    UserIds,
    check_inputs,
)
from attnrec.runtime.similar import SimilarIndex


class Recommender:
    """Answers "what next?" for a history of raw item ids.

    >>> recommender = Recommender.load("model.onnx")  # doctest: +SKIP
    >>> recommender.recommend(["85116", "22375"], k=3).titles  # doctest: +SKIP

    Safe to share between threads. Survives `fork`, and `pickle` by loading its file again.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        metadata = session.get_modelmeta().custom_metadata_map
        self._info = ModelInfo.from_metadata(metadata)
        check_onnxruntime(self._info)
        declared = {value.name for value in session.get_inputs()}.union(self._info.inputs)
        none = CheckedSideInputs(self._info, SideInputs(), [0])
        self._no_side_inputs = none.inputs_of_one()
        check_inputs(declared, self._info)
        self._run = RunGraph(session, self._info.n_items)
        self._golden = metadata.get(names.GOLDEN_KEY, "[]")
        self._nothing = stack([np.empty(0)], self._info.id_type, "")  # (1, 0)
        self._similar = SimilarIndex()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        n_threads: int = 1,
        providers: Sequence[Any] | None = None,
        verify: bool = True,
        unavailable: Iterable[int | str] = (),
    ) -> "Recommender":
        """Load a file from `attnrec-export`. `ModelFileError` if it cannot be trusted or run.

        Tables of more than 16 MB stay in the file and are read there when they are needed: replace
        it by renaming another one, as `attnrec-export` does, not by writing into it.
        n_threads: threads of one answer; below 100,000 items 1 is fastest.
        providers: onnxruntime execution providers, by default the CPU.
        verify: compare the sha256 at the end of the file, which notices any altered byte, and
        refuse graphs that attnrec never writes: endless, huge, or reaching outside the file.
        unavailable: ids that are never returned, such as items out of stock; they do not slow
        answers down. A warning names ids that the file does not know.
        """
        return cls._of(
            Origin.of(path, unavailable, n_threads=n_threads, providers=providers, verify=verify)
        )

    @classmethod
    def _of(cls, origin: Origin) -> "Recommender":
        session, origin = origin.open()
        try:
            recommender = cls(session)
        except ModelFileError as error:
            raise ModelFileError(f"{origin.path}: {error}") from error
        recommender._run.origin = origin
        return recommender

    @classmethod
    def from_session(cls, session: onnxruntime.InferenceSession) -> "Recommender":
        """Use a session that the application made itself; nothing is verified, no reloading."""
        if not hasattr(session, "get_modelmeta"):
            raise ValueError(
                f"session must be an onnxruntime.InferenceSession, not {type(session).__name__}; "
                "for a file use Recommender.load"
            )
        return cls(session)

    @property
    def info(self) -> ModelInfo:
        """The facts that the file holds: model, catalogue, quality, parity."""
        return self._info

    @property
    def unavailable(self) -> tuple[int | str, ...]:
        """Items of the file that are never returned, see `load`."""
        return () if self._run.origin is None else self._run.origin.unavailable

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
    ) -> Recommendations:
        """The best `k` items after `history` (raw ids, oldest first); fewer if fewer are left.

        exclude: ids never to return. candidates: return only from these. None of either: no
        restriction. exclude_seen: leave out the items of the history; by default as in training.
        user, user_tags (they replace those of training), timestamps (Unix seconds of every event),
        request_time (now): only for files that declare them. Unknown ids are ignored. An empty
        history and an unknown user are answered as trained for them; without times the answer is
        that of the model without time bias.
        """
        check_options(k, exclude_seen)
        id_type = self._info.id_type
        seen = id_row(names.HISTORY, history, id_type)
        side_inputs = self._side_inputs(seen, user, user_tags, timestamps, request_time)
        banned = banned_ids(self._info, seen, exclude, exclude_seen)
        allowed = self._nothing
        if candidates is not None:
            allowed = id_row(names.CANDIDATES, candidates, id_type)[None]
            # In the graph no candidates means no restriction; in a request [] means nothing.
            k = k if allowed.size else 0
        return answer_of(self._run(seen[None], banned[None], allowed, k, side_inputs))

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
    ) -> list[Recommendations]:
        """`recommend` for many histories, faster; every list has one entry for each of them."""
        check_options(k, exclude_seen)
        request = BatchRequest(self._info, histories, exclude, candidates, exclude_seen)
        given = SideInputs(users, user_tags, timestamps, request_times)
        side_inputs = CheckedSideInputs(self._info, given, request.lengths).check_unit()
        return request.answer(self._run, k, side_inputs)

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

    def items(self) -> dict[int | str, str | None]:
        """Every id of the catalogue with its title, "" where unknown, None if there are no titles.

        Read from the file anew; not kept.
        """
        stored = self.stored()
        ids: list[Any] = [*stored.item_ids()]
        titles = stored.texts("item_titles")[1:] if "item_titles" in stored else [None] * len(ids)
        return dict(zip(ids, titles, strict=True))

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
    ) -> Explanation:
        """How much each event of `history` adds to the score of `item_id`.

        Every event that counts is left out once and the item scored again, some at a time.
        `ValueError` for an item that the file does not know, or that is unavailable.
        """
        seen = id_row(names.HISTORY, history, self._info.id_type)
        (item,) = id_row("item_id", [item_id], self._info.id_type).tolist()
        side_inputs = self._side_inputs(seen, user, user_tags, timestamps, request_time)
        return ExplainedItem(self._info, self._run, seen, item, side_inputs).explain()

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

    def stored(self) -> StoredTensors:
        """Ids, titles and item vectors, read from the file anew; not kept.

        `ValueError` without a file, `ModelFileError` if it is another one by now.
        """
        if self._run.origin is None:
            raise ValueError(
                "a Recommender made from a session has no file to read; use Recommender.load"
            )
        return self._run.origin.stored()

    def selftest(self) -> int:
        """Reproduce the golden vectors of the file on this machine; returns how many there are.

        `SelfTestError` names the first that comes out differently.
        """
        if self._run.origin is not None and self.unavailable:
            # They are answers of the whole catalogue.
            return self._of(replace(self._run.origin, unavailable=())).selftest()
        return check_golden(self._golden, self._info, self._run)

    def _side_inputs(
        self, history: IdArray, user: Any, user_tags: Any, timestamps: Any, request_time: Any
    ) -> dict[str, IdArray]:
        """The side inputs of one row, checked."""
        if user is user_tags is timestamps is request_time is None:
            return self._no_side_inputs
        row = (user, user_tags, timestamps, request_time)
        given = SideInputs(*(None if value is None else [value] for value in row))
        return CheckedSideInputs(self._info, given, [len(history)]).check_unit().inputs_of_one()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._run.origin is None:
            raise TypeError("a Recommender made from a session has no file to load again")
        return self._of, (self._run.origin,)

    def __repr__(self) -> str:
        info = self._info
        return f"<Recommender {info.model} {info.profile}, {info.n_items} items>"

"""`Recommender`: one model file, loaded once, asked from any thread."""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from attnrec.runtime import format as names
from attnrec.runtime.arguments import IdArray, Ids, check_options, id_lists, id_row, stack
from attnrec.runtime.callers import Tags, UserIds, caller_inputs, undeclared
from attnrec.runtime.deadline import current
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.golden import check_golden
from attnrec.runtime.model_file import check_onnxruntime, read_model_file
from attnrec.runtime.model_info import ModelInfo
from attnrec.runtime.recommendations import Recommendations, answers_of
from attnrec.runtime.session import check_providers, make_session
from attnrec.runtime.stored import StoredTensors, without_items

_BATCH = 64  # histories of one call of the graph: more is not faster and costs memory


class Recommender:
    """Answers "what next?" for a history of raw item ids.

    >>> recommender = Recommender.load("model.onnx")  # doctest: +SKIP
    >>> recommender.recommend(["85116", "22375"], k=3).titles  # doctest: +SKIP

    Safe to share between threads. Survives `pickle` and `fork` by loading its file again.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        """Use `load` or `from_session`."""
        metadata = session.get_modelmeta().custom_metadata_map
        self._info = ModelInfo.from_metadata(metadata)
        check_onnxruntime(self._info)
        declared = {value.name for value in session.get_inputs()}.union(self._info.inputs)
        self._asks_who = not declared.isdisjoint(names.CALLER_INPUTS)
        unknown = declared - {*names.REQUIRED_INPUTS, names.USER_TAGS}
        unknown -= {names.USER} if self._info.user_id_type else set()
        if unknown:
            raise ModelFileError(
                f"the file wants the inputs {sorted(unknown)}, which this version of attnrec "
                "cannot feed: upgrade attnrec"
            )
        self._session = session
        self._golden = metadata.get(names.GOLDEN_KEY, "[]")
        self._padding = names.PADDING[self._info.id_type]
        self._nothing = stack([np.empty(0)], self._info.id_type, self._padding)  # (1, 0)
        self._source: dict[str, Any] | None = None
        self._process = os.getpid()
        self._reload_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        n_threads: int = 1,
        providers: Sequence[Any] | None = None,
        verify: bool = True,
        unavailable: Ids = (),
    ) -> "Recommender":
        """Load a file from `attnrec-export`. `ModelFileError` if it cannot be trusted or run.

        n_threads: threads of one answer; at catalogues below 100,000 items 1 is fastest.
        providers: onnxruntime execution providers, by default the CPU.
        verify: compare the sha256 at the end of the file, which notices any altered byte, and
        refuse graphs that attnrec never writes: endless, huge, or reaching outside the file.
        unavailable: ids that are never returned, such as what is out of stock; costs nothing when
        answering, however many they are. Ids that the file does not know are ignored.
        """
        if isinstance(n_threads, bool) or not isinstance(n_threads, int) or n_threads < 1:
            raise ValueError(f"n_threads must be a whole number from 1, not {n_threads!r}")
        check_providers(providers or ())
        content = read_model_file(path, verify=verify)
        if len(unavailable):
            content = without_items(content, unavailable)
        try:
            recommender = cls(make_session(content, n_threads=n_threads, providers=providers))
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from error
        except Exception as error:  # onnxruntime has no common base class for its errors
            raise ModelFileError(
                f"{path}: onnxruntime cannot load it: {error}; export it again"
            ) from error
        recommender._source = {
            "path": os.path.abspath(path),
            "n_threads": n_threads,
            "providers": providers,
            "verify": verify,
            "unavailable": unavailable,
        }
        return recommender

    @classmethod
    def from_session(cls, session: onnxruntime.InferenceSession) -> "Recommender":
        """Use a session that the application made itself; nothing is verified, no reloading."""
        return cls(session)

    @property
    def info(self) -> ModelInfo:
        """What the file says of itself: model, catalogue, quality, parity."""
        return self._info

    def recommend(
        self,
        history: Ids,
        k: int = 10,
        *,
        exclude: Ids = (),
        candidates: Ids | None = None,
        exclude_seen: bool | None = None,
        user: int | str | None = None,
        user_tags: Tags | None = None,
        timestamps: Sequence[int] | None = None,
        request_time: int | None = None,
    ) -> Recommendations:
        """The best `k` items after `history` (raw ids, oldest first); fewer if fewer are left.

        exclude: ids never to return. candidates: return only from these. exclude_seen: leave out
        what is in the history; by default as the model was trained. user, user_tags (what is
        known of the user, in place of what was in training), timestamps, request_time: only for
        files that declare them. Unknown ids are ignored; an empty history gets the model's
        answer to a newcomer, an unknown user that to a stranger.
        """
        for name, value in (("timestamps", timestamps), ("request_time", request_time)):
            if value is not None:
                raise undeclared(self._info, name)
        caller = self._caller(user, user_tags)
        check_options(k, exclude_seen)
        id_type = self._info.id_type
        seen = id_row(names.HISTORY, history, id_type)
        banned = self._banned(seen, exclude, exclude_seen)
        allowed = self._nothing
        if candidates is not None:
            allowed = id_row(names.CANDIDATES, candidates, id_type)[None]
            # In the graph no candidates means no restriction; to a caller [] means nothing.
            k = k if allowed.size else 0
        return answers_of(self._run(seen[None], banned[None], allowed, k, caller))[0]

    def recommend_batch(
        self,
        histories: Sequence[Ids] | NDArray[Any],
        k: int = 10,
        *,
        exclude: Sequence[Ids] | NDArray[Any] | None = None,
        candidates: Sequence[Ids | None] | NDArray[Any] | None = None,
        exclude_seen: bool | None = None,
        users: UserIds | None = None,
        user_tags: Sequence[Tags | None] | None = None,
    ) -> list[Recommendations]:
        """`recommend` for many histories, faster; every list has one entry for each of them."""
        check_options(k, exclude_seen)
        id_type = self._info.id_type
        histories = id_lists("histories", histories)
        seen = [id_row(f"histories[{i}]", h, id_type) for i, h in enumerate(histories)]
        n_rows = len(seen)
        exclude = [()] * n_rows if exclude is None else id_lists(names.EXCLUDE, exclude, n_rows)
        banned = [
            self._banned(row, ids, exclude_seen, f"exclude[{i}]")
            for i, (row, ids) in enumerate(zip(seen, exclude, strict=True))
        ]
        allowed: list[IdArray | None] = [None] * n_rows
        if candidates is not None:
            for i, ids in enumerate(id_lists(names.CANDIDATES, candidates, n_rows)):
                if ids is not None:
                    allowed[i] = id_row(f"candidates[{i}]", ids, id_type)
        callers = caller_inputs(self._info, n_rows, users, user_tags)
        answers: dict[int, Recommendations] = {}
        # Whether there are candidates belongs to a call of the graph; within one, rows of
        # similar length stand together, so that little padding is computed.
        for group in (
            [i for i in range(n_rows) if allowed[i] is None],
            [i for i in range(n_rows) if allowed[i] is not None],
        ):
            group.sort(key=lambda i: len(seen[i]))
            for start in range(0, len(group), _BATCH):
                batch = group[start : start + _BATCH]
                found = self._batch(batch, seen, banned, allowed, k, callers)
                answers.update(zip(batch, found, strict=True))
        return [answers[i] for i in range(n_rows)]

    def score(
        self,
        history: Ids,
        item_ids: Ids,
        *,
        user: int | str | None = None,
        user_tags: Tags | None = None,
    ) -> list[float]:
        """Score of each of `item_ids` after `history`, in the order given; NaN for unknown ids."""
        id_type = self._info.id_type
        seen = id_row(names.HISTORY, history, id_type)
        asked = id_row("item_ids", item_ids, id_type)
        if not len(asked):
            return []
        caller = self._caller(user, user_tags)
        outputs = self._run(seen[None], self._nothing, asked[None], len(asked), caller)
        answer = answers_of(outputs)[0]
        score_of: dict[int | str, float] = dict(answer)
        return [score_of.get(item_id, float("nan")) for item_id in asked.tolist()]

    def stored(self) -> StoredTensors:
        """Ids, titles and item vectors, read from the file anew; not kept.

        `ValueError` without a file, `ModelFileError` if it is another one by now.
        """
        if self._source is None:
            raise ValueError(
                "a Recommender made from a session has no file to read; use Recommender.load"
            )
        content = read_model_file(self._source["path"], verify=self._source["verify"])
        seal = self._info.sha256
        if seal is not None and content[-names.SEAL_LENGTH :] != seal.encode():
            raise ModelFileError(f"{self._source['path']} was replaced by another model")
        return StoredTensors(content)

    def selftest(self) -> int:
        """Reproduce the golden vectors of the file on this machine; returns how many there are.

        `SelfTestError` names the first that comes out differently.
        """
        if self._source is not None and len(self._source["unavailable"]):
            # They are answers of the whole catalogue.
            whole = {**self._source, "unavailable": ()}
            return _load_again(whole, self._info.sha256).selftest()
        return check_golden(self._golden, self._info, self._run)

    def _caller(self, user: int | str | None, tags: Tags | None) -> dict[str, IdArray]:
        if not self._asks_who and user is None and tags is None:
            return {}
        return caller_inputs(
            self._info, 1, None if user is None else [user], None if tags is None else [tags]
        )

    def _banned(
        self, seen: IdArray, exclude: Ids, exclude_seen: bool | None, name: str = names.EXCLUDE
    ) -> IdArray:
        if exclude_seen is None:
            exclude_seen = not self._info.repeats
        if isinstance(exclude, tuple) and not exclude:  # the default
            return seen if exclude_seen else seen[:0]
        banned = id_row(name, exclude, self._info.id_type)
        return np.concatenate([seen, banned]) if exclude_seen else banned

    def _batch(
        self,
        batch: list[int],
        seen: list[IdArray],
        banned: list[IdArray],
        allowed: list[IdArray | None],
        k: int,
        callers: dict[str, IdArray],
    ) -> list[Recommendations]:
        def stacked(rows: Sequence[IdArray]) -> IdArray:
            return stack(rows, self._info.id_type, self._padding)

        candidates = [ids for i in batch if (ids := allowed[i]) is not None]
        # A row with [] is padded beside its mates; alone, padding keeps C from being 0.
        width = [np.array([self._padding])] if candidates else []
        outputs = self._run(
            stacked([seen[i] for i in batch]),
            stacked([banned[i] for i in batch]),
            stacked(candidates + width)[: len(batch)],
            k,
            {name: rows[batch] for name, rows in callers.items()},
        )
        return answers_of(outputs)

    def _run(
        self,
        history: IdArray,
        exclude: IdArray,
        candidates: IdArray,
        k: int,
        caller: dict[str, IdArray],
    ) -> list[Any]:
        if self._process != os.getpid():
            self._reload()
        feed = {
            names.HISTORY: history,
            names.EXCLUDE: exclude,
            names.CANDIDATES: candidates,
            names.K: np.array([min(k, self._info.n_items)], dtype=np.int64),
            **caller,
        }
        try:
            outputs: list[Any] = self._session.run(None, feed, current.options)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"an item id is not valid Unicode: {error.object!r}; leave it out"
            ) from error
        return outputs

    def _reload(self) -> None:
        """After a fork: the threads of the old session stayed in the parent."""
        with self._reload_lock:
            if self._process == os.getpid() or self._source is None:
                return
            self._session = _load_again(self._source, self._info.sha256)._session
            self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source is None:
            raise TypeError("a Recommender made from a session has no file to load again")
        return _load_again, (self._source, self._info.sha256)

    def __repr__(self) -> str:
        info = self._info
        return f"<Recommender {info.model} {info.profile}, {info.n_items} items>"


def _load_again(source: Mapping[str, Any], seal: str | None) -> Recommender:
    """Load the file of another process, and only if it is still the same file."""
    recommender = Recommender.load(**source)
    if recommender.info.sha256 != seal:
        raise ModelFileError(f"{source['path']} was replaced by another model in the meantime")
    return recommender

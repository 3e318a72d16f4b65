"""The file behind a `Recommender`: opened, run from any thread, and opened again when needed.

A pickled copy, a fork with threads and the self-test load the file again; item vectors, ids and
titles are read when they are first needed. All of them need the file that was loaded, and refuse
another one.
"""

import logging
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from mmap import mmap
from typing import Any

import numpy as np
import onnxruntime

from attnrec.runtime.arguments import IdArray, id_collection
from attnrec.runtime.deadline import current
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.reading import read_model_file
from attnrec.runtime.model_file.tensors import StoredTensors, without_items
from attnrec.runtime.session import (
    check_providers,
    notify_after_fork,
    outside_of_forks,
    session_of_file,
)

logger = logging.getLogger(__name__)

_NAMED = 5  # unknown ids of a message


@dataclass(frozen=True)
class Origin:
    """The checked arguments of `Recommender.load`, and the seal that identifies the file."""

    path: str
    n_threads: int
    providers: Sequence[Any] | None
    verify: bool
    unavailable: tuple[int | str, ...]
    seal: bytes = b""
    """The last bytes of the file; none before it is opened."""

    @classmethod
    def of(
        cls, path: str | bytes | os.PathLike[Any], unavailable: Iterable[Any], **options: Any
    ) -> "Origin":
        """`ValueError` for an argument that nothing can be loaded with."""
        is_path = isinstance(path, (str, os.PathLike))
        if not is_path and not (isinstance(path, bytes) and path and b"\0" not in path):
            raise ValueError(
                f"path must be the path of a file, not {type(path).__name__}; write the bytes to "
                "a file, or use Recommender.from_session(onnxruntime.InferenceSession(content)), "
                "which verifies nothing"
            )
        n_threads = options["n_threads"]
        if isinstance(n_threads, bool) or not isinstance(n_threads, int) or n_threads < 1:
            raise ValueError(f"n_threads must be a whole number from 1, not {n_threads!r}")
        if not isinstance(options["verify"], bool):
            raise ValueError(f"verify must be True or False, not {options['verify']!r}")
        check_providers(options["providers"])
        ids = id_collection("unavailable", unavailable)
        return cls(os.fsdecode(path), unavailable=ids, **options)

    def open(self) -> tuple[onnxruntime.InferenceSession, "Origin"]:
        """A session over the file, and its origin: of `unavailable` the ids that the file knows.

        `ModelFileError` if the file cannot be trusted or run, or was replaced by another one.
        """
        content = self._read()
        known: tuple[int | str, ...] = ()
        if self.unavailable:
            content, known = without_items(content, self.unavailable)
            self._warn_of_unknown(known)
        options: dict[str, Any] = {"n_threads": self.n_threads, "providers": self.providers}
        try:
            session = session_of_file(self.path, content, **options)
        except ModelFileError as error:
            raise ModelFileError(f"{self.path}: {error}") from error
        except Exception as error:  # onnxruntime has no common base class for its errors
            raise ModelFileError(
                f"{self.path}: onnxruntime cannot load it: {error}; export it again"
            ) from error
        path, seal = os.path.abspath(self.path), content[-names.SEAL_LENGTH :]
        return session, replace(self, path=path, unavailable=known, seal=seal)

    def open_after_fork(self) -> onnxruntime.InferenceSession:
        """A session with threads of its own. `ModelFileError` names the ways around it."""
        try:
            return self.open()[0]
        except ModelFileError as error:
            raise ModelFileError(
                f"{error}. With n_threads={self.n_threads} it is loaded again after a fork: leave "
                "it in its place, load it after the fork, or with n_threads=1"
            ) from error

    def stored(self) -> StoredTensors:
        """The stored tensors. `ModelFileError` if the file was replaced or is gone."""
        try:
            return StoredTensors(self._read())
        except ModelFileError as error:
            raise ModelFileError(
                f"{error}. Item vectors, ids and titles are read from it when they are first "
                "needed: load the file that is there now, or leave it in its place"
            ) from error

    def _read(self) -> bytes | mmap:
        content = read_model_file(self.path, verify=self.verify)
        if self.seal and content[-names.SEAL_LENGTH :] != self.seal:
            raise ModelFileError(f"{self.path} was replaced by another model in the meantime")
        return content

    def _warn_of_unknown(self, known: Sequence[int | str]) -> None:
        unknown = dict.fromkeys(self.unavailable)
        n_ids = len(unknown)
        for item_id in known:
            del unknown[item_id]
        if unknown:
            logger.warning(
                "%s knows %d of %d unavailable ids; not %s%s",
                self.path, len(known), n_ids, ", ".join(map(repr, [*unknown][:_NAMED])),
                ", ..." if len(unknown) > _NAMED else "",
            )  # fmt: skip


class RunGraph:
    """One call of the graph: from any thread, in any fork."""

    origin: Origin | None = None
    """None: the application made the session."""

    def __init__(self, session: onnxruntime.InferenceSession, n_items: int) -> None:
        self.session = session
        self._n_items = n_items
        outputs = [value.name for value in session.get_outputs()]
        self._outputs = [name for name in outputs if name != names.ATTENTION]
        self._lost_threads = False  # of the session, in a fork
        self._reload_lock = threading.Lock()
        notify_after_fork(self)

    def __call__(
        self,
        history: IdArray,
        exclude: IdArray,
        candidates: IdArray,
        k: int,
        side_inputs: dict[str, IdArray],
        *,
        attention: bool = False,
    ) -> list[Any]:
        """The outputs of the graph, for ids (B, T), (B, X), (B, C); attention is the last one."""
        if self._lost_threads:
            self._reload()
        feed = {
            names.HISTORY: history,
            names.EXCLUDE: exclude,
            names.CANDIDATES: candidates,
            names.K: np.array([min(k, self._n_items)], dtype=np.int64),
            **side_inputs,
        }
        try:
            outputs = [*self._outputs, names.ATTENTION] if attention else self._outputs
            values: list[Any] = outside_of_forks(self.session.run, outputs, feed, current.options)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"an item id is not valid Unicode: {error.object!r}; leave it out"
            ) from error
        return values

    def after_fork(self) -> None:
        """In a forked child: the threads of the parent and of its session are not there."""
        self._reload_lock = threading.Lock()
        self._lost_threads = self.origin is not None and self.origin.n_threads > 1

    def _reload(self) -> None:
        with self._reload_lock:
            if self._lost_threads and self.origin is not None:
                self.session = self.origin.open_after_fork()
                self._lost_threads = False

"""The file that a `Recommender` was loaded from: for what is read later, and for loading it again.

A pickled copy, a fork with threads and the self-test load it again, similar items and titles are
read when they are first wanted. All of them want the file that was loaded, and no other one.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from mmap import mmap
from typing import Any

import onnxruntime

from attnrec.runtime.arguments import id_collection
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.reading import read_model_file
from attnrec.runtime.model_file.tensors import StoredTensors, without_items
from attnrec.runtime.session import check_providers, session_of_file

logger = logging.getLogger(__name__)

_NAMED = 5  # unknown ids of a message


@dataclass(frozen=True)
class Origin:
    """The arguments of `Recommender.load`, checked, and by what to know the file again."""

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
        """A session over the file, and its origin: of `unavailable` what the file knows.

        `ModelFileError` if the file cannot be trusted or run, or is another one by now.
        """
        content = self._read()
        known: tuple[int | str, ...] = ()
        if self.unavailable:
            content, known = without_items(content, self.unavailable)
            self._report_unknown(known)
        options: dict[str, Any] = {"n_threads": self.n_threads, "providers": self.providers}
        try:
            session = session_of_file(self.path, content, **options)
        except ModelFileError as error:
            raise ModelFileError(f"{self.path}: {error}") from error
        except Exception as error:  # onnxruntime has no common base class for its errors
            raise ModelFileError(
                f"{self.path}: onnxruntime cannot load it: {error}; export it again"
            ) from error
        where, seal = os.path.abspath(self.path), content[-names.SEAL_LENGTH :]
        return session, replace(self, path=where, unavailable=known, seal=seal)

    def open_after_fork(self) -> onnxruntime.InferenceSession:
        """A session with threads of its own. `ModelFileError` says how to do without."""
        try:
            return self.open()[0]
        except ModelFileError as error:
            raise ModelFileError(
                f"{error}. With n_threads={self.n_threads} it is loaded again after a fork: leave "
                "it in its place, load it after the fork, or with n_threads=1"
            ) from error

    def stored(self) -> StoredTensors:
        """What the file stores. `ModelFileError` if it is another one by now, or gone."""
        try:
            return StoredTensors(self._read())
        except ModelFileError as error:
            raise ModelFileError(
                f"{error}. Item vectors, ids and titles are read from it when they are first "
                "wanted: load the file that is there now, or leave it in its place"
            ) from error

    def _read(self) -> bytes | mmap:
        content = read_model_file(self.path, verify=self.verify)
        if self.seal and content[-names.SEAL_LENGTH :] != self.seal:
            raise ModelFileError(f"{self.path} was replaced by another model in the meantime")
        return content

    def _report_unknown(self, known: Sequence[int | str]) -> None:
        """Ids that match nothing take nothing out: say so."""
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

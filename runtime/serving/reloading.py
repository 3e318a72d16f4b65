"""Loading the file again while the old one answers, and changing to it only if it is sound."""

import asyncio
import gc
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from attnrec.runtime.errors import AttnrecError, ModelFileError
from attnrec.runtime.memory import release_free_memory
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.serving.answering import Served
from attnrec.runtime.serving.app import Service

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a server finds what it serves."""

    file: Path
    unavailable: Path | None = None
    """Ids that are never returned, one a line; None: everything may be returned."""

    def load(self) -> tuple[Served, int]:
        """The file, checked and tested, and how many ids are unavailable.

        `ModelFileError` or `ValueError` says what is wrong with one of the two.
        """
        served = Served.of(Recommender.load(self.file))
        if self.unavailable is None:
            return served, 0
        ids = self._ids(self.unavailable, served.recommender.info.id_type)
        rest = Recommender.load(self.file, unavailable=ids)
        if rest.info.sha256 != served.recommender.info.sha256:
            raise ModelFileError(f"{self.file} was replaced while it was read; load it again")
        return replace(served, recommender=rest), len(ids)

    def _ids(self, path: Path, id_type: str) -> list[int] | list[str]:
        try:
            lines = path.read_text("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"--unavailable {path} cannot be read: {reason}; give one item id a line, in UTF-8"
            ) from error
        ids = [line.removesuffix("\r") for line in lines]
        ids = [item_id for item_id in ids if item_id]
        if id_type == "string":
            return ids
        try:
            return [int(item_id) for item_id in ids]
        except ValueError as error:
            raise ValueError(
                f"--unavailable {path}: {error}; item ids of {self.file} are whole numbers"
            ) from error


class Reloading:
    """Replaces what a service serves."""

    def __init__(self, service: Service, source: Source, n_unavailable: int) -> None:
        self._service = service
        self._source = source
        self._lock = asyncio.Lock()
        self.n_unavailable = n_unavailable
        self.failure: str | None = None
        """Why the last attempt did not succeed; None if it did."""

    async def reload(self) -> None:
        """Load, verify, test, and only then change to the new file; requests go on meanwhile."""
        async with self._lock:
            loop = asyncio.get_running_loop()
            try:
                served, n_unavailable = await loop.run_in_executor(None, self._source.load)
                failure = served.fault
            except (AttnrecError, ValueError, OSError, MemoryError) as error:
                failure = str(error) or type(error).__name__
            self.failure = failure
            if failure is not None:
                self._service.metrics.reloads["failure"] += 1
                logger.error(
                    "not reloaded: %s; still serving %s", failure, self._service.served.version
                )
                return
            self._service.served, self.n_unavailable = served, n_unavailable
            self._service.metrics.reloads["success"] += 1
            gc.collect()  # the old file goes now, not when the collector happens to look
            release_free_memory()
            logger.warning("serving %s now, process %d", served.version, os.getpid())

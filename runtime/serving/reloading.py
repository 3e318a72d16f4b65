"""Loading the file again while the old one answers, and changing to it only if it is sound."""

import asyncio
import gc
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.memory import release_free_memory
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.serving.answers import Served
from attnrec.runtime.serving.app import Service
from attnrec.runtime.serving.changes import lost_in
from attnrec.runtime.serving.unavailable import read_unavailable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a server finds what it serves."""

    file: Path
    unavailable: Path | None = None
    """Ids that are never returned, one a line; None: everything may be returned."""
    allow_change: bool = False
    """Take a file, while serving, on which requests of now may fail."""

    def load(self) -> tuple[Served, int]:
        """The file, checked and tested, and how many ids the list of unavailable ones holds.

        `ModelFileError` or `ValueError` says what is wrong with one of the two.
        """
        served = Served.of(Recommender.load(self.file))
        if self.unavailable is None:
            return served, 0
        ids = read_unavailable(self.unavailable, served.recommender)
        sha256 = served.recommender.info.sha256
        facts = served.version, served.fault, served.answers_at_once, served.loaded_at
        del served  # not one file more in memory while the rest is loaded
        rest = Recommender.load(self.file, unavailable=ids)
        if rest.info.sha256 != sha256:
            raise ModelFileError(f"{self.file} was replaced while it was read; load it again")
        return Served(rest, *facts), len(ids)

    def load_after(self, before: Recommender) -> tuple[Served, int]:
        """As `load`; `ValueError` if requests that `before` answers will fail, unless allowed."""
        served, n_unavailable = self.load()
        if served.fault is None and (lost := lost_in(served.recommender, before)):
            change = f"{self.file} differs from what is served: {'; '.join(lost)}"
            if not self.allow_change:
                raise ValueError(
                    f"{change}. Restart the server to take this file, or start it with "
                    "--allow-change to take such files on a reload"
                )
            logger.warning("%s", change)
        return served, n_unavailable


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
        """Load, verify, test, and only then change to the new file; requests go on meanwhile.

        Whatever goes wrong is reported (log, `failure`, metrics), and the next call tries again.
        """
        async with self._lock:
            self.failure = failure = await self._replace()
            gc.collect()  # what is not served goes now, not when the collector looks
            release_free_memory()
            version = self._service.served.version
            if failure is None:
                self._service.metrics.reloads["success"] += 1
                logger.warning("serving %s now, process %d", version, os.getpid())
            else:
                self._service.metrics.reloads["failure"] += 1
                logger.error("not reloaded: %s; still serving %s", failure, version)

    async def _replace(self) -> str | None:
        """Change to the file that is there now; else why not."""
        load = partial(self._source.load_after, self._service.served.recommender)
        try:
            served, n_unavailable = await asyncio.get_running_loop().run_in_executor(None, load)
        except Exception as error:
            logger.debug("not reloaded", exc_info=True)
            return str(error) or type(error).__name__
        if served.fault is None:
            self._service.served, self.n_unavailable = served, n_unavailable
        return served.fault

"""Loading the file again while the old one answers, and changing to it only if it is sound."""

import asyncio
import gc
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.memory import release_free_memory
from attnrec.runtime.model_file.format import LONGEST
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.serving.answers import ServedFile
from attnrec.runtime.serving.app import Service

logger = logging.getLogger(__name__)

_LEAST_KEPT = 0.8
"""Share of the item ids served so far that a new file has to know."""


@dataclass(frozen=True)
class ModelSource:
    """The files of a server: the model, and the list of unavailable items."""

    file: Path
    unavailable: Path | None = None
    """Ids that are never returned, one a line; None: everything may be returned."""
    allow_change: bool = False
    """Take, on a reload, a file on which requests that are valid now may fail."""

    def load(self) -> tuple[ServedFile, int]:
        """The file, checked and tested, and how many ids the list of unavailable ones holds.

        `ModelFileError` or `ValueError` names what is wrong with one of the two.
        """
        served = ServedFile.of(Recommender.load(self.file))
        if self.unavailable is None:
            return served, 0
        ids = read_unavailable(self.unavailable, served.recommender)
        sha256 = served.recommender.info.sha256
        facts = served.version, served.fault, served.answers_at_once, served.loaded_at
        del served  # not one file more in memory while the rest is loaded
        rest = Recommender.load(self.file, unavailable=ids)
        if rest.info.sha256 != sha256:
            raise ModelFileError(f"{self.file} was replaced while it was read; load it again")
        return ServedFile(rest, *facts), len(ids)

    def load_after(self, before: Recommender) -> tuple[ServedFile, int]:
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
    """Replaces the file of a service."""

    def __init__(self, service: Service, source: ModelSource, n_unavailable: int) -> None:
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
                self._service.metrics.reloaded.inc()
                logger.warning("serving %s now, process %d", version, os.getpid())
            else:
                self._service.metrics.not_reloaded.inc()
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


def lost_in(new: Recommender, old: Recommender) -> list[str]:
    """What clients would lose, each with both values; empty if every request stays valid."""
    lost = [
        f"{what} were {_words(before)}, now {_words(after)}"
        for what, before, after in (
            ("item ids", old.info.id_type, new.info.id_type),
            ("user ids", old.info.user_id_type, new.info.user_id_type),
        )
        if before not in (None, after)
    ]
    gone = [name for name in old.info.inputs if name not in new.info.inputs]
    if gone:
        lost.append(f"requests may no longer have {', '.join(gone)}")
    if new.info.id_type == old.info.id_type:
        n_kept, n_old = _n_kept(new, old), old.info.n_items
        if n_kept < _LEAST_KEPT * n_old:
            lost.append(
                f"it knows {n_kept} of the {n_old} item ids that are served, "
                f"below {_LEAST_KEPT:.0%}"
            )
    return lost


def _n_kept(new: Recommender, old: Recommender) -> int:
    """How many ids of the old file the new one knows.

    The old file is perhaps no longer on the disk, and its ids are not kept outside its graph. So
    the graph counts them: it returns the number of known ids of a history.
    """
    if new.info.catalogue_sha256 == old.info.catalogue_sha256:
        return old.info.n_items
    ids = new.stored().item_ids()
    n_kept = 0
    for start in range(0, len(ids), LONGEST):
        part = ids[start : start + LONGEST]
        # One candidate: the rest of the catalogue need not be scored.
        n_kept += old.recommend(part, 1, candidates=part[:1], exclude_seen=False).n_known
    return n_kept


def _words(id_type: str | None) -> str:
    return {"int64": "whole numbers", "string": "strings"}.get(id_type or "", "not known")


def read_unavailable(path: Path, recommender: Recommender) -> set[int | str]:
    """Ids from a file with one a line, in UTF-8, with or without a byte order mark.

    Blanks around an id and the quotes of a spreadsheet belong to it only if the model knows it
    with them. `ValueError` names the line that holds no id of the model's type.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"--unavailable {path} cannot be read: {reason}; give one item id a line, in UTF-8"
        ) from error
    ids = [(number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1)]
    filled = [(number, text) for number, text in ids if text.strip()]
    if recommender.info.id_type == "int64":
        return {_number(text, f"--unavailable {path}, line {number}") for number, text in filled}
    texts = [text for _, text in filled]
    if all(text == _bare(text) for text in texts):
        return {*texts}
    known = set(recommender.stored().item_ids())
    # A line that is no id in any way stays as it is, for the message that names it.
    return {next((way for way in _readings(text) if way in known), text) for text in texts}


def _readings(text: str) -> Iterator[str]:
    """Possible ids of a line, the literal one first."""
    yield text
    bare = text.strip()
    yield bare
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        inner = bare[1:-1].replace('""', '"')
        yield inner
        yield inner.strip()


def _bare(text: str) -> str:
    return [*_readings(text)][-1]


def _number(text: str, where: str) -> int:
    bare = _bare(text)
    # Not any text that int() takes: "1_0" is no way to write 10.
    if re.fullmatch("-?[0-9]{1,19}", bare) and -(2**63) <= int(bare) < 2**63:
        return int(bare)
    raise ValueError(
        f"{where}: {text[:60]!r} is no id; item ids of this model are whole numbers (int64): "
        "correct the line or leave it out"
    )

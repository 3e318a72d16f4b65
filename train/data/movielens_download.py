"""MovieLens from its publisher, once, checked against the publisher's checksum."""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from attnrec.runtime.errors import DataError
from attnrec.runtime.files import replace_file

MOVIELENS = {
    "movielens-100k": "ml-100k.zip",
    "movielens-1m": "ml-1m.zip",
    "movielens-latest-small": "ml-latest-small.zip",
}
"""Names that stand for a download, with the file at the publisher."""
TERMS = (
    "MovieLens belongs to GroupLens, University of Minnesota: for research, not for commercial "
    "use without permission, not to be passed on; the README in the archive says what holds. "
    "Cite Harper and Konstan 2015, doi:10.1145/2827872. https://grouplens.org/datasets/movielens/"
)
"""To be shown to whoever asks for the data."""
Progress = Callable[[int, int | None], None]
"""Called with the bytes received and, where known, the bytes of the whole."""

_PUBLISHER = "https://files.grouplens.org/datasets/movielens"
_BLOCK_BYTES, _MOST_BYTES = 1 << 16, 1 << 30


def _say_nothing(received: int, total: int | None) -> None:
    pass


def download_movielens(
    name: str, *, progress: Progress = _say_nothing, timeout: float = 30.0
) -> Path:
    """The archive of `name` (a key of `MOVIELENS`) in the cache, downloaded unless it is there.

    The cache is `attnrec` in XDG_CACHE_HOME or ~/.cache; ATTNREC_MOVIELENS_URL names a mirror.
    timeout: seconds without a byte. `DataError` where the transfer fails or the checksum differs;
    then nothing of it stays.
    """
    archive = MOVIELENS[name]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnrec"
    target, known = folder / archive, folder / f"{archive}.md5"
    if target.is_file() and known.is_file() and _md5(target).encode() == known.read_bytes():
        return target
    url = f"{os.environ.get('ATTNREC_MOVIELENS_URL') or _PUBLISHER}/{archive}"
    published = b"".join(_receive(f"{url}.md5", archive, timeout))
    found = re.search(rb"\b[0-9a-f]{32}\b", published.lower())
    if found is None:
        raise _failure(f"{url}.md5", archive, "it holds no MD5 checksum")
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(target) as fresh:
        with open(fresh, "wb") as file:
            for block in _receive(url, archive, timeout, progress):
                file.write(block)
        received, said = _md5(fresh), found[0].decode()
        if received != said:
            raise _failure(url, archive, f"its MD5 is {received}, the publisher says {said}")
    known.write_bytes(found[0])
    return target


def _md5(path: Path) -> str:
    # The publisher's choice: it finds damage, and no attacker.
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _receive(
    url: str, archive: str, timeout: float, progress: Progress = _say_nothing
) -> Iterator[bytes]:
    received = 0
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            length = answer.headers.get("Content-Length")
            total = None if length is None else int(length)
            while block := answer.read(_BLOCK_BYTES):
                received += len(block)
                if received > _MOST_BYTES:
                    raise OSError(f"it is longer than {_MOST_BYTES:,} bytes")
                progress(received, total)
                yield block
        if total is not None and received < total:
            raise OSError(f"it ended after {received:,} of {total:,} bytes")
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise _failure(url, archive, str(error)) from error


def _failure(url: str, archive: str, problem: str) -> DataError:
    return DataError(
        f"{url}: {problem}; nothing was kept. Try again, or download it by hand from "
        f"https://grouplens.org/datasets/movielens/ and give its path: attnrec-train {archive}"
    )

"""MovieLens: downloaded from its publisher, and read as it is packed there."""

import hashlib
import http.client
import io
import os
import re
import urllib.error
import urllib.request
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from attnrec.runtime.errors import DataError
from attnrec.runtime.files import replace_file
from attnrec.train.data.sources import GENRES, MOVIELENS, Files, recognise
from attnrec.train.data.tables import RawTable, TableSource

TERMS = (
    "MovieLens belongs to GroupLens, University of Minnesota: for research, not for commercial "
    "use without permission, not to be passed on; the README in the archive says what holds. "
    "Cite Harper and Konstan 2015, doi:10.1145/2827872. https://grouplens.org/datasets/movielens/"
)
"""To be shown before a download."""
DownloadProgress = Callable[[int, int | None], None]
"""Called with the bytes received and, where known, the bytes of the whole."""

_PUBLISHER = "https://files.grouplens.org/datasets/movielens"
_BLOCK_BYTES, _MOST_BYTES = 1 << 16, 1 << 30
_AGES = [18, 25, 35, 45, 50, 56]
_BANDS = ["under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+"]
_OCCUPATIONS = [
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student",
    "customer service", "doctor/health care", "executive/managerial", "farmer", "homemaker",
    "K-12 student", "lawyer", "programmer", "retired", "sales/marketing", "scientist",
    "self-employed", "technician/engineer", "tradesman/craftsman", "unemployed", "writer",
]  # fmt: skip
_HEADERS = {
    "ratings.csv": b"userId,movieId,rating,timestamp", "movies.csv": b"movieId,title,genres"
}  # fmt: skip
_SEPARATORS = {"u.data": b"\t", "u.item": b"|", "u.user": b"|"}
# What zipfile raises for a damaged, encrypted or strangely packed member, and Arrow for a table.
_DAMAGE = (
    OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, pa.ArrowException
)  # fmt: skip


def _say_nothing(received: int, total: int | None) -> None:
    pass


def download_movielens(
    name: str, *, progress: DownloadProgress = _say_nothing, timeout: float = 30.0
) -> Path:
    """The archive of `name` (a key of `MOVIELENS`) in the cache, downloaded unless it is there.

    The cache is `attnrec` in XDG_CACHE_HOME or ~/.cache; ATTNREC_MOVIELENS_URL names a mirror.
    timeout: seconds without a byte. `DataError` where the transfer fails or the checksum differs;
    then no file is kept.
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
        received, expected = _md5(fresh), found[0].decode()
        if received != expected:
            raise _failure(url, archive, f"its MD5 is {received}, the publisher's is {expected}")
    known.write_bytes(found[0])
    return target


def _md5(path: Path) -> str:
    # The publisher's choice: it finds damage, but is no protection against an attacker.
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _receive(
    url: str, archive: str, timeout: float, progress: DownloadProgress = _say_nothing
) -> Iterator[bytes]:
    received = 0
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            length = response.headers.get("Content-Length")
            total = None if length is None else int(length)
            while block := response.read(_BLOCK_BYTES):
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


def read_movielens(source: TableSource) -> tuple[RawTable, RawTable, RawTable | None] | None:
    """Log, films and users of an archive (.zip) or folder of MovieLens; None for other sources.

    Recognised by its files: u.data (100K), ratings.dat (1M), or ratings.csv with movies.csv
    (latest, without users). The columns have the names that `DataRecipe` expects, and genres;
    gender, age (a band), occupation. `DataError` at damage and at a zip archive of something else.
    """
    files, tables = recognise(source)
    if not tables:
        return None
    log, films, *users = (_read(files, name, columns) for name, columns in tables.items())
    return log, _films(films), _users(users[0]) if users else None


def _read(files: Files, name: str, columns: list[str]) -> RawTable:
    header = _HEADERS.get(name, b"")
    # Arrow separates by one byte; this one is in no text.
    separator = b"," if header else _SEPARATORS.get(name, b"\x1f")
    try:
        content = files[name]() if separator != b"\x1f" else files[name]().replace(b"::", b"\x1f")
        if not content.startswith(header):
            raise ValueError(f"the header is not {header.decode()}")
        table = pyarrow.csv.read_csv(
            io.BytesIO(content),
            pyarrow.csv.ReadOptions(
                column_names=columns,
                skip_rows=1 if header else 0,
                encoding="utf8" if header else "latin1",
            ),
            pyarrow.csv.ParseOptions(
                delimiter=separator.decode(), quote_char='"' if header else False
            ),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        )
    except _DAMAGE as error:
        problem = f"not as MovieLens is published ({error}); get the archive anew"
        raise DataError(f"{name}: {problem}") from error
    return RawTable(name, table)


def _films(table: RawTable) -> RawTable:
    """Genres in one column, joined by "|"; none where the film has none."""
    films = table.columns
    if "genres" in films.column_names:
        genres = [text.replace("(no genres listed)", "") for text in films["genres"].to_pylist()]
    else:
        flags = films.select(GENRES).to_pylist()
        genres = ["|".join(name for name in GENRES if film[name] == "1") for film in flags]
    columns = {"item_id": films["item_id"], "title": films["title"], "genres": genres}
    return RawTable(table.name, pa.table(columns))


def _users(table: RawTable) -> RawTable:
    """Ages in the bands of the 1M edition, occupations by name."""
    users = table.columns
    try:
        ages = [_BANDS[bisect_right(_AGES, int(age))] for age in users["age"].to_pylist()]
        jobs = users["job"].to_pylist()
        jobs = [_OCCUPATIONS[int(job)] if job.isdigit() else job for job in jobs]
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{table.name}: no age or occupation as MovieLens has ({error})"
        ) from error
    columns = {"user_id": users["user_id"], "gender": users["gender"], "age": ages}
    return RawTable(table.name, pa.table({**columns, "occupation": jobs}))

"""MovieLens as its publisher packs it: one log and the tables of its films and people."""

import io
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv

from attnrec.runtime.errors import DataError
from attnrec.train.raw_table import RawTable
from attnrec.train.read_table import Source
from attnrec.train.recipe import DataRecipe

_MOST_BYTES = 2 << 30
_GENRES = [
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War",
    "Western",
]  # fmt: skip
_AGES = [18, 25, 35, 45, 50, 56]
_BANDS = ["under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+"]
_OCCUPATIONS = [
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student",
    "customer service", "doctor/health care", "executive/managerial", "farmer", "homemaker",
    "K-12 student", "lawyer", "programmer", "retired", "sales/marketing", "scientist",
    "self-employed", "technician/engineer", "tradesman/craftsman", "unemployed", "writer",
]  # fmt: skip
_Files = dict[str, Callable[[], bytes]]


# What zipfile raises for a damaged, encrypted or strangely packed member.
_DAMAGE = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)


class _Table(NamedTuple):
    name: str
    separator: str
    columns: tuple[str, ...]
    header: bytes = b""


class _Edition(NamedTuple):
    log: _Table
    items: _Table
    users: _Table | None


_EVENT = ("user_id", "item_id", "rating", "timestamp")
_FILM = ("item_id", "title", "genres")
_FLAGS = ("item_id", "title", "date", "video date", "link", "unknown", *_GENRES)
_EDITIONS = (
    _Edition(
        _Table("u.data", "\t", _EVENT),
        _Table("u.item", "|", _FLAGS),
        _Table("u.user", "|", ("user_id", "age", "gender", "occupation", "zip")),
    ),
    _Edition(
        _Table("ratings.dat", "::", _EVENT),
        _Table("movies.dat", "::", _FILM),
        _Table("users.dat", "::", ("user_id", "gender", "age", "occupation", "zip")),
    ),
    _Edition(
        _Table("ratings.csv", ",", _EVENT, b"userId,movieId,rating,timestamp"),
        _Table("movies.csv", ",", _FILM, b"movieId,title,genres"),
        None,
    ),
)


class MovieLens(NamedTuple):
    """What an archive holds, under the default names of the columns."""

    log: RawTable
    """Columns user_id, item_id, rating, timestamp."""
    items: RawTable
    """Columns item_id, title, genres."""
    users: RawTable | None
    """Columns user_id, gender, age (a band), occupation; None where the edition has none."""


def read_movielens(source: Source) -> MovieLens | None:
    """The tables of an archive (.zip) or folder of MovieLens; None for any other source.

    Recognised by its files: u.data (100K), ratings.dat (1M), or ratings.csv with movies.csv
    (latest). `DataError` at a zip archive of something else, and at damage.
    """
    files, edition = _recognise(source)
    if edition is None:
        return None
    log, items = _read(files, edition.log), _films(_read(files, edition.items))
    return MovieLens(log, items, _people(_read(files, edition.users)) if edition.users else None)


def with_known_columns(source: Source | None, recipe: DataRecipe) -> DataRecipe:
    """For MovieLens the recipe with its genres and people, unless it names columns itself."""
    _, edition = _recognise(source)
    if edition is None:
        return recipe
    tags = ("gender", "age", "occupation") if edition.users else ()
    attributes = recipe.attribute_cols or ("genres",)
    return replace(recipe, attribute_cols=attributes, tag_cols=recipe.tag_cols or tags)


def _recognise(source: Source | None) -> tuple[_Files, _Edition | None]:
    if not isinstance(source, str | Path):
        return {}, None
    path = Path(source)
    if path.is_dir():
        files: _Files = {child.name: child.read_bytes for child in path.iterdir()}
    elif path.suffix.lower() == ".zip" and path.is_file() and _starts_as_zip(path):
        files = _members(path)
    else:
        return {}, None
    for edition in _EDITIONS:
        if {edition.log.name, edition.items.name} <= set(files):
            named = edition.users is not None and edition.users.name in files
            return files, edition if named else edition._replace(users=None)
    if path.is_dir():
        return files, None
    raise DataError(f"{path.name}: no archive of MovieLens; unpack it and name the log in it")


def _starts_as_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def _members(path: Path) -> _Files:
    """Nothing is unpacked to a path; a name counts at the top and one folder down."""

    def read(member: zipfile.ZipInfo) -> bytes:
        if member.file_size > _MOST_BYTES:
            raise OSError(f"{member.file_size:,} bytes, more than {_MOST_BYTES:,}")
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)

    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if m.filename.count("/") <= 1]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"{path.name}: no intact zip archive ({error}); get it anew") from error
    return {PurePosixPath(m.filename).name: partial(read, m) for m in members}


def _read(files: _Files, table: _Table) -> RawTable:
    # Arrow separates by one byte; this one is in no text.
    separator = table.separator if len(table.separator) == 1 else "\x1f"
    try:
        content = files[table.name]().replace(table.separator.encode(), separator.encode())
        if not content.startswith(table.header):
            raise ValueError(f"the header is not {table.header.decode()}")
        columns = pyarrow.csv.read_csv(
            io.BytesIO(content),
            pyarrow.csv.ReadOptions(
                column_names=table.columns,
                skip_rows=1 if table.header else 0,
                encoding="utf8" if table.header else "latin1",
            ),
            pyarrow.csv.ParseOptions(
                delimiter=separator, quote_char='"' if table.header else False
            ),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(table.columns, pa.string()), strings_can_be_null=False
            ),
        )
    except KeyError as error:
        raise DataError(f"{table.name} of MovieLens is missing; get the archive anew") from error
    except (*_DAMAGE, pa.ArrowException) as error:
        problem = f"not as MovieLens is published ({error}); get the archive anew"
        raise DataError(f"{table.name}: {problem}") from error
    return RawTable(table.name, columns)


def _films(table: RawTable) -> RawTable:
    """Genres in one column, joined by "|"; none where the film has none."""
    films = table.columns
    if "genres" in films.column_names:
        genres = [text.replace("(no genres listed)", "") for text in films["genres"].to_pylist()]
    else:
        flags = zip(*(films[genre].to_pylist() for genre in _GENRES), strict=True)
        genres = [
            "|".join(genre for genre, flag in zip(_GENRES, film, strict=True) if flag == "1")
            for film in flags
        ]
    columns = {"item_id": films["item_id"], "title": films["title"], "genres": genres}
    return RawTable(table.name, pa.table(columns))


def _people(table: RawTable) -> RawTable:
    """Ages in the bands of the 1M edition, occupations by name."""
    people = table.columns
    try:
        ages = [_BANDS[bisect_right(_AGES, int(age))] for age in people["age"].to_pylist()]
        jobs = [
            _OCCUPATIONS[int(job)] if job.isdigit() else job
            for job in people["occupation"].to_pylist()
        ]
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{table.name}: no age or occupation as MovieLens has ({error})"
        ) from error
    columns = {"user_id": people["user_id"], "gender": people["gender"], "age": ages}
    return RawTable(table.name, pa.table({**columns, "occupation": jobs}))

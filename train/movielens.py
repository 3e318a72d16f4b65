"""MovieLens as its publisher packs it: one log and the tables of its films and people."""

import io
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.csv

from attnrec.runtime.errors import DataError
from attnrec.train.checks import check_kind
from attnrec.train.raw_table import RawTable
from attnrec.train.read_table import Source
from attnrec.train.recipe import DataRecipe

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
_EVENT, _FILM = ["user_id", "item_id", "rating", "timestamp"], ["item_id", "title", "genres"]
_FLAGS = ["item_id", "title", "date", "video date", "link", "unknown", *_GENRES]
# Of each edition the log, the films and, where it has them, the people, with their columns.
_EDITIONS = [
    {"u.data": _EVENT, "u.item": _FLAGS, "u.user": ["user_id", "age", "gender", "job", "zip"]},
    {
        "ratings.dat": _EVENT,
        "movies.dat": _FILM,
        "users.dat": ["user_id", "gender", "age", "job", "zip"],
    },
    {"ratings.csv": _EVENT, "movies.csv": _FILM},
]
_HEADERS = {
    "ratings.csv": b"userId,movieId,rating,timestamp", "movies.csv": b"movieId,title,genres"
}  # fmt: skip
_SEPARATORS = {"u.data": b"\t", "u.item": b"|", "u.user": b"|"}
_MOST_BYTES = 2 << 30
# What zipfile raises for a damaged, encrypted or strangely packed member, and Arrow for a table.
_DAMAGE = (
    OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, pa.ArrowException
)  # fmt: skip

_Files = dict[str, Callable[[], bytes]]


def read_movielens(source: Source) -> tuple[RawTable, RawTable, RawTable | None] | None:
    """Log, films and people of an archive (.zip) or folder of MovieLens; None for other sources.

    Recognised by its files: u.data (100K), ratings.dat (1M), or ratings.csv with movies.csv
    (latest, without people). The columns have the names that `DataRecipe` expects, and genres;
    gender, age (a band), occupation. `DataError` at damage and at a zip archive of something else.
    """
    files, tables = _recognise(source)
    if not tables:
        return None
    log, films, *people = (_read(files, name, columns) for name, columns in tables.items())
    return log, _films(films), _people(people[0]) if people else None


def with_known_columns(source: Source | None, recipe: DataRecipe) -> DataRecipe:
    """For MovieLens the recipe with its genres and people, unless it names columns itself."""
    check_kind("recipe", recipe, DataRecipe, "write DataRecipe(item_col=NAME, ...)")
    _, tables = _recognise(source)
    if not tables:
        return recipe
    tags = ("gender", "age", "occupation") if len(tables) > 2 else ()
    attributes = recipe.attribute_cols or ("genres",)
    return replace(recipe, attribute_cols=attributes, tag_cols=recipe.tag_cols or tags)


def _recognise(source: Source | None) -> tuple[_Files, dict[str, list[str]]]:
    """The files beside each other, and the tables among them with their columns, if any."""
    if not isinstance(source, str | Path):
        return {}, {}
    path = Path(source)
    if path.is_dir():
        files: _Files = {child.name: child.read_bytes for child in path.iterdir()}
    elif path.suffix.lower() == ".zip" and path.is_file() and _starts_as_zip(path):
        files = _members(path)
    else:
        return {}, {}
    for edition in _EDITIONS:
        if set(list(edition)[:2]) <= set(files):
            return files, {name: edition[name] for name in edition if name in files}
    if path.is_dir():
        return files, {}
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


def _read(files: _Files, name: str, columns: list[str]) -> RawTable:
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
        flags = films.select(_GENRES).to_pylist()
        genres = ["|".join(name for name in _GENRES if film[name] == "1") for film in flags]
    columns = {"item_id": films["item_id"], "title": films["title"], "genres": genres}
    return RawTable(table.name, pa.table(columns))


def _people(table: RawTable) -> RawTable:
    """Ages in the bands of the 1M edition, occupations by name."""
    people = table.columns
    try:
        ages = [_BANDS[bisect_right(_AGES, int(age))] for age in people["age"].to_pylist()]
        jobs = people["job"].to_pylist()
        jobs = [_OCCUPATIONS[int(job)] if job.isdigit() else job for job in jobs]
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{table.name}: no age or occupation as MovieLens has ({error})"
        ) from error
    columns = {"user_id": people["user_id"], "gender": people["gender"], "age": ages}
    return RawTable(table.name, pa.table({**columns, "occupation": jobs}))

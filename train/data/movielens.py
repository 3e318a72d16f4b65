"""MovieLens as its publisher packs it: one log and the tables of its films and people."""

import io
import zipfile
import zlib
from bisect import bisect_right

import pyarrow as pa
import pyarrow.csv

from attnrec.runtime.errors import DataError
from attnrec.train.data.movielens_editions import GENRES, Files, recognise
from attnrec.train.data.raw_table import RawTable
from attnrec.train.data.read_table import Source

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


def read_movielens(source: Source) -> tuple[RawTable, RawTable, RawTable | None] | None:
    """Log, films and people of an archive (.zip) or folder of MovieLens; None for other sources.

    Recognised by its files: u.data (100K), ratings.dat (1M), or ratings.csv with movies.csv
    (latest, without people). The columns have the names that `DataRecipe` expects, and genres;
    gender, age (a band), occupation. `DataError` at damage and at a zip archive of something else.
    """
    files, tables = recognise(source)
    if not tables:
        return None
    log, films, *people = (_read(files, name, columns) for name, columns in tables.items())
    return log, _films(films), _people(people[0]) if people else None


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

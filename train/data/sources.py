"""What a log may be, and what can be checked before it is read. Needs no torch, reads no table."""

import glob
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from attnrec.runtime.errors import DataError
from attnrec.runtime.files import address_note
from attnrec.train.checks import check_kind
from attnrec.train.data.recipe import ITEM_KINDS, DataRecipe

MOVIELENS = {
    "movielens-100k": "ml-100k.zip",
    "movielens-1m": "ml-1m.zip",
    "movielens-latest-small": "ml-latest-small.zip",
}
"""Names that stand for a download, with the file at the publisher."""
GENRES = [
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War",
    "Western",
]  # fmt: skip
_EVENT, _FILM = ["user_id", "item_id", "rating", "timestamp"], ["item_id", "title", "genres"]
_FLAGS = ["item_id", "title", "date", "video date", "link", "unknown", *GENRES]
# Of each edition the log, the films and, where it has them, the users, with their columns.
_EDITIONS = [
    {"u.data": _EVENT, "u.item": _FLAGS, "u.user": ["user_id", "age", "gender", "job", "zip"]},
    {
        "ratings.dat": _EVENT,
        "movies.dat": _FILM,
        "users.dat": ["user_id", "gender", "age", "job", "zip"],
    },
    {"ratings.csv": _EVENT, "movies.csv": _FILM},
]
_MOST_BYTES = 2 << 30
_KINDS = {
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json",
    ".json": "json", ".feather": "arrow", ".arrow": "arrow",
}  # fmt: skip
_TEXTS = ("csv", "json")
_SUFFIXES = ", ".join(_KINDS) + "; texts also with .gz"
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

Files = dict[str, Callable[[], bytes]]


class TableFile(NamedTuple):
    """One file of a table."""

    path: Path
    label: str
    """What messages call it: its name, in a folder or of a pattern its path."""
    kind: str
    """csv, json, parquet or arrow."""
    sep: str
    """What separates the fields of CSV."""
    keys: Mapping[str, str | None]
    """Columns that folders named column=value give all of its rows; None: no value."""

    @property
    def zipped(self) -> bool:
        """Whether its name says that it is compressed by gzip."""
        return self.path.suffix.lower() == ".gz"


def table_files(source: Path, sep: str = "") -> list[TableFile]:
    """The files of a table: a file, all in a folder, or all that a pattern such as *.csv matches.

    Sorted by path. sep: between the fields of CSV; empty: by the name of each file. What begins
    with "_" or "." and checksums (.crc) are passed over, as Spark writes them. `DataError` where
    there is no file, or where they are of several kinds.
    """
    if source.is_file():
        return [_table_file(source, source.name, (), sep)]
    n_fixed = next((n for n, part in enumerate(source.parts) if glob.has_magic(part)), -1)
    if source.is_dir():
        n_fixed, problem = len(source.parts), "the folder holds no file"
        found = _inside(source)
    elif address := address_note(source):
        raise DataError(address)
    elif n_fixed >= 0:
        matches = sorted(glob.glob(str(source), recursive=True))
        found = [path for match in matches for path in _inside(Path(match))]
        problem = "there is no such file, and as a pattern it matches none"
    else:
        raise DataError(f"{source}: there is no such file")
    found = [path for path in dict.fromkeys(found) if _is_visible(path.parts[n_fixed:])]
    if not found:
        raise DataError(f"{source}: {problem}; names with _ or . at the start are passed over")
    files = [_table_file(path, str(path), path.parts[n_fixed:-1], sep) for path in found]
    for file in files:
        if file.kind != files[0].kind:
            raise DataError(
                f"{file.label}: the files of a table must be of one kind, and {files[0].label} is "
                f"{files[0].kind}; name those that count with a pattern, such as '*.parquet'"
            )
    return files


def _inside(path: Path) -> list[Path]:
    """The file itself, or the files below a folder."""
    if path.is_file():
        return [path]
    if (path / "_delta_log").is_dir():
        raise DataError(f"{path}: a Delta table keeps files that no longer count; export it first")
    return sorted(inside for inside in path.rglob("*") if inside.is_file())


def _is_visible(names: Iterable[str]) -> bool:
    hidden = (name for name in names if name.startswith(("_", ".")) and "=" not in name)
    return not any(hidden) and not any(name.endswith(".crc") for name in names)


def _table_file(path: Path, label: str, folders: Iterable[str], sep: str) -> TableFile:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
    kind = _KINDS.get(suffix, "")
    if not kind or (zipped and kind not in _TEXTS):
        raise DataError(f"{label}: unknown kind of file; the name must end in {_SUFFIXES}")
    if path.stat().st_size == 0:
        raise DataError(f"{label}: the file is empty")
    pairs = (name.split("=", 1) for name in folders if "=" in name)
    keys = {name: None if value == _NO_VALUE else unquote(value) for name, value in pairs}
    return TableFile(path, label, kind, sep or ("\t" if suffix == ".tsv" else ","), keys)


def check_files(log: Path | None, items: Path | None, users: Path | None) -> set[str]:
    """The kinds of these tables; `DataError` for one that is missing or of no known kind."""
    tables = None if recognise(log)[1] else log, items, users
    return {table_files(table)[0].kind for table in tables if table is not None}


def with_known_columns(source: object, recipe: DataRecipe) -> DataRecipe:
    """For MovieLens the recipe with its genres and users, unless it names columns itself."""
    check_kind("recipe", recipe, DataRecipe, "write DataRecipe(item_col=NAME, ...)")
    _, tables = recognise(source)
    if not tables:
        return recipe
    tags = ("gender", "age", "occupation") if len(tables) > 2 else ()
    if not any(getattr(recipe, name) for name in ITEM_KINDS):
        recipe = replace(recipe, attribute_cols=("genres",))
    return replace(recipe, tag_cols=recipe.tag_cols or tags)


def recognise(source: object) -> tuple[Files, dict[str, list[str]]]:
    """The files of a folder or archive, and those of MovieLens with their columns, if any."""
    if not isinstance(source, str | Path):
        return {}, {}
    path = Path(source)
    if path.is_dir():
        files: Files = {child.name: child.read_bytes for child in path.iterdir()}
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


def _members(path: Path) -> Files:
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

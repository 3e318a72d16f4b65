"""What a log may be, and what can be checked before it is read. Needs no torch, reads no table."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from attnrec.runtime.errors import DataError
from attnrec.runtime.files import address_note
from attnrec.train.checks import check_kind
from attnrec.train.data.recipe import DataRecipe

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
_SUFFIXES = (".csv", ".csv.gz", ".parquet")

Files = dict[str, Callable[[], bytes]]


def checked_suffix(path: Path) -> str:
    """How the name of a table ends; `DataError` where there is no file of such a kind."""
    if path.is_dir():
        raise DataError(f"{path} is a directory; name one file ({', '.join(_SUFFIXES)})")
    if not path.exists():
        raise DataError(address_note(path) or f"{path}: there is no such file")
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            if path.stat().st_size == 0:
                raise DataError(f"{path.name}: the file is empty")
            return suffix
    raise DataError(
        f"{path.name}: unknown kind of file; the name must end in {', '.join(_SUFFIXES)}"
    )


def check_files(log: Path | None, items: Path | None, users: Path | None) -> None:
    """`DataError` for a file that does not exist or is of no known kind."""
    for table in (None if recognise(log)[1] else log, items, users):
        if table is not None:
            checked_suffix(table)


def with_known_columns(source: object, recipe: DataRecipe) -> DataRecipe:
    """For MovieLens the recipe with its genres and users, unless it names columns itself."""
    check_kind("recipe", recipe, DataRecipe, "write DataRecipe(item_col=NAME, ...)")
    _, tables = recognise(source)
    if not tables:
        return recipe
    tags = ("gender", "age", "occupation") if len(tables) > 2 else ()
    attributes = recipe.attribute_cols or ("genres",)
    return replace(recipe, attribute_cols=attributes, tag_cols=recipe.tag_cols or tags)


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

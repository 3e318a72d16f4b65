"""What can be said of a log and its tables before they are read. Needs no torch."""

from pathlib import Path

from attnrec.runtime.errors import DataError
from attnrec.runtime.files import address_note
from attnrec.train.data.movielens_editions import recognise
from attnrec.train.data.recipe import DataRecipe

_SUFFIXES = (".csv", ".csv.gz", ".parquet")


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
    """`DataError` for a file that there is not, or of a kind that nobody reads."""
    for table in (None if recognise(log)[1] else log, items, users):
        if table is not None:
            checked_suffix(table)


def check_tables(
    recipe: DataRecipe, *, has_items: bool, has_users: bool, has_people: bool
) -> None:
    """`ValueError` for a table without columns to read, or columns without their table.

    has_people: the log itself brings a table of users.
    """
    if has_users and not recipe.tag_cols:
        raise ValueError("a users table is read for its tags; name columns with `tag_cols`")
    if recipe.attribute_cols and not has_items:
        raise ValueError("`attribute_cols` are columns of the items table; name it with `items`")
    if recipe.tag_cols and not (has_users or has_people):
        raise ValueError("`tag_cols` are columns of the users table; name it with `users`")


def reads_items(recipe: DataRecipe) -> bool:
    """Whether anything is read from an items table."""
    return bool(recipe.title_col or recipe.attribute_cols)

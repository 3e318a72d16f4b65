"""Whether a table has the columns that are wanted, and what its first line is if it has not."""

import re
from collections.abc import Mapping

from attnrec.runtime.errors import DataError

_A_YEAR = 4  # characters
_DATA = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?\Z|\d{4}-\d\d-\d\d")


def naming(setting: str) -> str:
    """The remedy for a column that a setting of the recipe names."""
    return f"name the right one with `{setting}`"


def check_columns(name: str, present: list[str], wanted: Mapping[str, str]) -> None:
    """`DataError` unless each column of `wanted` (name -> remedy) stands once among `present`."""
    for column, remedy in wanted.items():
        count = present.count(column)
        if count == 1:
            continue
        listed = ", ".join(repr(column) for column in present[:30])
        problem = "there are several columns" if count else "there is no column"
        problem = f"{problem} {column!r}, the columns are {listed}"
        if count:
            raise DataError(f"{name}: {problem}; rename all but one of them")
        raise DataError(f"{name}: {problem}", remedy)


def check_csv_header(name: str, header: list[str], wanted: Mapping[str, str]) -> None:
    """`check_columns` for the first line of a CSV file, which may be something else."""
    if not set(wanted) <= set(header):
        _check_separator(name, header)
    found = set(wanted) & set(header)
    data = [name for name in header if _is_data(name)]
    counted = [[str(place + first) for place in range(len(data))] for first in (0, 1)]
    # Wanted by the name of a time, the column is there, and the first event would be lost. A short
    # number may be a name, such as 2020, and is one where the caller wants it. Where none of the
    # wanted columns is there, two numbers are an event, unless they count the columns.
    doubtful = found & set(data) if found else set(data)
    is_event = any(len(name) > _A_YEAR for name in doubtful) or (not found and len(data) > 1)
    if is_event and data not in counted:
        shown = ", ".join(map(repr, header[:30]))
        raise DataError(
            f"{name}: the file seems to have no header line, its first line is {shown}; put a "
            f"line with the names of the {len(header)} columns before it, in their order, among "
            f"them {', '.join(wanted)}"
        )
    check_columns(name, header, wanted)


def _check_separator(name: str, header: list[str]) -> None:
    first = header[0]
    if first.lower().startswith("sep="):
        raise DataError(
            f"{name}: the first line {','.join(header)!r} is meant for Excel alone; delete it"
            + ("" if first[4:] in ("", ",") else ", and separate the fields by commas")
        )
    if first.startswith("#"):
        raise DataError(
            f"{name}: the first line begins with {first[:30]!r}, a comment; the first line must "
            "hold the names of the columns: delete the comments, or the # before the names"
        )
    if len(header) == 1 and any(mark in first for mark in ";\t|"):
        raise DataError(
            f"{name}: the first line is {first[:80]!r}; fields must be separated by commas"
        )


def _is_data(name: str) -> bool:
    """Whether a number or a date stands in the place of a name."""
    return _DATA.match(name) is not None

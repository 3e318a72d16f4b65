"""Slow, exact passes over a CSV file that find the line of an error.

The fast reader knows no line numbers. These functions run only when something is wrong, and
count lines as an editor shows them: the header is line 1, a quoted line break counts.
"""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from attnrec.runtime.errors import counted
from attnrec.train.data.sources import TableFile

# Of a field, for the exact reader, which refuses 128 KiB otherwise: a description may be longer.
_LONGEST_FIELD = 2**31 - 1
_TWICE = "a quote inside a field is written twice"
_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
_A_YEAR = 4  # characters
_DATA = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?\Z|\d{4}-\d\d-\d\d")


def csv_header(file: TableFile) -> list[str]:
    """The column names: the first line that is not empty; [] in an empty file.

    Raises ``OSError`` or ``EOFError`` where the file cannot be read.
    """
    return next((fields for _, fields in _records(file)), [])


def line_of_row(file: TableFile, row: int) -> int | None:
    """The line on which data row `row` (0-based, without the header) starts; None if not found."""
    try:
        for index, (line, _) in enumerate(_records(file)):
            if index == row + 1:
                return line
    except (OSError, EOFError, zlib.error, csv.Error):
        return None
    return None


def find_csv_fault(file: TableFile) -> str | None:
    """The first place where a file is not what a CSV file has to be; None if there is none."""
    try:
        return _not_utf8(file.path) or find_quote_fault(file) or _ragged_row(file)
    except (OSError, EOFError, zlib.error) as error:
        return f"the file cannot be read to its end ({error}); copy or compress it again"


def find_quote_fault(file: TableFile) -> str | None:
    """The first quoted field that never ends, or with text behind its end; None: there is none."""
    try:
        for _ in _records(file, strict=True):
            pass
    except _QuoteFault as fault:
        return str(fault)
    return None


def _not_utf8(path: Path) -> str | None:
    offset = 0
    with _open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                offset += error.start
                utf16 = offset == 0 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                return (
                    f"line {number}: byte {offset} is not UTF-8 text; save the file as UTF-8 "
                    f"(for example `iconv -f {'utf-16' if utf16 else 'latin1'} -t utf-8`)"
                )
            offset += len(line)
    return None


def _ragged_row(file: TableFile) -> str | None:
    expected = 0
    for line, fields in _records(file):
        expected = expected or len(fields)
        if len(fields) != expected:
            remedy = (
                f"{_TWICE}{escaped}"
                if (escaped := _escaped(file.path, line))
                else f"put a field that holds {_named(file.sep)} or a line break in double quotes"
            )
            n_fields = counted(len(fields), "field")
            return f"line {line}: {n_fields} where the header has {expected}; {remedy}"
    return None


def _records(file: TableFile, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line on which it starts; empty lines are no records.

    strict: raise `_QuoteFault` where a quoted field does not end as it has to.
    """
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with _open_text(file.path) as text:
            reader = csv.reader(text, delimiter=file.sep, strict=strict)
            start = 1
            for fields in reader:
                if fields:
                    yield start, fields
                start = reader.line_num + 1
    except csv.Error as error:
        escaped = _escaped(file.path, start)
        # The reader tells the two apart by its words alone.
        if "end of data" in str(error):
            remedy = f"; {_TWICE}{escaped}" if escaped else ""
            problem = f"line {start}: a double quote is opened and never closed{remedy}"
        else:
            until = "" if reader.line_num == start else f" on line {reader.line_num}"
            problem = f"line {start}: there is text after the closing quote of a field{until}"
            problem += f"; {_TWICE}{escaped}"
        raise _QuoteFault(problem) from error
    finally:
        csv.field_size_limit(limit)


class _QuoteFault(Exception):
    """A quoted field that never ends, or that has text behind its end; says on which line."""


def _escaped(path: Path, line: int) -> str:
    """What to add to a remedy where a quote stands behind a backslash, as many programs write."""
    with _open_text(path) as text:
        found = '\\"' in next(islice(text, line - 1, None), "")
    return ', not behind a backslash (Spark: .option("escape", "\\""))' if found else ""


def _open_text(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(_open_bytes(path), encoding="utf-8-sig", errors="replace", newline="")


def _open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    return open(path, "rb")


class QuoteWatch(io.RawIOBase):
    """Passes a stream through and notes whether a double quote stands where none may.

    The first quote opens a field and stands at its start, the next one closes it and stands at
    its end; of two in a row inside a field the first closes it and the second opens it again.
    """

    def __init__(self, stream: Any, sep: str) -> None:
        self._stream = stream
        # What may stand outside of a quote.
        self._beside = np.isin(np.arange(256), list(f'{sep}\r\n"'.encode()))
        self._misplaced = False
        self._quotes = 0
        # The last byte that was looked at, and one that was not: its right neighbour was missing.
        self._tail = b""

    @property
    def doubtful(self) -> bool:
        """Whether the quotes read so far may be misplaced, or the last one is open."""
        return self._misplaced or self._quotes % 2 == 1

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block: bytes = self._stream.read(size)
        if not self._tail:
            self._tail = b"\n"
            self._watch(block.removeprefix(codecs.BOM_UTF8))
        else:
            self._watch(block or b"\n")
        return block

    def _watch(self, block: bytes) -> None:
        text = self._tail + block
        self._tail = text[-2:]
        if b'"' not in text:
            return
        values = np.frombuffer(text, np.uint8)
        beside = np.flatnonzero(values[1:-1] == ord('"')) + 1
        n_quotes, closed = len(beside), self._quotes % 2
        beside[closed::2] -= 1  # before those that open a field
        beside[1 - closed :: 2] += 1  # after those that close one
        self._misplaced |= not self._beside[values[beside]].all()
        self._quotes += n_quotes


def find_header_fault(header: list[str], wanted: Collection[str], sep: str) -> str | None:
    """What the first line of a file is if it is not the names of its columns; None: it is."""
    found = set(wanted) & set(header)
    if len(found) < len(wanted) and (fault := _separator_fault(header, sep)):
        return fault
    data = [name for name in header if _DATA.match(name)]
    numbered = [[str(place + first) for place in range(len(data))] for first in (0, 1)]
    # Wanted by the name of a time, the column is there, and the first event would be lost. A short
    # number may be a name, such as 2020, and is one where the caller wants it. Where none of the
    # wanted columns is there, two numbers are an event, unless they count the columns.
    doubtful = found & set(data) if found else set(data)
    is_event = any(len(name) > _A_YEAR for name in doubtful) or (not found and len(data) > 1)
    if not is_event or data in numbered:
        return None
    shown = ", ".join(map(repr, header[:30]))
    return (
        f"the file seems to have no header line, its first line is {shown}; put a line with the "
        f"names of the {len(header)} columns before it, in their order, among them "
        f"{', '.join(wanted)}"
    )


def _separator_fault(header: list[str], sep: str) -> str | None:
    first = header[0]
    if first.lower().startswith("sep="):
        problem = f"the first line {sep.join(header)!r} is meant for Excel alone; delete it"
        named = first[4:] in ("", sep)
        return problem if named else f"{problem}, and name the separator with `sep`"
    if first.startswith("#"):
        return (
            f"the first line begins with {first[:30]!r}, a comment; the first line must "
            "hold the names of the columns: delete the comments, or the # before the names"
        )
    if len(header) == 1 and any(mark in first for mark in ",;\t|"):
        return (
            f"the first line is {first[:80]!r}; fields must be separated by {_named(sep)}, or by "
            "what `sep` says"
        )
    return None


def _named(sep: str) -> str:
    return _NAMES.get(sep, repr(sep))

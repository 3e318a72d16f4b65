"""Slow, exact passes over a CSV file that find the line of an error.

The fast reader knows no line numbers. These functions run only when something is wrong, and
count lines as an editor shows them: the header is line 1, a quoted line break counts.
"""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from attnrec.runtime.errors import counted

_BLOCK_BYTES = 1 << 20

# Of a field, for the exact reader, which refuses 128 KiB otherwise: a description may be longer.
_LONGEST_FIELD = 2**31 - 1
_TWICE = "a quote inside a field is written twice"


class _QuoteFault(Exception):
    """A quoted field that never ends, or that has text behind its end."""

    def __init__(self, start: int, end: int, *, unclosed: bool) -> None:
        super().__init__(start, end, unclosed)
        self.start = start
        """Line on which the record starts."""
        self.end = end
        """Line on which it cannot go on."""
        self.unclosed = unclosed


def csv_header(path: Path) -> list[str]:
    """The column names: the first line that is not empty; [] in an empty file.

    Raises ``OSError`` or ``EOFError`` where the file cannot be read.
    """
    return next((fields for _, fields in _records(path)), [])


def line_of_row(path: Path, row: int) -> int | None:
    """The line on which data row `row` (0-based, without the header) starts; None if not found."""
    try:
        for index, (line, _) in enumerate(_records(path)):
            if index == row + 1:
                return line
    except (OSError, EOFError, zlib.error, csv.Error):
        return None
    return None


def find_csv_fault(path: Path) -> str | None:
    """The first place where a file is not what a CSV file has to be; None if there is none."""
    try:
        return _not_utf8(path) or find_quote_fault(path) or _ragged_row(path)
    except (OSError, EOFError, zlib.error) as error:
        return f"the file cannot be read to its end ({error}); copy or compress it again"


def find_quote_fault(path: Path) -> str | None:
    """The first quoted field that never ends, or with text behind its end; None: there is none."""
    try:
        for _ in _records(path, strict=True):
            pass
    except _QuoteFault as fault:
        escaped = _escaped(path, fault.start)
        if fault.unclosed:
            problem = f"line {fault.start}: a double quote is opened and never closed"
            return f"{problem}; {_TWICE}{escaped}" if escaped else problem
        until = "" if fault.end == fault.start else f" on line {fault.end}"
        return (
            f"line {fault.start}: there is text after the closing quote of a field{until}; "
            f"{_TWICE}{escaped}"
        )
    return None


def _escaped(path: Path, line: int) -> str:
    """What to add to a remedy where a quote stands behind a backslash, as many programs write."""
    with _open_text(path) as text:
        found = '\\"' in next(islice(text, line - 1, None), "")
    return ', not behind a backslash (Spark: .option("escape", "\\""))' if found else ""


def _not_utf8(path: Path) -> str | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, start = 1, 0
    with _open_bytes(path) as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            # Bytes of a character cut by the block's end wait in the decoder.
            waiting = decoder.getstate()[0]
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += (waiting + block)[: error.start].count(b"\n")
                offset = start - len(waiting) + error.start
                utf16 = offset == 0 and block.startswith(
                    (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
                )
                return (
                    f"line {line}: byte {offset} is not UTF-8 text; save the file as UTF-8 "
                    f"(for example `iconv -f {'utf-16' if utf16 else 'latin1'} -t utf-8`)"
                )
            if not block:
                return None
            line += block.count(b"\n")
            start += len(block)


def _ragged_row(path: Path) -> str | None:
    expected = 0
    for line, fields in _records(path):
        expected = expected or len(fields)
        if len(fields) != expected:
            problem = (
                f"line {line}: {counted(len(fields), 'field')} where the header has {expected}"
            )
            if escaped := _escaped(path, line):
                return f"{problem}; {_TWICE}{escaped}"
            return f"{problem}; put a field that holds a comma or a line break in double quotes"
    return None


def _records(path: Path, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line on which it starts; empty lines are no records.

    strict: raise `_QuoteFault` where a quoted field does not end as it has to.
    """
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with _open_text(path) as text:
            reader = csv.reader(text, strict=strict)
            start = 1
            for fields in reader:
                if fields:
                    yield start, fields
                start = reader.line_num + 1
    except csv.Error as error:
        # The reader tells the two apart by its words alone.
        unclosed = "end of data" in str(error)
        raise _QuoteFault(start, reader.line_num, unclosed=unclosed) from error
    finally:
        csv.field_size_limit(limit)


def _open_text(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(_open_bytes(path), encoding="utf-8-sig", errors="replace", newline="")


def _open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    return open(path, "rb")

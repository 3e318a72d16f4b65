"""Slow, exact passes over a CSV file that find the line of an error.

The fast reader knows no line numbers. These functions run only when something is wrong, and
count lines as an editor shows them: the header is line 1, a quoted line break counts.
"""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

_BLOCK_BYTES = 1 << 20

# A record put behind a file: it comes out whole unless an open quote swallows it.
_END = "end"


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
        return _not_utf8(path) or find_unclosed_quote(path) or _ragged_row(path)
    except (OSError, EOFError, zlib.error) as error:
        return f"the file cannot be read to its end ({error}); copy or compress it again"


def find_unclosed_quote(path: Path) -> str | None:
    """The line of a quoted field that runs to the end of the file; None if there is none."""
    last_line, last_fields = 1, [""]
    try:
        for line, fields in _records(path, after=["\n", _END + "\n"]):
            last_line, last_fields = line, fields
    except csv.Error as error:
        return f"after line {last_line}: {error}; a double quote may be opened and never closed"
    if last_fields == [_END]:
        return None
    return f"line {last_line}: a double quote is opened and never closed"


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
                return (
                    f"line {line}: byte {offset} is not UTF-8 text; save the file as UTF-8 "
                    "(for example `iconv -f latin1 -t utf-8`)"
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
            return (
                f"line {line}: {len(fields)} fields where the header has {expected}; put a "
                "field that holds a comma or a line break in double quotes"
            )
    return None


def _records(path: Path, after: Sequence[str] = ()) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line on which it starts; empty lines are no records.

    `after`: lines to read at the end of the file as if they stood there.
    """
    with (
        _open_bytes(path) as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as text,
    ):
        reader = csv.reader(chain(text, after))
        start = 1
        for fields in reader:
            if fields:
                yield start, fields
            start = reader.line_num + 1


def _open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    return open(path, "rb")

"""CSV, CSV.gz, Parquet or a DataFrame to Arrow columns, ids as text where the file has text."""

import csv
import io
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from attnrec.runtime.errors import DataError
from attnrec.train.csv_lines import csv_header, find_csv_fault, find_unclosed_quote
from attnrec.train.raw_table import RawTable
from attnrec.train.sources import checked_suffix

Source = str | Path | pd.DataFrame | RawTable

_CSV_BLOCK_BYTES = 4 << 20


def read_table(source: Source, wanted: Mapping[str, str], coded: Iterable[str]) -> RawTable:
    """Read the columns `wanted` (column name -> the option that renames it) of a table.

    The columns `coded` come dictionary-encoded where that saves memory. CSV fields stay text,
    byte for byte: nothing is stripped and no word means "missing". Raises `DataError` where the
    source is missing, unreadable or without a wanted column.
    """
    if isinstance(source, pd.DataFrame):
        return _from_dataframe(source, wanted)
    if isinstance(source, RawTable):
        _check_columns(source.name, source.columns.column_names, wanted)
        return RawTable(source.name, source.columns.select(list(wanted)))
    path = Path(source)
    suffix = checked_suffix(path)
    try:
        if suffix == ".parquet":
            return RawTable(path.name, _read_parquet(path, wanted, set(coded)))
        return RawTable(path.name, _read_csv(path, wanted, set(coded)), csv_path=path)
    except UnicodeEncodeError as error:
        # Arrow opens files by names in UTF-8, and the name has to fit into the report.
        raise DataError(
            f"{path.name!a}: the file's name is not valid Unicode; rename it"
        ) from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path.name}: the file cannot be read: {error}") from error


def _check_columns(name: str, present: list[str], wanted: Mapping[str, str]) -> None:
    for column, option in wanted.items():
        count = present.count(column)
        if count == 1:
            continue
        listed = ", ".join(repr(column) for column in present[:30])
        problem = "there are several columns" if count else "there is no column"
        hint = f"; name the right one with {option} NAME"
        hint += ", or leave titles out with --title-col ''" if option == "--title-col" else ""
        if len(present) == 1 and any(mark in present[0] for mark in ";\t|"):
            hint = "; fields must be separated by commas"
        raise DataError(f"{name}: {problem} {column!r}, the columns are {listed}{hint}")


def _read_csv(path: Path, wanted: Mapping[str, str], coded: set[str]) -> pa.Table:
    _check_magic(path)
    header = csv_header(path)
    if not header:
        raise DataError(f"{path.name}: the file is empty")
    if "\ufffd" in "".join(header) and not set(wanted) <= set(header):
        raise DataError(f"{path.name}, {find_csv_fault(path)}")
    _check_columns(path.name, header, wanted)
    text, codes = pa.string(), pa.dictionary(pa.int32(), pa.string())
    types = {column: codes if column in coded else text for column in wanted}
    compression = "gzip" if path.suffix.lower() == ".gz" else None
    try:
        with pa.input_stream(path, compression=compression) as stream:
            counted = _QuoteCounter(stream)
            table = pyarrow.csv.read_csv(
                counted,
                read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(wanted), column_types=types, strings_can_be_null=False
                ),
            )
    except (pa.ArrowException, OSError) as error:
        fault = find_csv_fault(path) or f"the file cannot be read: {error}"
        raise DataError(f"{path.name}, {fault}") from error
    # An open quote in the last column would swallow the rest of the file without an error. It
    # leaves an odd count; so does a harmless inch mark, hence the exact look.
    unclosed = find_unclosed_quote(path) if counted.quotes % 2 else None
    if unclosed:
        raise DataError(f"{path.name}, {unclosed}")
    return table


class _QuoteCounter(io.RawIOBase):
    """Counts the double quotes of a stream that passes through."""

    def __init__(self, stream: Any) -> None:
        self.quotes = 0
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block: bytes = self._stream.read(size)
        self.quotes += block.count(b'"')
        return block


def _check_magic(path: Path) -> None:
    """Refuse a file whose first bytes contradict its name: the usual slip when renaming."""
    with open(path, "rb") as file:
        start = file.read(4)
    zipped = start.startswith(b"\x1f\x8b")
    if path.suffix.lower() == ".gz" and not zipped:
        raise DataError(f"{path.name}: the content is not gzip; name it .csv if it is plain text")
    if path.suffix.lower() == ".csv" and zipped:
        raise DataError(f"{path.name}: the content is gzip; name the file .csv.gz")
    if start == b"PAR1":
        raise DataError(f"{path.name}: the content is Parquet; name the file .parquet")


def _read_parquet(path: Path, wanted: Mapping[str, str], coded: set[str]) -> pa.Table:
    try:
        schema = pyarrow.parquet.read_schema(path)
        _check_columns(path.name, list(schema.names), wanted)
        # Only text has a dictionary to read; numbers come as they are.
        texts = [column for column in coded if _is_text(schema.field(column).type)]
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
            return file.read(columns=list(wanted))
    except pa.ArrowException as error:
        raise DataError(f"{path.name}: not an intact Parquet file ({error})") from error


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _from_dataframe(frame: pd.DataFrame, wanted: Mapping[str, str]) -> RawTable:
    name = "DataFrame"
    # A label that is no text, such as the number 0, is shown but never matches.
    labels = [label if isinstance(label, str) else repr(label) for label in frame.columns]
    _check_columns(name, labels, wanted)
    columns = {}
    for column in wanted:
        try:
            columns[column] = pa.Array.from_pandas(frame[column])
        except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError) as error:
            raise DataError(
                f"{name}, column {column!r}: the values are of mixed or unknown kinds ({error}); "
                f"convert them first, for example with .astype(str)"
            ) from error
    return RawTable(name, pa.table(columns))

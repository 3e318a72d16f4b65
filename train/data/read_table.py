"""CSV, CSV.gz, Parquet or a DataFrame to Arrow columns, ids as text where the file has text."""

import codecs
import csv
import io
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from attnrec.runtime.errors import DataError
from attnrec.train.data.column_names import check_columns, check_csv_header
from attnrec.train.data.csv_faults import csv_header, find_csv_fault, find_quote_fault
from attnrec.train.data.raw_table import RawTable
from attnrec.train.data.sources import checked_suffix


class ArrowTable(Protocol):
    """A table of pyarrow, Polars, DuckDB or any library that hands its columns over as Arrow."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The columns, as the Arrow PyCapsule interface has them."""


Source = str | Path | pd.DataFrame | ArrowTable | RawTable

_CSV_BLOCK_BYTES = 4 << 20


def read_table(source: Source, wanted: Mapping[str, str], coded: Iterable[str]) -> RawTable:
    """Read the columns `wanted` (column name -> what to do where it is missing) of a table.

    The columns `coded` come dictionary-encoded where that saves memory. CSV fields stay text,
    byte for byte: nothing is stripped and no word means "missing". Raises `DataError` where the
    source is missing, unreadable or without a wanted column, `ValueError` for what is no source.
    """
    raw = _read(source, wanted, set(coded))
    columns = {name: _usual_type(raw.columns[name]) for name in raw.columns.column_names}
    for name, values in columns.items():
        try:
            values.validate(full=True)  # Arrow takes any bytes for text
        except pa.ArrowInvalid as error:
            raise raw.column_error(name, f"the values are not intact ({error})") from error
    return RawTable(raw.name, pa.table(columns), raw.csv_path)


def _read(source: Source, wanted: Mapping[str, str], coded: set[str]) -> RawTable:
    if isinstance(source, pd.DataFrame):
        return _from_dataframe(source, wanted)
    if isinstance(source, RawTable):
        return _selected(source.name, source.columns, wanted)
    if hasattr(source, "__arrow_c_stream__"):
        return _from_arrow(source, wanted)
    if not isinstance(source, str | os.PathLike):
        raise ValueError(
            "a table is the path of a file, a pandas DataFrame or an Arrow table, not "
            f"{'None' if source is None else 'a ' + type(source).__name__}; pandas.DataFrame(...) "
            "makes one"
        )
    path = Path(source)
    suffix = checked_suffix(path)
    try:
        if suffix == ".parquet":
            return RawTable(path.name, _read_parquet(path, wanted, coded))
        return RawTable(path.name, _read_csv(path, wanted, coded), csv_path=path)
    except UnicodeEncodeError as error:
        # Arrow opens files by names in UTF-8, and the name has to fit into the report.
        raise DataError(
            f"{path.name!a}: the file's name is not valid Unicode; rename it"
        ) from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path.name}: the file cannot be read: {error}") from error


def _read_csv(path: Path, wanted: Mapping[str, str], coded: set[str]) -> pa.Table:
    _check_magic(path)
    header = csv_header(path)
    if not header:
        raise DataError(f"{path.name}: the file is empty")
    if "\ufffd" in "".join(header) and not set(wanted) <= set(header):
        raise DataError(f"{path.name}, {find_csv_fault(path)}")
    check_csv_header(path.name, header, wanted)
    text, codes = pa.string(), pa.dictionary(pa.int32(), pa.string())
    types = {column: codes if column in coded else text for column in wanted}
    compression = "gzip" if path.suffix.lower() == ".gz" else None
    try:
        with pa.input_stream(path, compression=compression) as stream:
            watched = _QuoteWatch(stream)
            table = pyarrow.csv.read_csv(
                watched,
                read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(wanted), column_types=types, strings_can_be_null=False
                ),
            )
    except (pa.ArrowException, OSError) as error:
        problem = find_csv_fault(path) or f"the file cannot be read: {error}"
        raise DataError(f"{path.name}, {problem}") from error
    # Arrow takes an open quote in the last column for a field that holds the rest of the file,
    # and text behind a closing quote for a part of its field. A harmless inch mark looks alike,
    # hence the exact look.
    fault = find_quote_fault(path) if watched.doubtful else None
    if fault:
        raise DataError(f"{path.name}, {fault}")
    return table


class _QuoteWatch(io.RawIOBase):
    """Passes a stream through and notes whether a double quote stands where none may.

    The first quote opens a field and stands at its start, the next one closes it and stands at
    its end; of two in a row inside a field the first closes it and the second opens it again.
    """

    _BESIDE = np.isin(np.arange(256), list(b',\r\n"'))  # what may stand outside of a quote

    def __init__(self, stream: Any) -> None:
        self._stream = stream
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
        self._misplaced |= not self._BESIDE[values[beside]].all()
        self._quotes += n_quotes


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
        check_columns(path.name, list(schema.names), wanted)
        # Only text has a dictionary to read; numbers come as they are.
        texts = [column for column in coded if _is_text(schema.field(column).type)]
        # Nanoseconds, which is how INT96 is read otherwise, wrap around after the year 2262.
        with pyarrow.parquet.ParquetFile(
            path, read_dictionary=texts, coerce_int96_timestamp_unit="us"
        ) as file:
            return file.read(columns=list(wanted))
    except pa.ArrowException as error:
        raise DataError(f"{path.name}: not an intact Parquet file ({error})") from error


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _from_dataframe(frame: pd.DataFrame, wanted: Mapping[str, str]) -> RawTable:
    name = "DataFrame"
    # A label that is no text, such as the number 0, is shown but never matches.
    labels = [label if isinstance(label, str) else repr(label) for label in frame.columns]
    check_columns(name, labels, wanted)
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


def _from_arrow(source: Any, wanted: Mapping[str, str]) -> RawTable:
    name = type(source).__name__
    try:
        table = pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{name}: not a table of named columns ({error})") from error
    return _selected(name, table, wanted)


def _selected(name: str, table: pa.Table, wanted: Mapping[str, str]) -> RawTable:
    check_columns(name, table.column_names, wanted)
    return RawTable(name, table.select(list(wanted)))


def _usual_type(values: Any) -> Any:
    """A column in a type that all of Arrow's functions know; UUIDs as their text."""
    kind = values.type
    if isinstance(kind, pa.UuidType):
        texts = [None if value is None else str(value) for value in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if isinstance(kind, pa.BaseExtensionType):
        return _usual_type(values.cast(kind.storage_type))
    if pa.types.is_string_view(kind):
        return values.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return values.cast(pa.large_binary())
    if pa.types.is_run_end_encoded(kind):
        return _usual_type(pc.run_end_decode(values))
    return values

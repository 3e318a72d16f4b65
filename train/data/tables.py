"""Tables as Arrow columns: CSV, CSV.gz, Parquet or a DataFrame, ids as text where it is text."""

import csv
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from attnrec.runtime.errors import DataError
from attnrec.train.data.csv_faults import (
    QuoteWatch,
    csv_header,
    find_csv_fault,
    find_header_fault,
    find_quote_fault,
    line_of_row,
)
from attnrec.train.data.sources import checked_suffix

_CSV_BLOCK_BYTES = 4 << 20
_CHUNK_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class RawTable:
    """Arrow columns of equal length, not yet checked."""

    name: str
    """What messages call the source: the file's name, or "DataFrame"."""
    columns: pa.Table
    """The wanted columns, under their own names."""
    csv_path: Path | None = None
    """The CSV file, for line numbers; None for Parquet and DataFrame."""
    rows: NDArray[np.int64] | None = None
    """Row of the source behind each row of `columns`; None: the same."""

    @property
    def n_rows(self) -> int:
        """Number of rows left."""
        return int(self.columns.num_rows)

    def decoded(self, column: str) -> Any:
        """The values of `column` as a chunked Arrow array that is not dictionary-encoded."""
        values = self.columns[column]
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        # A cast that fails still visits its whole chunk and words an error for every value,
        # which takes seconds for millions: short chunks fail early.
        starts = range(0, len(values), _CHUNK_ROWS)
        chunks = [part for i in starts for part in values.slice(i, _CHUNK_ROWS).chunks]
        return pa.chunked_array(chunks, values.type)

    def keep(self, mask: NDArray[np.bool_]) -> "RawTable":
        """The rows where `mask` (n_rows,) is true; they still know their place in the source."""
        kept = np.flatnonzero(mask)
        rows = kept if self.rows is None else self.rows[kept]
        return RawTable(self.name, self.columns.filter(pa.array(mask)), self.csv_path, rows)

    def error(self, column: str, row: int, problem: str, remedy: str = "") -> DataError:
        """A `DataError` that names the source, the column and the place of `row` (0-based)."""
        source_row = row if self.rows is None else int(self.rows[row])
        place = f"row {source_row + 1}"
        if self.csv_path is not None:
            line = line_of_row(self.csv_path, source_row)
            place = place if line is None else f"line {line}"
        return DataError(f"{self.name}, {place}, column {column!r}: {problem}", remedy)

    def column_error(self, column: str, problem: str, remedy: str = "") -> DataError:
        """A `DataError` about a whole column."""
        return DataError(f"{self.name}, column {column!r}: {problem}", remedy)


class ArrowTable(Protocol):
    """A table of pyarrow, Polars, DuckDB or any library that hands its columns over as Arrow."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The columns, as the Arrow PyCapsule interface has them."""


TableSource = str | Path | pd.DataFrame | ArrowTable | RawTable


def read_table(source: TableSource, wanted: Mapping[str, str], coded: Iterable[str]) -> RawTable:
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


def _read(source: TableSource, wanted: Mapping[str, str], coded: set[str]) -> RawTable:
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
    if fault := find_header_fault(header, wanted):
        raise DataError(f"{path.name}: {fault}")
    check_columns(path.name, header, wanted)
    text, codes = pa.string(), pa.dictionary(pa.int32(), pa.string())
    types = {column: codes if column in coded else text for column in wanted}
    compression = "gzip" if path.suffix.lower() == ".gz" else None
    try:
        with pa.input_stream(path, compression=compression) as stream:
            watched = QuoteWatch(stream)
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
    if watched.doubtful and (fault := find_quote_fault(path)):
        raise DataError(f"{path.name}, {fault}")
    return table


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


def shown(value: object) -> str:
    """A value for a message: its repr, cut where a broken file made it long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def first_failure(values: Any, convert: Callable[[Any], object]) -> int:
    """Index of the first value of an Arrow array that `convert` refuses with ``ArrowInvalid``.

    `convert` works on whole arrays; bisection finds the value without a loop over the rows.
    The array must hold such a value.
    """
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(values.slice(low, middle - low))
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low

"""Tables as Arrow columns: files or a DataFrame, ids as text where it is text."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from attnrec.runtime.errors import DataError
from attnrec.train.data.readers import file_columns, file_schema, line_in, read_file, usual_type
from attnrec.train.data.sources import TableFile, table_files

# Entries of dictionaries that wait until they are made one.
_LEAST_PENDING = 1 << 20
_CHUNK_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class RawTable:
    """Arrow columns of equal length, not yet checked."""

    name: str
    """What messages call the source: the file's name, or "DataFrame"."""
    columns: pa.Table
    """The wanted columns, under their own names."""
    files: tuple[tuple[int, TableFile], ...] = ()
    """The files, each with its first row, in their order; none of a DataFrame."""
    rows: NDArray[np.unsignedinteger] | None = None
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
        kept = np.flatnonzero(mask).astype(np.min_scalar_type(len(mask)))
        rows = kept if self.rows is None else self.rows[kept]
        return replace(self, columns=self.columns.filter(pa.array(mask)), rows=rows)

    def error(self, column: str, row: int, problem: str, remedy: str = "") -> DataError:
        """A `DataError` that names the source, the column and the place of `row` (0-based)."""
        source_row = row if self.rows is None else int(self.rows[row])
        name, line = self.name, None
        if self.files:
            place = bisect_right(self.files, source_row, key=lambda part: part[0]) - 1
            start, file = self.files[place]
            source_row -= start
            name, line = file.label, line_in(file, source_row)
        at = f"row {source_row + 1}" if line is None else f"line {line}"
        return DataError(f"{name}, {at}, column {column!r}: {problem}", remedy)

    def column_error(self, column: str, problem: str, remedy: str = "") -> DataError:
        """A `DataError` about a whole column."""
        return DataError(f"{self.name}, column {column!r}: {problem}", remedy)


class ArrowTable(Protocol):
    """A table of pyarrow, Polars, DuckDB or any library that hands its columns over as Arrow."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The columns, as the Arrow PyCapsule interface has them."""


TableSource = str | Path | pd.DataFrame | ArrowTable | RawTable


def read_table(
    source: TableSource, wanted: Mapping[str, str], coded: Iterable[str], sep: str = ""
) -> RawTable:
    """Read the columns `wanted` (column name -> what to do where it is missing) of a table.

    The columns `coded` come as codes into one dictionary. CSV fields stay text, byte for byte:
    nothing is stripped and no word means "missing". sep: between the fields of CSV files; empty:
    a comma, or a tab in .tsv. Raises `DataError` where the source is missing, unreadable or
    without a wanted column, `ValueError` for what is no source.
    """
    if isinstance(source, str | os.PathLike):
        return _from_files(Path(source), wanted, set(coded), sep)
    raw = _from_memory(source, wanted)
    columns = {name: _Column(name in coded) for name in wanted}
    _add(raw, columns)
    return RawTable(raw.name, _joined(raw.name, columns))


def opened(source: TableSource) -> TableSource:
    """The same, where it may be read twice: a stream of Arrow is read once."""
    if not hasattr(source, "__arrow_c_stream__") or isinstance(source, pd.DataFrame):
        return source
    return RawTable(type(source).__name__, pa.table(source))


def column_names(source: Any, sep: str = "") -> list[str]:
    """The columns of a table that `opened` gave."""
    if isinstance(source, str | os.PathLike):
        files = table_files(Path(source), sep)
        return [*dict.fromkeys(n for file in files for n in (*file_columns(file), *file.keys))]
    columns: Any = getattr(source, "columns", ())  # `read_table` refuses what has none
    columns = columns.column_names if isinstance(source, RawTable) else columns
    return [name for name in columns if isinstance(name, str)]


def _from_memory(source: Any, wanted: Mapping[str, str]) -> RawTable:
    if isinstance(source, pd.DataFrame):
        return _from_dataframe(source, wanted)
    if isinstance(source, RawTable):
        return _selected(source.name, source.columns, wanted)
    if hasattr(source, "__arrow_c_stream__"):
        return _from_arrow(source, wanted)
    raise ValueError(
        "a table is the path of a file, a pandas DataFrame or an Arrow table, not "
        f"{'None' if source is None else 'a ' + type(source).__name__}; pandas.DataFrame(...) "
        "makes one"
    )


def _from_files(path: Path, wanted: Mapping[str, str], coded: set[str], sep: str) -> RawTable:
    """Every file is looked at before the first one is read."""
    files = table_files(path, sep)
    _check_schemas(files, wanted)
    name = path.name or path.absolute().name
    columns = {column: _Column(column in coded) for column in wanted}
    starts = []
    n_rows = 0
    for file in files:
        starts.append((n_rows, file))
        own = [column for column in wanted if column not in file.keys]
        for table in read_file(file, own, coded):
            part = RawTable(file.label, _with_keys(table, file, wanted))
            check_columns(part.name, part.columns.column_names, wanted)
            _add(part, columns)
            n_rows += part.n_rows
    return RawTable(name, _joined(name, columns), tuple(starts))


def _check_schemas(files: list[TableFile], wanted: Mapping[str, str]) -> None:
    """`DataError` where a file lacks a column, or has it in another type than those before."""
    common = pa.schema([])
    for file in files:
        schema = file_schema(file, wanted)
        if schema is None:
            continue
        inside = [field for field in schema if field.name not in file.keys]
        check_columns(file.label, [*(field.name for field in inside), *file.keys], wanted)
        kinds = {field.name: field.type for field in inside if field.name in wanted}
        coded = pa.types.is_dictionary
        own = pa.schema({n: k.value_type if coded(k) else k for n, k in kinds.items()})
        try:
            common = pa.unify_schemas([common, own], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{file.label}: a column is of another type than in {files[0].label} ({error})"
            ) from error


def _with_keys(table: pa.Table, file: TableFile, wanted: Mapping[str, str]) -> pa.Table:
    """The columns of a file, and those of `wanted` that the names of its folders give."""
    for name in (name for name in file.keys if name in wanted):
        value = pa.array([file.keys[name]], pa.string()).dictionary_encode()
        table = table.append_column(name, value.take(pa.array(np.zeros(len(table), np.int8))))
    return table


def _add(raw: RawTable, columns: Mapping[str, "_Column"]) -> None:
    for name, column in columns.items():
        values = usual_type(raw.columns[name])
        try:
            values.validate(full=True)  # Arrow takes any bytes for text
        except pa.ArrowInvalid as error:
            raise raw.column_error(name, f"the values are not intact ({error})") from error
        column.add(values)


def _joined(name: str, columns: Mapping[str, "_Column"]) -> pa.Table:
    try:
        return pa.table({column: parts.joined() for column, parts in columns.items()})
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{name}: the types of a column differ from file to file ({error})"
        ) from error


class _Column:
    """A column that arrives in parts. Of a coded one only codes and distinct values are kept."""

    def __init__(self, coded: bool) -> None:
        self._coded = coded
        self._parts: list[Any] = []
        self._n_pending = self._n_distinct = 0

    def add(self, values: Any) -> None:
        """More rows, a chunked array."""
        self._coded = self._coded and not pa.types.is_nested(values.type)
        if not self._coded:
            self._parts.append(values)
            return
        coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        part = coded.unify_dictionaries().combine_chunks()
        self._parts.append(part)
        self._n_pending += len(part.dictionary)
        # The dictionaries of all files together may be as long as the log.
        if self._n_pending > max(_LEAST_PENDING, self._n_distinct):
            self._parts = [self.joined().combine_chunks()]
            self._n_pending, self._n_distinct = 0, len(self._parts[0].dictionary)

    def joined(self) -> Any:
        """All rows so far, as a chunked array; of a coded column with one dictionary."""
        tables = [pa.table({"": part}) for part in self._parts]
        values = pa.concat_tables(tables, promote_options="permissive")[""]
        return values.unify_dictionaries() if self._coded else values


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
        return _selected(name, pa.table(source), wanted)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{name}: not a table of named columns ({error})") from error


def _selected(name: str, table: pa.Table, wanted: Mapping[str, str]) -> RawTable:
    check_columns(name, table.column_names, wanted)
    return RawTable(name, table.select(list(wanted)))


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
    return text if len(text := repr(value)) <= 80 else f"{text[:60]}... ({len(text)} characters)"


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

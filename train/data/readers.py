"""The readers of each kind of file: Arrow's, with what they say when a file is not sound."""

import csv
import gzip
import json
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from attnrec.runtime.errors import DataError
from attnrec.train.data.csv_faults import (
    QuoteWatch,
    csv_header,
    find_csv_fault,
    find_header_fault,
    find_quote_fault,
    line_of_row,
)
from attnrec.train.data.sources import TableFile

_BLOCK_BYTES = 4 << 20
_ROWS = 1 << 20  # of Parquet, read at once


def line_in(file: TableFile, row: int) -> int | None:
    """The line of a row (0-based); None for a kind of file without lines."""
    if file.kind == "csv":
        return line_of_row(file, row)
    return _json_line_of_row(file, row) if file.kind == "json" else None


def file_schema(file: TableFile, wanted: Collection[str]) -> pa.Schema | None:
    """The columns of a file and their types, without its rows; None where only these tell.

    wanted: the columns that will be read. Raises `DataError`.
    """
    with _naming(file):
        if file.kind == "csv":
            return pa.schema([(name, pa.string()) for name in _csv_header(file, wanted)])
        if file.kind == "parquet":
            return pyarrow.parquet.read_schema(file.path)
        return _open_arrow(file).schema if file.kind == "arrow" else None


def file_columns(file: TableFile) -> list[str]:
    """The names of the columns of a file, as they stand. Raises `DataError`."""
    schema = file_schema(file, ())
    if schema is None:  # the first lines tell
        with _naming(file), _stream(file) as stream:
            _check_magic(file)
            options = pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES)
            schema = pyarrow.json.open_json(stream, options).schema
    return list(schema.names)


def read_file(file: TableFile, wanted: Collection[str], coded: set[str]) -> Iterator[pa.Table]:
    """The columns `wanted` in parts of many rows, texts of `coded` ones as dictionaries.

    Raises `DataError`; of JSON lines a column that no line has is missing in the result.
    """
    with _naming(file):
        if file.kind == "parquet":
            yield from _read_parquet(file, wanted, coded)
        elif file.kind == "arrow":
            yield _read_arrow(file, wanted)
        elif file.kind == "json":
            yield _read_json(file, wanted)
        else:
            yield _read_csv(file, wanted, coded)


@contextmanager
def _naming(file: TableFile) -> Iterator[None]:
    """Make what the readers raise a `DataError` that names the file."""
    try:
        yield
    except UnicodeEncodeError as error:
        # Arrow opens files by names in UTF-8, and the name has to fit into the report.
        raise DataError(
            f"{file.path.name!a}: the file's name is not valid Unicode; rename it"
        ) from error
    except pa.ArrowException as error:
        kind = {"parquet": "Parquet", "arrow": "Arrow"}.get(file.kind, file.kind)
        raise DataError(f"{file.label}: not an intact {kind} file ({error})") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{file.label}: the file cannot be read: {error}") from error


def _read_parquet(file: TableFile, wanted: Collection[str], coded: set[str]) -> Iterator[pa.Table]:
    # Only text has a dictionary to read; numbers come as they are.
    schema = pyarrow.parquet.read_schema(file.path)
    texts = [name for name in coded & {*wanted} if _is_text(schema.field(name).type)]
    # Nanoseconds, which is how INT96 is read otherwise, wrap around after the year 2262.
    with pyarrow.parquet.ParquetFile(
        file.path, read_dictionary=texts, coerce_int96_timestamp_unit="us"
    ) as parquet:
        yield parquet.schema_arrow.empty_table().select([*wanted])
        for batch in parquet.iter_batches(_ROWS, columns=[*wanted]):
            yield pa.Table.from_batches([batch])


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _open_arrow(file: TableFile, fields: list[int] | None = None) -> Any:
    """A reader of some fields: of the file format (Feather), or of the stream format."""
    source = pa.memory_map(str(file.path))
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source, options=options)


def _read_arrow(file: TableFile, wanted: Collection[str]) -> pa.Table:
    schema = _open_arrow(file).schema
    return _open_arrow(file, [schema.get_field_index(name) for name in wanted]).read_all()


def _stream(file: TableFile) -> Any:
    return pa.input_stream(file.path, compression="gzip" if file.zipped else None)


def _check_magic(file: TableFile) -> None:
    """Refuse a file whose first bytes contradict its name: the usual slip when renaming."""
    with open(file.path, "rb") as opened:
        start = opened.read(4)
    zipped, suffix = start.startswith(b"\x1f\x8b"), file.path.suffix.lower()
    if file.zipped and not zipped:
        plain = file.path.with_suffix("").suffix.lower()
        raise DataError(
            f"{file.label}: the content is not gzip; name it {plain} if it is plain text"
        )
    if zipped and not file.zipped:
        raise DataError(f"{file.label}: the content is gzip; name the file {suffix}.gz")
    if start == b"PAR1":
        raise DataError(f"{file.label}: the content is Parquet; name the file .parquet")


def _csv_header(file: TableFile, wanted: Collection[str]) -> list[str]:
    _check_magic(file)
    header = csv_header(file)
    if not header:
        raise DataError(f"{file.label}: the file is empty")
    own = [name for name in wanted if name not in file.keys]
    if "\ufffd" in "".join(header) and not set(own) <= set(header):
        raise DataError(f"{file.label}, {find_csv_fault(file)}")
    if fault := find_header_fault(header, own, file.sep):
        raise DataError(f"{file.label}: {fault}")
    return header


def _read_csv(file: TableFile, wanted: Collection[str], coded: set[str]) -> pa.Table:
    text, codes = pa.string(), pa.dictionary(pa.int32(), pa.string())
    try:
        with _stream(file) as stream:
            watched = QuoteWatch(stream, file.sep)
            found = pyarrow.csv.read_csv(
                watched,
                read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=file.sep, newlines_in_values=True
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=[*wanted],
                    column_types={name: codes if name in coded else text for name in wanted},
                    strings_can_be_null=False,
                ),
            )
    except (pa.ArrowException, OSError) as error:
        problem = find_csv_fault(file) or f"the file cannot be read: {error}"
        raise DataError(f"{file.label}, {problem}") from error
    # Arrow takes an open quote in the last column for a field that holds the rest of the file,
    # and text behind a closing quote for a part of its field. A harmless inch mark looks alike,
    # hence the exact look.
    if watched.doubtful and (fault := find_quote_fault(file)):
        raise DataError(f"{file.label}, {fault}")
    return found


def _read_json(file: TableFile, wanted: Collection[str]) -> pa.Table:
    _check_magic(file)
    options = pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES)
    try:
        with _stream(file) as stream:
            first = pyarrow.json.open_json(stream, options).schema
        kinds = {name: first.field(name).type for name in wanted if name in first.names}
        # Arrow takes text that looks like a date for a time, also where it is an id.
        kinds = {n: pa.string() if pa.types.is_timestamp(k) else k for n, k in kinds.items()}
        if len(kinds) == len(wanted):
            only = pyarrow.json.ParseOptions(
                explicit_schema=pa.schema(kinds), unexpected_field_behavior="ignore"
            )
            # A type may change on the way, from null or to float: all are inferred then.
            with suppress(pa.ArrowInvalid), _stream(file) as stream:
                return pyarrow.json.read_json(stream, options, only)
        with _stream(file) as stream:
            table = pyarrow.json.read_json(stream, options)
        return table.select([name for name in wanted if name in table.column_names])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.label}, {_json_fault(file, wanted) or error}") from error


def _json_fault(file: TableFile, wanted: Collection[str]) -> str | None:
    """The first line that is no object, or where a value has another type than before."""
    kinds: dict[str, type] = {}
    for number, line in _json_lines(file):
        try:
            record = json.loads(line)
        except ValueError as error:
            return f"line {number}: not a JSON object on one line ({error})"
        if not isinstance(record, dict):
            return f"line {number}: not a JSON object; `jq -c .[]` writes an array line by line"
        for name in wanted:
            value = record.get(name)
            kind = float if type(value) is int else type(value)
            if value is not None and kinds.setdefault(name, kind) is not kind:
                return f"line {number}, column {name!r}: {value!r} is of another type than before"
    return None


def _json_lines(file: TableFile) -> Iterator[tuple[int, bytes]]:
    with gzip.open(file.path) if file.zipped else open(file.path, "rb") as lines:
        yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _json_line_of_row(file: TableFile, row: int) -> int | None:
    return next((number for number, _ in islice(_json_lines(file), row, None)), None)


def usual_type(values: Any) -> Any:
    """A column in a type that all of Arrow's functions know; UUIDs as their text."""
    kind = values.type
    if isinstance(kind, pa.UuidType):
        texts = [None if value is None else str(value) for value in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if isinstance(kind, pa.BaseExtensionType):
        return usual_type(values.cast(kind.storage_type))
    if pa.types.is_string_view(kind):
        return values.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return values.cast(pa.large_binary())
    if pa.types.is_run_end_encoded(kind):
        return usual_type(pc.run_end_decode(values))
    return values

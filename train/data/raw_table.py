"""The columns of a log as they were read, and where each row stands in its source."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attnrec.runtime.errors import DataError
from attnrec.train.data.csv_faults import line_of_row

_CHUNK_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class RawTable:
    """Arrow columns of equal length, not yet checked."""

    name: str
    """What messages call the source: the file's name, or "DataFrame"."""
    columns: pa.Table
    """The columns that were asked for, under their own names."""
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

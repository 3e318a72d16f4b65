"""Distinct values as numbers."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def number_by_first_row(
    codes: NDArray[np.int32], values: Any
) -> tuple[NDArray[np.int32], Any, NDArray[np.int64]]:
    """Number the distinct `values` (an Arrow array) anew in the order of their first rows.

    Returns the new code of each row (n,), the values that have a row, and the first row of each
    (n_values,). `codes` (n,) points into `values`.
    """
    first = np.full(len(values), len(codes), np.int64)
    # Written backwards, so that the first row of an id is the one that stays.
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(codes))]
    new_code = np.empty(len(values), np.int32)
    new_code[order] = np.arange(len(order), dtype=np.int32)
    return new_code[codes], values.take(pa.array(order)), first[order]

"""Numbers and vectors of an items table."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnrec.train.data.tables import RawTable, shown

logger = logging.getLogger(__name__)


def read_numbers(raw: RawTable, column: str, place: pa.Array) -> NDArray[np.float64]:
    """The number of each place (n,), NaN where there is none. `DataError` for what is none."""
    try:
        texts = raw.columns[column].cast(pa.string()).combine_chunks()
        numbers = pc.if_else(pc.equal(texts, ""), None, texts).cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        remedy = "leave it out of `number_cols`; `attribute_cols` takes any value"
        raise raw.column_error(column, f"a value is no number ({error})", remedy) from error
    values = np.array(numbers.take(place).to_numpy(zero_copy_only=False), np.float64)
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all():
        remedy = "leave it out of `number_cols`"
        raise raw.column_error(column, "no item of the log has a number here", remedy)
    return values


def read_vectors(raw: RawTable, column: str, place: pa.Array) -> NDArray[np.float32]:
    """The vector of each place (n, width), zeros where there is none. Raises `DataError`."""
    try:
        lists = raw.columns[column].cast(pa.large_list(pa.float64())).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        remedy = "a column of vectors holds a list of numbers in every row"
        raise raw.column_error(column, f"the values are no vectors ({error})", remedy) from error
    lists = lists.take(place)
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    filled = np.flatnonzero(lengths)
    if not len(filled):
        remedy = "leave it out of `vector_cols`"
        raise raw.column_error(column, "no item of the log has a vector here", remedy)
    width = int(lengths[filled[0]])
    values = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    if (lengths[filled] != width).any():
        wrong = int(filled[(lengths[filled] != width).argmax()])
        problem = f"a vector of {lengths[wrong]} numbers, and others have {width}"
        remedy = "take all from one encoder; an item without one has none (null)"
        raise raw.error(column, place[wrong].as_py(), problem, remedy)
    vectors = np.zeros((len(lengths), width), np.float32)
    vectors[filled] = values.reshape(-1, width)
    if not np.isfinite(vectors).all():
        wrong = int((~np.isfinite(vectors)).any(axis=1).argmax())
        problem = f"a vector with {shown(float(vectors[wrong][~np.isfinite(vectors[wrong])][0]))}"
        remedy = "leave the vector out (null) where the encoder gave none"
        raise raw.error(column, place[wrong].as_py(), problem, remedy)
    n_zero = len(filled) - int(vectors.any(axis=1).sum())
    if n_zero:
        logger.warning(
            "%s, column %r: %d vectors are all zeros, which describes nothing",
            raw.name,
            column,
            n_zero,
        )
    return vectors

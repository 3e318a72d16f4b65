"""Raw ids to codes 0, 1, 2, ... by first appearance, without changing a byte of an id."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnrec.train.raw_table import RawTable, first_failure, shown
from attnrec.train.recipe import IdType

IdArray = NDArray[np.int64] | NDArray[np.object_]

# What str(int(id)) gives back unchanged; the range is checked by the conversion.
_CANONICAL_INT = r"\A(?:0|-?[1-9][0-9]{0,18})\z"


@dataclass(frozen=True, eq=False)
class CodedIds:
    """One id column: the distinct ids and the code of each row."""

    codes: NDArray[np.int32]
    """Place in `ids` of each row's id (n_rows,)."""
    ids: IdArray
    """Distinct ids by first appearance (n_ids,), int64 or str."""


def code_ids(raw: RawTable, column: str, id_type: IdType, *, padding: bool) -> CodedIds:
    """Number the ids of `column`; int64 only if every id is a plain decimal of that range.

    `padding`: refuse -1 among int64 ids, the padding value of the model file. The empty id, the
    padding value among texts, is always refused. Raises `DataError`.
    """
    codes, texts = _distinct_texts(raw, column)
    codes, texts, rows = number_by_first_row(codes, texts)
    empty = pc.index(texts, "").as_py()
    if empty >= 0:
        raise raw.error(column, int(rows[empty]), "the id is empty; fill it in or drop the row")
    misfit = -1 if id_type == "string" else _first_not_int64(texts)
    if id_type == "string" or (id_type == "auto" and misfit >= 0):
        return CodedIds(codes, texts.to_numpy(zero_copy_only=False))
    if misfit >= 0:
        problem = (
            f"{shown(texts[misfit].as_py())} is not a plain int64 number; use --id-type string"
        )
        raise raw.error(column, int(rows[misfit]), problem)
    # A copy, because Arrow's own memory is read-only and torch warns about that.
    ids: NDArray[np.int64] = texts.cast(pa.int64()).to_numpy().copy()
    minus_one = np.flatnonzero(ids == -1)
    if padding and len(minus_one):
        problem = "the id -1 is the padding value of int64 ids; use --id-type string"
        raise raw.error(column, int(rows[minus_one[0]]), problem)
    return CodedIds(codes, ids)


def id_texts(raw: RawTable, column: str) -> Any:
    """The ids of `column` as Arrow strings (n_rows,), null where missing. Raises `DataError`."""
    return _as_text(raw, column, raw.decoded(column).combine_chunks())


def _distinct_texts(raw: RawTable, column: str) -> tuple[NDArray[np.int32], Any]:
    """Code of each row (n,) and the distinct ids as Arrow strings, in any order."""
    values = raw.columns[column]
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    coded = values.unify_dictionaries().combine_chunks()
    if coded.null_count:
        row = pc.index(coded.is_null(), True).as_py()
        raise raw.error(column, row, "the id is missing; fill it in or drop the row")
    codes = coded.indices.to_numpy().astype(np.int32, copy=False)
    # A foreign dictionary may hold a value twice, or a null: encode it again.
    again = _as_text(raw, column, coded.dictionary).dictionary_encode(null_encoding="encode")
    codes = again.indices.to_numpy().astype(np.int32, copy=False)[codes]
    texts = again.dictionary
    null = pc.index(texts.is_null(), True).as_py()
    if null >= 0 and (codes == null).any():
        row = int(np.argmax(codes == null))
        raise raw.error(column, row, "the id is missing; fill it in or drop the row")
    return codes, texts


def _as_text(raw: RawTable, column: str, values: Any) -> Any:
    kind = values.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        problem = (
            f"ids of type {kind} are not exact; convert the column to int64 or text first "
            '(an empty cell turns a pandas column to float: drop it, then .astype("int64"))'
        )
        raise raw.column_error(column, problem)
    exact = (
        pa.types.is_integer(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )
    if not exact:
        problem = f"ids of type {kind} are not supported; convert the column to text first"
        raise raw.column_error(column, problem)
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise raw.column_error(column, f"the ids are not UTF-8 text ({error})") from error


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


def _first_not_int64(texts: Any) -> int:
    """Index of the first id that is no canonical int64 decimal; -1 if all are."""
    plain = pc.match_substring_regex(texts, _CANONICAL_INT)
    odd = int(pc.index(plain, False).as_py())
    head = texts if odd < 0 else texts.slice(0, odd)
    try:
        head.cast(pa.int64())
    except pa.ArrowInvalid:
        return first_failure(head, lambda values: values.cast(pa.int64()))
    return odd

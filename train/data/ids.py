"""Raw ids to codes 0, 1, 2, ... by first appearance, without changing a byte of a text id."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.errors import DataError
from attnrec.train.data.interactions import number_by_first_row
from attnrec.train.data.recipe import IdType
from attnrec.train.data.tables import RawTable, first_failure, shown

logger = logging.getLogger(__name__)

# What str(int(id)) gives back unchanged; the range is checked by the conversion.
_CANONICAL_INT = r"\A(?:0|-?[1-9][0-9]{0,18})\z"
# The same as a float is written, and its whole number.
_WHOLE_FLOAT, _WHOLE = r"\A(0|-?[1-9][0-9]{0,18})\.0+\z", r"\1"
# Up to here a float holds every whole number.
_EXACT = {"halffloat": 2**11, "float": 2**24, "double": 2**53}
_AS_TEXT = "give `id_type=string`"


@dataclass(frozen=True, eq=False)
class CodedIds:
    """One id column: the distinct ids and the code of each row."""

    codes: NDArray[np.int32]
    """Place in `ids` of each row's id (n_rows,)."""
    ids: IdArray
    """Distinct ids by first appearance (n_ids,), int64 or str."""


def code_ids(raw: RawTable, column: str, id_type: IdType, *, padding: bool) -> CodedIds:
    """Number the ids of `column`; int64 only if every id is a plain decimal of that range.

    Whole numbers that became floats on their way, such as 12.0, are the numbers they were; among
    texts only where every id is one and `id_type` is not "string". `padding`: refuse -1 among
    int64 ids, the padding value of the model file. The empty id, the padding value among texts,
    is always refused. Raises `DataError`.
    """
    codes, texts = _distinct_texts(raw, column)
    if id_type != "string":
        codes, texts = _without_fractions(raw, column, codes, texts)
    codes, texts = number_by_first_row(codes, texts)

    def refused(place: int, problem: str, remedy: str = "") -> DataError:
        return raw.error(column, int(np.argmax(codes == place)), problem, remedy)

    if (empty := pc.index(texts, "").as_py()) >= 0:
        raise refused(empty, "the id is empty; fill it in or drop the row")
    misfit = -1 if id_type == "string" else _first_not_int64(texts)
    if id_type == "string" or (id_type == "auto" and misfit >= 0):
        return CodedIds(codes, texts.to_numpy(zero_copy_only=False))
    if misfit >= 0:
        raise refused(
            misfit, f"{shown(texts[misfit].as_py())} is not a plain int64 number", _AS_TEXT
        )
    # A copy, because Arrow's own memory is read-only and torch warns about that.
    ids: NDArray[np.int64] = texts.cast(pa.int64()).to_numpy().copy()
    if padding and (ids == -1).any():
        problem = "the id -1 is the padding value of int64 ids"
        raise refused(int(np.argmax(ids == -1)), problem, _AS_TEXT)
    return CodedIds(codes, ids)


def id_texts(raw: RawTable, column: str) -> Any:
    """The ids of `column` as Arrow strings (n_rows,), null where missing. Raises `DataError`."""
    _check_type(raw, column)
    return _as_text(raw, column, raw.decoded(column).combine_chunks())


def whole_number_texts(texts: Any) -> Any:
    """Arrow strings (n,), those like "12.0" as "12"."""
    return pc.replace_substring_regex(texts, _WHOLE_FLOAT, _WHOLE)


def spelled_as(known: IdArray, ids: IdArray) -> IdArray:
    """Text ids (n,) with "12.0" as "12", or the reverse, where more of them are `known` so.

    As they are where two of them would become one.
    """
    texts, known_texts = pa.array(ids, pa.string()), pa.array(known, pa.string())
    spellings = [
        texts,
        whole_number_texts(texts),
        pc.replace_substring_regex(texts, _CANONICAL_INT, r"\0.0"),
    ]
    distinct = [one for one in spellings if pc.count_distinct(one) == pc.count_distinct(texts)]
    best = max(distinct, key=lambda one: pc.sum(pc.is_in(one, value_set=known_texts)).as_py() or 0)
    return np.asarray(best.to_numpy(zero_copy_only=False), np.object_)


def _without_fractions(
    raw: RawTable, column: str, codes: NDArray[np.int32], texts: Any
) -> tuple[NDArray[np.int32], Any]:
    """The code of each row (n,) and distinct ids, "12.0" and "12" one where all are numbers."""
    fractions = pc.match_substring_regex(texts, _WHOLE_FLOAT)
    if not pc.any(fractions).as_py():
        return codes, texts
    example = shown(texts[pc.index(fractions, True).as_py()].as_py())
    whole = whole_number_texts(texts)
    odd = _first_not_int64(whole)
    if odd >= 0:
        logger.warning(
            "%s, column %r: ids such as %s stay text as they are written, because %s is no whole "
            "number",
            raw.name, column, example, shown(texts[odd].as_py()),
        )  # fmt: skip
        return codes, texts
    logger.warning(
        "%s, column %r: ids such as %s are read as the whole numbers that they are",
        raw.name, column, example,
    )  # fmt: skip
    again = whole.dictionary_encode()
    return again.indices.to_numpy().astype(np.int32, copy=False)[codes], again.dictionary


def _distinct_texts(raw: RawTable, column: str) -> tuple[NDArray[np.int32], Any]:
    """Code of each row (n,) and the distinct ids as Arrow strings, in any order."""
    _check_type(raw, column)
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


def _check_type(raw: RawTable, column: str) -> None:
    """Refuse ids of a type that has no text, before Arrow converts them."""
    kind = raw.columns[column].type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    known = (
        pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null,
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
        pa.types.is_binary, pa.types.is_large_binary,
    )  # fmt: skip
    if not any(is_kind(kind) for is_kind in known):
        problem = f"ids of type {kind} are not supported; convert the column to text first"
        raise raw.column_error(column, problem)


def _as_text(raw: RawTable, column: str, values: Any) -> Any:
    kind = values.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = _whole_numbers(raw, column, values)
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise raw.column_error(column, f"the ids are not UTF-8 text ({error})") from error


def _whole_numbers(raw: RawTable, column: str, values: Any) -> Any:
    """Floats or decimals in a type without fractions; null where they are NaN."""
    kind, whole_kind = values.type, pa.decimal256(76, 0)
    if pa.types.is_floating(kind):
        whole_kind = pa.int64()
        values = values.cast(pa.float64())
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        far = pc.index(pc.greater(pc.abs(values), _EXACT[str(kind)]), True).as_py()
        if far >= 0:
            problem = (
                f"ids of type {kind} are exact up to {_EXACT[str(kind)]:,}, and there is "
                f"{values[far].as_py():.17g}; write the ids as int64 or text from the start"
            )
            raise raw.column_error(column, problem)
    try:
        whole = values.cast(whole_kind)
    except pa.ArrowInvalid as error:
        odd = values[first_failure(values, lambda part: part.cast(whole_kind))].as_py()
        problem = f"ids of type {kind} must be whole numbers, and there is {odd}"
        raise raw.column_error(column, f"{problem}; convert the column to text first") from error
    if pa.types.is_floating(kind):
        logger.warning("%s, column %r: ids of type %s are read as whole numbers",
            raw.name, column, kind)  # fmt: skip
    return whole


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

"""From the lists of a request to the arrays of the graph, with one clear error per mistake.

onnxruntime itself would turn None or 5 among strings into the unknown ids "None" and "5".
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.model_file.format import LONGEST

Ids = Sequence[int | str] | NDArray[Any]
IdArray = NDArray[Any]

_BYTES_OR_TEXT = (str, bytes, bytearray, memoryview)  # numbers and letters, but no ids
_TYPES = {
    "int64": frozenset({int, *(np.dtype(code).type for code in "bhilqBHILQ")}),
    "string": frozenset({str, np.str_}),
}


def id_row(name: str, ids: Ids, id_type: str, what: str = "item ids") -> IdArray:
    """One list of raw ids as an array (n,), int64 or object. `ValueError` names what is wrong."""
    plain = plain_list(ids)
    if plain is None:
        raise ValueError(f"{name} must be a list of {what}, not {_show(ids)}")
    if len(plain) > LONGEST:
        raise ValueError(
            f"{name} holds {len(plain)} ids, the limit is {LONGEST}; send the newest ones"
        )
    return checked_ids(name, plain, id_type, what)


def id_collection(name: str, ids: Any) -> tuple[Any, ...]:
    """A copy of ids whose order does not matter: of a list, a set or another iterable.

    `ValueError` for a text, and for what is no iterable.
    """
    plain = plain_list(ids)
    no_list = (*_BYTES_OR_TEXT, np.ndarray)  # an array of no dimensions
    if plain is None and isinstance(ids, Iterable) and not isinstance(ids, no_list):
        plain = [*ids]
    if plain is None:
        raise ValueError(f"{name} must be a list or a set of item ids, not {_show(ids)}")
    return tuple(plain)


def checked_ids(name: str, ids: Sequence[Any], id_type: str, what: str = "item ids") -> IdArray:
    """A plain list of any length as an array (n,). `ValueError` names what is no id."""
    array = as_ids(ids, id_type)
    if array is None:
        raise _refusal(name, ids, id_type, what)
    return array


def as_ids(ids: Sequence[Any], id_type: str) -> IdArray | None:
    """A plain list as an array (n,), int64 or object; None if it holds anything else."""
    # One pass in C over the types: 2 microseconds for 50 ids.
    if not _TYPES[id_type].issuperset(map(type, ids)):
        return None
    try:
        return np.array(ids, dtype=np.int64 if id_type == "int64" else object)
    except OverflowError:
        return None


def id_lists(
    name: str, lists: Any, n_rows: int | None = None, what: str = "lists of item ids"
) -> Sequence[Any]:
    """The lists of a batch. `ValueError` unless it is a list, with n_rows of that length."""
    plain = plain_list(lists)
    if plain is None:
        raise ValueError(f"{name} must be a list of {what}, not {_show(lists)}")
    if n_rows is not None and len(plain) != n_rows:
        raise ValueError(
            f"{name} has {len(plain)} {what.partition(' ')[0]} for {n_rows} histories; "
            "give one for each"
        )
    return plain


def plain_list(values: Any) -> Sequence[Any] | None:
    """A list unchanged, an array or a series as a list; None for anything else.

    A set has no order and a generator no length. Arrays are converted by value, because numpy
    wraps unsigned numbers around where it refuses the same numbers in a list. Times stay times:
    `tolist` would turn nanoseconds into plain numbers.
    """
    if type(values) is list:  # the common case, at every recommendation
        return values
    if hasattr(values, "__array__"):
        array = np.asarray(values)
        values = list(array) if array.dtype.kind in "mM" and array.ndim else array.tolist()
    is_list = isinstance(values, Sequence) and not isinstance(values, _BYTES_OR_TEXT)
    return values if is_list else None


def stack(rows: Sequence[IdArray], id_type: str, padding: int | str) -> IdArray:
    """Rows of different lengths as one array (B, longest), filled with the padding value."""
    dtype = np.int64 if id_type == "int64" else object
    stacked = np.full((len(rows), max(map(len, rows), default=0)), padding, dtype=dtype)
    for target, row in zip(stacked, rows, strict=True):
        target[: len(row)] = row
    return stacked


def check_options(k: int, exclude_seen: bool | None) -> None:
    """`ValueError` unless k is a whole number from 1 and exclude_seen True, False or None."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise ValueError(f"k must be a whole number, not {_show(k)}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if exclude_seen is not None and not isinstance(exclude_seen, (bool, np.bool_)):
        # The text "false" would count as true.
        raise ValueError(f"exclude_seen must be True, False or None, not {_show(exclude_seen)}")


def _refusal(name: str, ids: Sequence[Any], id_type: str, what: str) -> ValueError:
    """The error for ids that `as_ids` refuses."""
    allowed = _TYPES[id_type]
    for place, wrong in enumerate(ids):
        if type(wrong) not in allowed:
            wanted = "whole numbers (int64)" if id_type == "int64" else "strings"
            return ValueError(
                f"{name}[{place}] is {_show(wrong)}; {what} of this file are {wanted}; "
                f"{_remedy(wrong, id_type, what)}"
            )
    wrong = next(item_id for item_id in ids if not -(2**63) <= int(item_id) < 2**63)
    return ValueError(
        f"{name} holds {wrong}, which is no int64 and so none of the {what} of this file; "
        "leave it out"
    )


def _remedy(wrong: object, id_type: str, what: str) -> str:
    if isinstance(wrong, (list, tuple, set, np.ndarray)):
        return "for several histories use recommend_batch"
    # The missing values of tables. Not `wrong != wrong`: pandas' NA has no truth value.
    if wrong is None or str(wrong) in ("nan", "<NA>", "NaT"):
        return "leave missing ids out"
    if id_type == "string" and type(wrong) in _TYPES["int64"]:
        return f"write it as {str(wrong)!r}"
    if what == "times" and isinstance(wrong, np.datetime64):
        return "send Unix seconds, such as times.astype('datetime64[s]').astype('int64')"
    if what == "times" and isinstance(wrong, date):
        return "send Unix seconds, such as int(time.timestamp())"
    return "convert it first"


def _show(value: object) -> str:
    text = repr(value)
    return f"{text[:60]}... ({type(value).__name__})" if len(text) > 60 else text

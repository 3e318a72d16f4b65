"""From the lists of a caller to the arrays of the graph, with one clear error per mistake.

onnxruntime itself would turn None or 5 among strings into the unknown ids "None" and "5".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = Sequence[int | str] | NDArray[Any]
IdArray = NDArray[Any]

LONGEST = 100_000
"""Most ids in one list of a call."""

_INT_TYPES = frozenset({int, *(np.dtype(code).type for code in "bhilqBHILQ")})
_STR_TYPES = frozenset({str, np.str_})


def id_row(name: str, ids: Ids, id_type: str) -> IdArray:
    """One list of raw ids as an array (n,), int64 or object. `ValueError` says what is wrong."""
    # A list is the common case, and this is asked at every recommendation.
    if type(ids) is not list and (isinstance(ids, (str, bytes)) or not hasattr(ids, "__len__")):
        raise ValueError(f"{name} must be a list of item ids, not {_show(ids)}")
    if len(ids) > LONGEST:
        raise ValueError(
            f"{name} holds {len(ids)} ids, the limit is {LONGEST}; send the newest ones"
        )
    if isinstance(ids, np.ndarray) and ids.ndim != 1:
        raise ValueError(f"{name} must be one flat list, not an array of shape {ids.shape}")
    allowed = _INT_TYPES if id_type == "int64" else _STR_TYPES
    # One pass in C over the types: 4 microseconds for 50 ids.
    if not allowed.issuperset(map(type, ids)):
        _refuse(name, ids, allowed, id_type)
    try:
        return np.array(ids, dtype=np.int64 if id_type == "int64" else object)
    except OverflowError:
        wrong = next(item_id for item_id in ids if not -(2**63) <= int(item_id) < 2**63)
        raise ValueError(f"{name} holds {wrong}, which is no int64") from None


def stack(rows: Sequence[IdArray], id_type: str, padding: int | str) -> IdArray:
    """Rows of different lengths as one array (B, longest), filled with the padding value."""
    dtype = np.int64 if id_type == "int64" else object
    stacked = np.full((len(rows), max(map(len, rows), default=0)), padding, dtype=dtype)
    for target, row in zip(stacked, rows, strict=True):
        target[: len(row)] = row
    return stacked


def check_k(k: int) -> None:
    """`ValueError` unless k is a whole number from 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise ValueError(f"k must be a whole number, not {_show(k)}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")


def _refuse(name: str, ids: Any, allowed: frozenset[type], id_type: str) -> None:
    place, wrong = next((i, x) for i, x in enumerate(ids) if type(x) not in allowed)
    wanted = "whole numbers (int64)" if id_type == "int64" else "strings"
    hint = ""
    if isinstance(wrong, (list, tuple, set, np.ndarray)):
        hint = "; for several histories use recommend_batch"
    elif id_type == "string" and isinstance(wrong, (int, np.integer)):
        hint = f"; write it as {str(wrong)!r}"
    elif id_type == "int64" and isinstance(wrong, str):
        hint = "; send a number"
    raise ValueError(
        f"{name}[{place}] is {_show(wrong)}; item ids of this file are {wanted}{hint}"
    )


def _show(value: object) -> str:
    text = repr(value)
    return f"{text[:60]}... ({type(value).__name__})" if len(text) > 60 else text

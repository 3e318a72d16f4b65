"""The weights of the body in fewer bytes: codes that onnxruntime unfolds when it loads the file.

These are all weights but the item vectors: matrices of attention, position embeddings, the
neighbours of every item. The file gets smaller, and computes as fast as before.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.quantize.item_vectors import codes_of, scales_of
from attnrec.train.models.base import RecommenderModel

_LEAST_VALUES = 1024
"""Values of a tensor that is worth the two nodes which unfold it."""
_INDEXES = {np.dtype(np.int32), np.dtype(np.int64)}


def round_weights(
    model: RecommenderModel, parts: Sequence[ir.Model], least_rows: int = 0
) -> RecommenderModel:
    """A copy of `model` with its matrices rounded to 8 bits, one scale a row.

    parts: its exported parts, changed in place: they store the codes of the same matrices. A
    matrix that is not found in them, such as the item vectors, stays as it is, and so does one of
    less than `least_rows` rows.
    """
    rounded = copy.deepcopy(model)
    tensors = rounded.state_dict().items()
    weights = {name: tensor.numpy() for name, tensor in tensors if tensor.ndim >= 2}
    for part in parts:
        for value, array in _stored(part):
            own = {name: order for name, w in weights.items() if (order := _order(w, array))}
            if not own or array.dtype != np.float32 or array.shape[-2] < least_rows:
                continue
            codes, scales = _rounded(array)
            _unfold(part, value, codes, scales)
            for name, order in own.items():
                weights[name] = (codes.astype(np.float32) * scales)[::order]
    with torch.no_grad():
        for name, tensor in rounded.state_dict().items():
            if name in weights:
                tensor.copy_(torch.from_numpy(weights[name].copy()))
    return rounded


def pack_indexes(part: ir.Model) -> None:
    """Store whole numbers from 0, such as rows of neighbours, in as few bytes as they need."""
    for value, array in _stored(part):
        if array.dtype not in _INDEXES or array.min() < 0:
            continue
        narrow = np.min_scalar_type(int(array.max()))
        if narrow.itemsize < array.dtype.itemsize:
            _unfold(part, value, array.astype(narrow))


def _stored(part: ir.Model) -> list[tuple[ir.Value, NDArray[Any]]]:
    """The large tensors of a part."""
    found = []
    for value in part.graph.initializers.values():
        assert value.const_value is not None
        if value.const_value.size >= _LEAST_VALUES:
            found.append((value, np.ascontiguousarray(value.const_value.numpy())))
    return found


def _order(weight: NDArray[Any], stored: NDArray[Any]) -> int | None:
    """1: equal; -1: equal where the last row comes first, as positions are stored; None: no."""
    return next((order for order in (1, -1) if np.array_equal(weight[::order], stored)), None)


def _rounded(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Codes (..., R, C) and the scales of the rows (..., R, 1)."""
    scales = scales_of(weights.reshape(-1, 1, weights.shape[-1]), *codes_of(8))
    scales = scales.reshape(*weights.shape[:-1], 1)
    if weights.ndim > 2:  # short rows, of counts: half the bytes of a scale
        scales = np.nextafter(scales.astype(np.float16), np.float16(np.inf))
    return np.rint(weights / scales).astype(np.int8), scales


def _unfold(
    part: ir.Model,
    value: ir.Value,
    codes: NDArray[Any],
    scales: NDArray[np.floating] | None = None,
) -> None:
    """Replace a stored tensor by its codes and the nodes that make it of them."""
    name = str(value.name)
    g = GraphBuilder(prefix=f"{name}.")
    unfolded = g.Cast(g.initializer(f"{name}.codes", codes), to=value.dtype)
    if scales is not None:
        stored = g.initializer(f"{name}.scales", scales)
        unfolded = g.Mul(unfolded, g.Cast(stored, to=value.dtype))
    unfolded.shape, unfolded.type = value.shape, value.type
    value.replace_all_uses_with(unfolded)
    graph = part.graph
    del graph.initializers[name]
    graph.initializers.update(g.initializers)
    graph.insert_before(graph[0], g.nodes)

"""Tensors of the Open Inference Protocol: from JSON or raw bytes to arrays, and back.

The protocol has text as BYTES. As raw bytes (the extension binary_tensor_data) each text follows
its length in 4 bytes, and numbers stand as they are in memory; all of it is little-endian.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.model_file.format import LONGEST
from attnrec.runtime.rules import MOST_TAGS
from attnrec.runtime.serving.errors import Refused
from attnrec.runtime.serving.schemas import MOST_ROWS, Int64

BYTES, INT64, FP32 = "BYTES", "INT64", "FP32"
_KINDS = {"int64": INT64, "string": BYTES}
_DTYPES: dict[str, Any] = {INT64: np.int64, BYTES: object, FP32: np.float32}
_WIDTHS = {INT64: ("<i8", 8), FP32: ("<f4", 4)}  # of a number among bytes
_KNOWN: dict[str, tuple[type, ...]] = {
    INT64: (int,), BYTES: (str,), FP32: (int, float, type(None)),
}  # fmt: skip
_Value = Int64 | float | str | None  # null stands for no number
_Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Parameters(Struct, frozen=True):
    """Parameters of a tensor or of a request; others are ignored."""

    binary_data_size: _Size | UnsetType = UNSET
    binary_data: bool | UnsetType = UNSET
    binary_data_output: bool = False
    shared_memory_region: Any = UNSET
    classification: Any = UNSET


class InputTensor(Struct, kw_only=True):
    """An input; its values in `data`, flat or one list a row, or as bytes behind the JSON."""

    name: str
    datatype: str
    shape: Annotated[list[_Size], Meta(max_length=2)]
    parameters: Parameters = Parameters()
    data: list[_Value | list[_Value]] | UnsetType = UNSET


class OutputTensor(Struct, kw_only=True):
    """An output; `data` row by row, or bytes behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | UnsetType = UNSET
    data: list[int | float | str] | UnsetType = UNSET


class TensorSpec(Struct, frozen=True):
    """An input or an output of the graph, as the metadata of a model lists it; -1: any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def array(self, values: Any, shape: Sequence[int]) -> NDArray[Any]:
        """Values, or one for all, as an input of the graph."""
        array = np.empty(shape, dtype=_DTYPES[self.datatype])
        array.ravel()[:] = values
        return array

    def nothing(self, n_rows: int) -> NDArray[Any]:
        """The input where the caller leaves it out."""
        padding: Any = {INT64: names.PADDING["int64"], BYTES: "", FP32: math.nan}[self.datatype]
        shape = [n_rows, max(0, self.shape[-1])]
        return self.array(padding, shape[: len(self.shape)])


def wrong(detail: str) -> Refused:
    """A refusal of a body: the protocol has one status for every fault in it."""
    return Refused(400, detail)


def inputs_of(info: ModelInfo) -> dict[str, TensorSpec]:
    """The inputs of the file."""
    ids = _KINDS[info.id_type]
    ports = [TensorSpec(name, ids, (-1, -1)) for name in names.REQUIRED_INPUTS[:3]]
    ports.append(TensorSpec(names.K, INT64, (1,)))
    if names.USER in info.inputs:
        ports.append(TensorSpec(names.USER, _KINDS[info.user_id_type or "string"], (-1,)))
    if names.USER_TAGS in info.inputs:
        ports.append(TensorSpec(names.USER_TAGS, BYTES, (-1, -1)))
    if names.TIMESTAMPS in info.inputs:
        ports.append(TensorSpec(names.TIMESTAMPS, INT64, (-1, -1)))
        ports.append(TensorSpec(names.REQUEST_TIME, INT64, (-1,)))
    kinds = dict.fromkeys(names.TAG_INPUTS, BYTES) | dict.fromkeys(names.RULE_INPUTS[4:], FP32)
    widths = dict.fromkeys(names.BOUNDS, len(info.rules.get("numbers", ())))
    for name in names.RULE_INPUTS:
        if name in info.inputs:
            ports.append(TensorSpec(name, kinds[name], (-1, widths.get(name, -1))))
    return {port.name: port for port in ports}


def outputs_of(info: ModelInfo) -> dict[str, TensorSpec]:
    """The outputs of the file, in the order of the graph."""
    ports = [
        TensorSpec(names.ITEMS, _KINDS[info.id_type], (-1, -1)),
        TensorSpec(names.SCORES, FP32, (-1, -1)),
        TensorSpec(names.N_KNOWN, INT64, (-1,)),
    ]
    if info.has_titles:
        ports.append(TensorSpec(names.TITLES, BYTES, (-1, -1)))
    if info.rules:
        ports.append(TensorSpec(names.N_ALLOWED, INT64, (-1,)))
    return {port.name: port for port in ports}


def read(
    tensor: InputTensor, port: TensorSpec, binary: memoryview
) -> tuple[NDArray[Any], memoryview]:
    """An input as the array of the graph, and the bytes that are left for the next ones.

    `Refused` unless datatype, shape and values are what the graph takes.
    """
    _check_shape(tensor, port)
    size = tensor.parameters.binary_data_size
    if (tensor.data is UNSET) is (size is UNSET):
        raise wrong(f"{port.name} must have data or binary_data_size, and not both")
    values: Any
    if size is UNSET:
        values = _flat(tensor, port)
    elif size > len(binary):
        raise wrong(
            f"{port.name} should have {size} bytes behind the JSON; {len(binary)} are left"
        )
    elif port.datatype == BYTES:
        values = _texts(binary[:size], port)
    else:
        kind, width = _WIDTHS[port.datatype]
        if size % width:
            raise wrong(f"{port.name} has {size} bytes, but {width} are a value")
        values = np.frombuffer(binary[:size], dtype=kind)
    if len(values) != math.prod(tensor.shape):
        raise wrong(f"{port.name} has {len(values)} values for the shape {tensor.shape}")
    return port.array(values, tensor.shape), binary[size or 0 :]


def write(port: TensorSpec, array: NDArray[Any], *, binary: bool) -> tuple[OutputTensor, bytes]:
    """An output of the graph with the bytes that follow the JSON, none unless `binary`."""
    result = OutputTensor(name=port.name, datatype=port.datatype, shape=list(array.shape))
    if not binary:
        if port.datatype == FP32:  # JSON has no infinity
            array = np.maximum(array, np.finfo(np.float32).min)
        result.data = array.ravel().tolist()
        return result, b""
    if port.datatype == BYTES:
        texts = [text.encode() for text in array.ravel().tolist()]
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    else:
        raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
    result.parameters = {"binary_data_size": len(raw)}
    return result, raw


def _check_shape(tensor: InputTensor, port: TensorSpec) -> None:
    shape = tensor.shape
    given = f"{port.name} has the datatype {tensor.datatype:.20} and the shape {shape}"
    fits = len(shape) == len(port.shape) and all(
        own in (-1, given) for own, given in zip(port.shape, shape, strict=True)
    )
    if tensor.datatype != port.datatype or not fits:
        raise wrong(f"{given}; this input is {port.datatype} {list(port.shape)}")
    widest = MOST_TAGS if port.name in (names.USER_TAGS, *names.RULE_INPUTS) else LONGEST
    if not 1 <= shape[0] <= MOST_ROWS or shape[-1] > widest:
        raise wrong(f"{given}; the limits are 1 to {MOST_ROWS} rows of {widest} values")


def _flat(tensor: InputTensor, port: TensorSpec) -> list[Any]:
    """The values of JSON, row by row."""
    values: list[Any] = tensor.data or []
    if values and isinstance(values[0], list):
        widths = {len(row) if isinstance(row, list) else -1 for row in values}
        if len(values) != tensor.shape[0] or widths != {tensor.shape[-1]}:
            raise wrong(f"{port.name} has lists in data that are not the rows of {tensor.shape}")
        values = list(chain.from_iterable(values))
    known = _KNOWN[port.datatype]
    if not {*known}.issuperset(map(type, values)):
        place, value = next((i, x) for i, x in enumerate(values) if type(x) not in known)
        raise wrong(f"{port.name}: value {place} is {value!r:.60}, which is not {port.datatype}")
    return [math.nan if value is None else value for value in values]


def _texts(raw: memoryview, port: TensorSpec) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(raw):
        start = at + 4
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw):
            raise wrong(f"{port.name}: text {len(texts)} goes beyond the end of its bytes")
        try:
            texts.append(str(raw[start:at], "utf-8"))
        except UnicodeDecodeError as error:
            raise wrong(f"{port.name}: text {len(texts)} is not UTF-8") from error
    return texts

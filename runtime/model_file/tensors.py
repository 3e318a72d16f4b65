"""The tensors that a file stores by name: ids, titles and item vectors, read without onnxruntime.

The graph holds which items there are and where their vectors lie. The runtime needs that too: for
similar items, for a search by title, and to take items out of answers.
"""

import math
from collections.abc import Sequence
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.arguments import checked_ids
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file import onnx_messages as onnx
from attnrec.runtime.model_file.protobuf import Buffer, Reader, fields_of, numbers_of, text

_DTYPES = {
    1: "<f4",
    2: "u1",
    3: "i1",
    4: "<u2",
    6: "<i4",
    7: "<i8",
}  # TensorProto.DataType of what attnrec stores
_INT4 = 22
_TEXTS = 6  # number of the field string_data
_NAME, _INTS, _STRINGS = 1, 8, 9  # of an attribute


class StoredTensors:
    """The stored tensors of a model file, by name; each is read on use."""

    def __init__(self, content: Buffer) -> None:
        """content: a file that has been checked. Arrays are views of it, writable as it is."""
        self._reader = Reader()
        model = self._reader.read(memoryview(content), onnx.MODEL)
        graph = self._reader.read(model["graph"], onnx.GRAPH)
        self._tensors = dict(self._named(value) for value in graph["initializer"])
        self._nodes: list[memoryview] = graph["node"]

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def numbers(self, name: str) -> NDArray[Any]:
        """A tensor of numbers, in its shape. `ModelFileError` if the file has none."""
        fields = self._fields(name)
        if fields["data_type"] == _INT4:
            return _of_pairs(fields["raw_data"], fields["dims"])
        if fields["data_type"] not in _DTYPES:
            raise ModelFileError(
                f"the tensor {name!r} has element type {fields['data_type']}; export again"
            )
        array = np.frombuffer(fields["raw_data"], _DTYPES[fields["data_type"]])
        return array.reshape(fields["dims"])

    def texts(self, name: str) -> list[str]:
        """A tensor of texts, in one row. `ModelFileError` if the file has none."""
        self._fields(name)
        return [text(value) for value in fields_of(self._tensors[name], _TEXTS)]

    def item_ids(self) -> list[int] | list[str]:
        """Ids of the catalogue in the order of the rows; row 0 is no item and not in it."""
        if self._fields("item_ids")["data_type"] == onnx.STRING:
            return self.texts("item_ids")[1:]
        ids: list[int] = self.numbers("item_ids")[1:].tolist()
        return ids

    def items(self) -> dict[int | str, str | None]:
        """Every id of the catalogue with its title, None where there are no titles."""
        ids: list[Any] = [*self.item_ids()]
        titles = self.texts("item_titles")[1:] if "item_titles" in self else [None] * len(ids)
        return dict(zip(ids, titles, strict=True))

    def user_ids(self) -> list[int] | list[str]:
        """Ids of the users that the graph looks up; none where it knows no users."""
        for content in self._nodes:
            node = self._reader.read(content, onnx.NODE)
            if node["op_type"] == b"LabelEncoder" and node["input"] == [names.USER.encode()]:
                keys = {bytes(next(fields_of(one, _NAME))): one for one in node["attribute"]}
                if b"keys_strings" in keys:
                    return [text(value) for value in fields_of(keys[b"keys_strings"], _STRINGS)]
                return list(numbers_of(keys[b"keys_int64s"], _INTS))
        return []

    def _fields(self, name: str) -> dict[str, Any]:
        if name not in self._tensors:
            raise ModelFileError(f"the file stores no tensor {name!r}; export it again")
        return self._reader.read(self._tensors[name], onnx.TENSOR)

    def _named(self, value: memoryview) -> tuple[str, memoryview]:
        return text(self._reader.read(value, onnx.TENSOR)["name"]), value


def _of_pairs(raw: memoryview, dims: list[int]) -> NDArray[np.int8]:
    """Codes of 4 bits with a sign, two in a byte, low first."""
    pairs = np.frombuffer(raw, np.int8)
    codes = np.empty(2 * len(pairs), np.int8)
    codes[::2], codes[1::2] = pairs << 4 >> 4, pairs >> 4
    return codes[: math.prod(dims)].reshape(dims)


def without_items(
    content: bytes | mmap, item_ids: Sequence[int | str]
) -> tuple[bytes | mmap, tuple[int | str, ...]]:
    """A file, in memory, that never returns these items, and which of them it knows.

    `ValueError` for an id of the wrong type. Every graph adds the tensor `no_item` to its
    scores, -inf at row 0 and 0 at every item. A mapped file is changed where it lies in memory.
    """
    changed = bytearray(content) if isinstance(content, bytes) else content
    tensors = StoredTensors(changed)
    ids = tensors.item_ids()
    id_type = "int64" if isinstance(ids[0], int) else "string"
    unwanted = set(checked_ids("unavailable", item_ids, id_type).tolist())
    rows = [row for row, item_id in enumerate(ids, start=1) if item_id in unwanted]
    tensors.numbers("no_item")[rows] = -np.inf
    known = tuple(ids[row - 1] for row in rows)
    return bytes(changed) if isinstance(content, bytes) else content, known

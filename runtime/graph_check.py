"""What a graph may be made of, checked on its bytes before onnxruntime sees them.

A seal proves that a file is unchanged, not that it is harmless: anyone can seal. These rules
keep a crafted file from reading other files, from looping, from growing while it is loaded, from
reaching operators that attnrec does not use, and from being of another size than it says.

They do not prove that a graph is cheap or right. Tensors may still grow with the inputs, or by
the work of many nodes (a tensor joined with itself again and again); weights may be anything.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from attnrec.runtime import format as names
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_info import ModelInfo
from attnrec.runtime.protobuf import (
    BYTES, FLOAT, FLOATS, LIST, N_BYTES, N_NUMBERS, NUMBER, NUMBERS, Message, Reader,
)  # fmt: skip

MOST_NODES = 5_000  # a model of 2 blocks has 130
_LOWEST_OPSET = 23  # of format 1; in old ones attributes may say how large a tensor becomes
_OPERATORS = {
    "ai.onnx.ml": ("LabelEncoder",),
    "com.microsoft": ("GatherBlockQuantized", "MatMulNBits"),
}
"""Domains beside ONNX's own, and the operators of theirs that attnrec uses."""

# The messages of onnx.proto, with the fields that attnrec writes.
_MODEL = Message(
    "the model",
    {1: NUMBER, 2: BYTES, 3: BYTES, 4: BYTES, 5: NUMBER, 6: BYTES, 7: BYTES, 8: LIST, 14: LIST},
    {20: "training information", 25: "local functions"},
)
_OPSET = Message("an opset import", {1: BYTES, 2: NUMBER})
_GRAPH = Message(
    "the graph",
    {1: LIST, 2: BYTES, 5: LIST, 10: BYTES, 11: LIST, 12: LIST, 13: LIST, 16: LIST},
    {15: "sparse initializers"},
)
_NODE = Message(
    "a node", {1: LIST, 2: LIST, 3: BYTES, 4: BYTES, 5: LIST, 6: BYTES, 7: BYTES, 9: LIST}
)
_ONE_VALUE = {1: BYTES, 2: FLOAT, 3: NUMBER, 4: BYTES, 5: BYTES, 6: BYTES, 13: BYTES, 20: NUMBER}
_ATTRIBUTE = Message("an attribute", {**_ONE_VALUE, 7: FLOATS, 8: NUMBERS, 9: LIST})
_DICTIONARY = Message("an attribute", {**_ONE_VALUE, 8: N_NUMBERS, 9: N_BYTES})
_TENSOR = Message(
    "a tensor",
    {1: NUMBERS, 2: NUMBER, 6: N_BYTES, 8: BYTES, 9: BYTES, 12: BYTES, 16: LIST},
    {13: "external data", 14: "external data"}
    | dict.fromkeys((4, 5, 7, 10, 11), "numbers that are not raw bytes"),
)
_VALUE = Message("an input or output", {1: BYTES, 2: BYTES, 3: BYTES, 4: LIST})
_TYPE = Message("the type of an input or output", {1: BYTES, 6: BYTES})
_TENSOR_TYPE = Message("the type of an input or output", {1: NUMBER, 2: BYTES})
_SHAPE = Message("the shape of an input or output", {1: LIST})

_FLOAT, _INT64, _STRING = 1, 7, 8
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16,
    21: 4, 22: 4,
}  # fmt: skip
"""Bits of one number, by TensorProto.DataType."""
_DTYPES = {1: "<f4", 6: "<i4", 7: "<i8", 11: "<f8"}

_SIZE_INPUTS = {
    "ConstantOfShape": (0,), "Expand": (1,), "Tile": (1,), "Range": (0, 1, 2), "Pad": (1,),
    "Resize": (2, 3), "OneHot": (1,), "CenterCropPad": (1,), "AffineGrid": (1,), "Col2Im": (1, 2),
    "MaxUnpool": (2,), "DFT": (1,), "BlackmanWindow": (0,), "HannWindow": (0,),
    "HammingWindow": (0,), "MelWeightMatrix": (0, 1),
}  # fmt: skip
"""Operators that make tensors of any size, and which of their inputs say how large."""
_AT_MOST_1 = set(
    "And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Sign".split()
)
_NOT_LARGER = set(
    "Cast Gather Identity ReduceMax ReduceMin Reshape Slice Split Squeeze Unsqueeze".split()
)
_MULTIPLIED = dict.fromkeys("Clip Concat Div Max Min Mul Where".split(), 0) | {
    "Add": 1, "Sub": 1, "ReduceSum": 6,
}  # fmt: skip
"""Operators whose results are below the product of their inputs, times a power of 2."""
_SMALL = 64  # more numbers than that are data, not sizes

Fields = dict[int, list[Any]]


class _Tensor(NamedTuple):
    name: str
    kind: int  # TensorProto.DataType
    dims: list[int]
    power: float  # of its numbers; see _power


def check_graph(content: bytes, info: ModelInfo) -> None:
    """Refuse a graph that attnrec does not write, or not for a file like `info`.

    `ModelFileError` says what is wrong. The time goes with the number of nodes and ids; weights
    are not read.
    """
    reader = Reader()
    model = reader.read(memoryview(content), _MODEL)
    opsets = [reader.read(value, _OPSET) for value in model.get(8, ())]
    versions = {_text(opset, 1): opset.get(2, [0])[0] for opset in opsets}
    if len(versions) < len(opsets) or not versions.keys() <= {"", *_OPERATORS}:
        domains = [_text(opset, 1) for opset in opsets]
        raise _refusal(f"the operator domains {domains}; known: {['', *_OPERATORS]}, each once")
    if versions.get("", 0) < _LOWEST_OPSET:
        raise _refusal(f"opset {versions.get('')}, below {_LOWEST_OPSET}")
    if type(info.n_items) is not int or info.n_items < 1 or 7 not in model:
        raise _refusal(f"{info.n_items!r} items")
    graph = reader.read(model[7][0], _GRAPH)
    _check_signature(reader, graph, info)
    _Graph(reader, graph, info)


def _check_signature(reader: Reader, graph: Fields, info: ModelInfo) -> None:
    """Inputs and outputs: names, element types and numbers of axes."""
    ids = _INT64 if info.id_type == "int64" else _STRING
    known = {name: (ids, 2) for name in names.REQUIRED_INPUTS} | {names.K: (_INT64, 1)}
    inputs = [_signature(reader, value) for value in graph.get(11, ())]
    # What else a model declares, the `Recommender` knows or refuses.
    fitting = [given for given in inputs if known.get(given[0], given[1:]) == given[1:]]
    declared = tuple(given[0] for given in fitting)
    if declared != info.inputs or fitting != inputs or not known.keys() <= set(declared):
        raise _refusal(f"the inputs {inputs}, not {known} and what the facts name")
    outputs = [_signature(reader, value) for value in graph.get(12, ())]
    expected = [(names.ITEMS, ids, 2), (names.SCORES, _FLOAT, 2), (names.N_KNOWN, _INT64, 1)]
    expected += [(names.TITLES, _STRING, 2)] if info.has_titles else []
    if outputs != expected:
        raise _refusal(f"the outputs {outputs}, not {expected}")


def _signature(reader: Reader, value: memoryview) -> tuple[str, int, int]:
    fields = reader.read(value, _VALUE)
    tensor = reader.read(_first(reader.read(_first(fields, 2), _TYPE), 1), _TENSOR_TYPE)
    shape = reader.read(_first(tensor, 2), _SHAPE)
    return _text(fields, 1), tensor.get(1, [0])[0], len(shape.get(1, ()))


class _Graph:
    """The walk over the nodes, in the order in which they stand."""

    def __init__(self, reader: Reader, graph: Fields, info: ModelInfo) -> None:
        self.reader = reader
        self.power = dict.fromkeys(info.inputs, 0.0)  # of every value that there is so far
        self.stored: dict[str, _Tensor] = {}
        self.n_nodes = 0
        self.dictionaries: list[tuple[int, int]] = []  # keys and values of LabelEncoders
        self.add_initializers(graph)
        self.check_tables(info)
        largest = max(math.prod(tensor.dims) for tensor in self.stored.values())
        self.limit = math.log2(16 * max(largest, 2**16))
        self.walk(graph, inside="")
        if (info.n_items, info.n_items) not in self.dictionaries:
            raise _refusal(f"{self.dictionaries} ids and rows for {info.n_items} items")

    def check_tables(self, info: ModelInfo) -> None:
        """What stands by item has a row for each item, and row 0."""
        kinds = {"item_ids": _INT64 if info.id_type == "int64" else _STRING}
        kinds |= {"item_titles": _STRING} if info.has_titles else {}
        for name, kind in kinds.items():
            if name not in self.stored or self.stored[name].kind != kind:
                raise _refusal(f"no tensor {name!r} of element type {kind}")
        for name, tensor in self.stored.items():
            by_item = name.startswith("item_") or name == "no_item"
            if by_item and tensor.dims[:1] != [info.n_items + 1]:
                raise _refusal(f"{name!r} of shape {tensor.dims} for {info.n_items} items")

    def walk(self, graph: Fields, inside: str) -> None:
        """Check nodes and what is in them. inside: the branch of an `If` that they are."""
        nodes = graph.get(1, [])
        self.n_nodes += len(nodes)
        if self.n_nodes > MOST_NODES:
            raise _refusal(f"{self.n_nodes} nodes, above the limit of {MOST_NODES}")
        for content in nodes:
            node = self.reader.read(content, _NODE)
            domain, op_type = _text(node, 7), _text(node, 4)
            if domain and op_type not in _OPERATORS.get(domain, ()):
                raise _refusal(f"the operator {domain}.{op_type}; known: {_OPERATORS}")
            inputs = [_decoded(name) for name in node.get(1, ())]
            for name in inputs:
                if name and name not in self.power:
                    raise _refusal(f"{op_type} before {name!r}, which it reads")
            kind = _DICTIONARY if op_type == "LabelEncoder" else _ATTRIBUTE
            attributes = [self.reader.read(value, kind) for value in node.get(5, ())]
            if kind is _DICTIONARY:
                self.add_dictionary(attributes)
            else:
                self.check_sizes(op_type, inputs, attributes)
            power = self.power_of(op_type, inputs, attributes)
            for attribute in attributes:
                for branch in attribute.get(6, ()):
                    self.enter(op_type, _text(attribute, 1), branch, inside)
            for name in node.get(2, ()):
                self.add(_decoded(name), power)

    def enter(self, op_type: str, name: str, branch: memoryview, inside: str) -> None:
        """A branch runs at most once, and nothing inside it branches again."""
        if op_type != "If" or name not in ("then_branch", "else_branch") or inside:
            place = f"{op_type} inside {inside}" if inside else op_type
            raise _refusal(f"{place} with the sub-graph {name!r}; allowed: a top-level If")
        graph = self.reader.read(branch, _GRAPH)
        self.add_initializers(graph)
        self.walk(graph, inside=name)

    def check_sizes(self, op_type: str, inputs: list[str], attributes: list[Fields]) -> None:
        """No constants ask for a tensor far above what the file itself holds."""
        asked = [inputs[i] for i in _SIZE_INPUTS.get(op_type, ()) if i < len(inputs)]
        powers = [sum(self.power.get(name, 0) for name in asked)]
        powers += [
            _power([*one.get(3, ()), *one.get(8, ())]) for one in attributes
        ]  # such as pads
        if not all(power <= self.limit for power in powers):
            raise _refusal(
                f"{op_type} for a tensor of up to 2^{max(powers):.0f} numbers, above the limit "
                f"of 2^{self.limit:.0f}, 16 times the largest stored tensor"
            )

    def power_of(self, op_type: str, inputs: list[str], attributes: list[Fields]) -> float:
        """log2 of the largest size that the outputs of a node could stand for.

        Numbers that say how large a tensor becomes are followed from the constants on, through
        the few operators that compute such numbers. The shape of what was computed counts as 1,
        for that exists already; anything else has no limit.
        """
        tensors = [self.tensor(value) for one in attributes for value in one.get(5, ())]
        powers = [self.power[name] for name in inputs if name]
        if op_type == "Constant" and tensors:
            return tensors[0].power
        dims = [math.prod(self.stored[name].dims) if name in self.stored else 1 for name in inputs]
        if op_type in ("Shape", "Size"):
            return math.log2(max(1, *dims, 1))
        if op_type in _AT_MOST_1:
            return 0.0
        if op_type in _NOT_LARGER and powers:
            return powers[0] * (max(dims[1:], default=1) if op_type == "Gather" else 1)
        return sum(powers) + _MULTIPLIED.get(op_type, math.inf)

    def add(self, name: str, power: float) -> None:
        """A value that nodes may read from here on; each name once."""
        if name in self.power:
            raise _refusal(f"two values {name!r}")
        if name:
            self.power[name] = power

    def add_initializers(self, graph: Fields) -> None:
        """Stored tensors."""
        for value in graph.get(5, ()):
            tensor = self.tensor(value)
            self.add(tensor.name, tensor.power)
            self.stored[tensor.name] = tensor

    def add_dictionary(self, attributes: list[Fields]) -> None:
        """Count the keys and values of a LabelEncoder."""
        counts = {"keys": 0, "values": 0}
        for attribute in attributes:
            n_tensor = [math.prod(self.tensor(value).dims) for value in attribute.get(5, ())]
            count = sum([*attribute.get(8, ()), *attribute.get(9, ()), *n_tensor])
            part = _text(attribute, 1).partition("_")[0]
            counts[part] = counts.get(part, 0) + count
        self.dictionaries.append((counts["keys"], counts["values"]))

    def tensor(self, value: memoryview) -> _Tensor:
        """A tensor whose shape is that of its bytes."""
        fields = self.reader.read(value, _TENSOR)
        name, kind, dims = _text(fields, 8), fields.get(2, [0])[0], fields.get(1, [])
        wrong = len(dims) > 8 or any(not 0 <= dim < 2**31 for dim in dims)
        if wrong or kind not in (*_BITS, _STRING):
            raise _refusal(f"the tensor {name!r} of shape {dims}, element type {kind}")
        raw, n_texts, elements = _first(fields, 9), sum(fields.get(6, ())), math.prod(dims)
        n_bytes = (elements * _BITS.get(kind, 0) + 7) // 8
        if (len(raw), n_texts) != (n_bytes, elements if kind == _STRING else 0):
            raise _refusal(
                f"the tensor {name!r} of shape {dims} with {len(raw)} bytes and {n_texts} texts"
            )
        known = kind in _DTYPES and elements <= _SMALL
        power = _power(np.frombuffer(raw, _DTYPES[kind]).tolist()) if known else math.inf
        return _Tensor(name, kind, dims, power)


def _power(numbers: list[float]) -> float:
    """log2 of the product of the numbers; small fractions count like large numbers."""
    return sum(abs(math.log2(abs(number))) for number in numbers if number)


def _first(fields: Fields, number: int) -> memoryview:
    value: memoryview = fields.get(number, [memoryview(b"")])[0]
    return value


def _text(fields: Fields, number: int) -> str:
    return _decoded(_first(fields, number))


def _decoded(text: memoryview) -> str:
    return str(text, "utf-8", "backslashreplace")


def _refusal(what: str) -> ModelFileError:
    return ModelFileError(
        f"the graph has {what[:500]}: attnrec never writes that; export it again"
    )

"""Checks of a graph on its bytes, before onnxruntime sees them.

A seal proves that a file is unchanged, not that it is harmless: anyone can seal. These rules
keep a crafted file from reading other files, from looping, from growing while it is loaded, from
reaching operators that attnrec does not use, and from being of another size than it says.

They do not prove that a graph is cheap or right. Tensors may still grow with the inputs, or by
the work of many nodes (a tensor joined with itself again and again); weights may be anything.
"""

import math
from typing import NamedTuple

import numpy as np

from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file import onnx_messages as onnx
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.model_file.protobuf import Buffer, Fields, Reader, short_text

MOST_NODES = 5_000  # a model of 2 blocks has 130
_LOWEST_OPSET = 23  # of format 1; in old ones attributes may say how large a tensor becomes
_OPERATORS = {
    "ai.onnx.ml": ("LabelEncoder",),
    "com.microsoft": ("GatherBlockQuantized", "MatMulNBits"),
}
"""Domains beside ONNX's own, and the operators of theirs that attnrec uses."""

_SIZE_INPUTS = {
    "ConstantOfShape": (0,), "Expand": (1,), "Tile": (1,), "Range": (0, 1, 2), "Pad": (1,),
    "Resize": (2, 3), "OneHot": (1,), "CenterCropPad": (1,), "AffineGrid": (1,), "Col2Im": (1, 2),
    "MaxUnpool": (2,), "DFT": (1,), "BlackmanWindow": (0,), "HannWindow": (0,),
    "HammingWindow": (0,), "MelWeightMatrix": (0, 1),
}  # fmt: skip
"""Operators that make tensors of any size, and which of their inputs say how large."""
_AT_MOST_1 = {
    "And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not",
    "Or", "Sign",
}  # fmt: skip
_NOT_LARGER = {
    "Cast", "Identity", "ReduceMax", "ReduceMin", "Reshape", "Slice", "Split",
    "Squeeze", "Unsqueeze",
}  # fmt: skip
_MULTIPLIED = {
    "Add", "Clip", "Concat", "Div", "Gather", "Max", "Min", "Mul", "ReduceSum", "Sub", "Where",
}  # fmt: skip
"""Operators that compute sizes, as if each multiplied its inputs and 2."""
_SMALL = 64  # more numbers than that are data, not sizes
_LISTED = 2**16  # whole numbers, such as how many items each tag has: a Range may count to a sum
_SAME_TOTAL = {"Cast", "ReduceMax", "ReduceSum", "Reshape", "Slice", "Split", "Concat"}


class _Tensor(NamedTuple):
    name: str
    kind: int  # TensorProto.DataType
    dims: list[int]
    power: float  # of its numbers; see _power
    total: float  # log2 of the sum of few whole numbers


def check_graph(content: Buffer, info: ModelInfo) -> None:
    """Refuse a graph that attnrec does not write, or not for a file like `info`.

    `ModelFileError` names the fault. The time grows with the number of nodes and ids; weights
    are not read.
    """
    reader = Reader()
    model = reader.read(memoryview(content), onnx.MODEL)
    opsets = [reader.read(value, onnx.OPSET) for value in model["opset_import"]]
    versions = {short_text(opset["domain"]): opset["version"] for opset in opsets}
    foreign = versions.keys() - {"", *_OPERATORS}
    if foreign or len(versions) < len(opsets) or versions.get("", 0) < _LOWEST_OPSET:
        raise _refusal(
            f"{len(opsets)} imports of operators, {versions}; known: '' from {_LOWEST_OPSET}, "
            f"{', '.join(_OPERATORS)}, each once"
        )
    graph = reader.read(model["graph"], onnx.GRAPH)
    _check_signature(reader, graph, info)
    _Graph(reader).check(graph, info)


def _check_signature(reader: Reader, graph: Fields, info: ModelInfo) -> None:
    """Inputs and outputs: names, element types and numbers of axes."""
    ids = onnx.INT64 if info.id_type == "int64" else onnx.STRING
    known = {name: (ids, 2) for name in names.REQUIRED_INPUTS} | {names.K: (onnx.INT64, 1)}
    user = onnx.INT64 if info.user_id_type == "int64" else onnx.STRING
    callers = {names.USER: (user, 1)} if info.user_id_type else {}
    callers |= {names.USER_TAGS: (onnx.STRING, 2)}
    callers |= {names.TIMESTAMPS: (onnx.INT64, 2), names.REQUEST_TIME: (onnx.INT64, 1)}
    callers |= dict.fromkeys(names.TAG_INPUTS, (onnx.STRING, 2))
    callers |= dict.fromkeys((names.BOOST_BY, *names.BOUNDS), (onnx.FLOAT, 2))
    known |= {name: callers[name] for name in info.inputs if name in callers}
    inputs = [_signature(reader, value) for value in graph["input"]]
    # Further declared inputs are known to the `Recommender`, or refused there.
    fitting = [given for given in inputs if known.get(given[0], given[1:]) == given[1:]]
    declared = tuple(given[0] for given in fitting)
    if declared != info.inputs or fitting != inputs or not known.keys() <= set(declared):
        raise _refusal(f"the inputs {inputs}, not {known} and what the facts name")
    outputs = [_signature(reader, value) for value in graph["output"]]
    expected = [(names.ITEMS, ids, 2), (names.SCORES, onnx.FLOAT, 2)]
    expected += [(names.N_KNOWN, onnx.INT64, 1)]
    expected += [(names.TITLES, onnx.STRING, 2)] if info.has_titles else []
    expected += [(names.N_ALLOWED, onnx.INT64, 1)] if info.rules else []
    expected += [(names.ATTENTION, onnx.FLOAT, 2)] if info.has_attention else []
    if outputs != expected:
        raise _refusal(f"the outputs {outputs}, not {expected}")


def _signature(reader: Reader, value: memoryview) -> tuple[str, int, int]:
    declared = reader.read(value, onnx.VALUE)
    tensor = reader.read(reader.read(declared["type"], onnx.TYPE)["tensor"], onnx.TENSOR_TYPE)
    shape = reader.read(tensor["shape"], onnx.SHAPE)
    return short_text(declared["name"]), tensor["elem_type"], len(shape["dim"])


class _Graph:
    """The walk over the nodes, in the order in which they stand."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.power: dict[str, float] = {}  # of every value that there is so far
        self.total: dict[str, float] = {}  # log2 of the sum of a value, where it is known
        self.looked_up: set[str] = set()  # rows of what the caller names
        self.stored: dict[str, _Tensor] = {}
        self.n_nodes = 0
        self.dictionaries: list[tuple[int, int]] = []  # keys and values of LabelEncoders
        self.limit = 0.0  # log2 of the largest tensor that constants may make

    def check(self, graph: Fields, info: ModelInfo) -> None:
        """Everything but inputs and outputs."""
        self.power = dict.fromkeys(info.inputs, 0.0)
        self.add_initializers(graph)
        self.check_tables(info)
        largest = max(math.prod(tensor.dims) for tensor in self.stored.values())
        self.limit = math.log2(16 * max(largest, 2**16))
        self.walk(graph, inside="")
        if (info.n_items, info.n_items) not in self.dictionaries:
            raise _refusal(f"{self.dictionaries} ids and rows for {info.n_items} items")
        users = (info.n_users, info.n_users)
        if names.USER in info.inputs and users not in self.dictionaries:
            raise _refusal(f"{self.dictionaries} ids and rows for {info.n_users} users")

    def check_tables(self, info: ModelInfo) -> None:
        """Tensors by item have a row for each item, and row 0."""
        kinds = {"item_ids": onnx.INT64 if info.id_type == "int64" else onnx.STRING}
        kinds |= {"item_titles": onnx.STRING} if info.has_titles else {}
        for name, kind in kinds.items():
            if name not in self.stored or self.stored[name].kind != kind:
                raise _refusal(f"no tensor {name!r} of element type {kind}")
        for name, tensor in self.stored.items():
            by_item = name.startswith("item_") or name == "no_item"
            if by_item and tensor.dims[:1] != [info.n_items + 1]:
                raise _refusal(f"{name!r} of shape {tensor.dims} for {info.n_items} items")

    def walk(self, graph: Fields, inside: str) -> None:
        """Check nodes and what is in them. inside: the branch of an `If` that they are."""
        self.n_nodes += len(graph["node"])
        if self.n_nodes > MOST_NODES:
            raise _refusal(f"{self.n_nodes} nodes, above the limit of {MOST_NODES}")
        for content in graph["node"]:
            node = self.reader.read(content, onnx.NODE)
            domain, op_type = short_text(node["domain"]), short_text(node["op_type"])
            if domain and op_type not in _OPERATORS.get(domain, ()):
                raise _refusal(f"the operator {domain}.{op_type}; known: {_OPERATORS}")
            inputs = [short_text(name) for name in node["input"]]
            for name in inputs:
                if name and name not in self.power:
                    raise _refusal(f"{op_type} before {name!r}, which it reads")
            kind = onnx.DICTIONARY if op_type == "LabelEncoder" else onnx.ATTRIBUTE
            attributes = [self.reader.read(value, kind) for value in node["attribute"]]
            if kind is onnx.DICTIONARY:
                self.add_dictionary(attributes)
            else:
                self.check_sizes(op_type, inputs, attributes)
            power = self.power_of(op_type, inputs, attributes)
            for attribute in attributes:
                if attribute["g"]:
                    self.enter(op_type, short_text(attribute["name"]), attribute["g"], inside)
            outputs = [short_text(name) for name in node["output"]]
            self.follow_total(op_type, inputs, outputs)
            for name in outputs:
                self.add(name, power)

    def enter(self, op_type: str, name: str, branch: memoryview, inside: str) -> None:
        """A branch runs at most once, and nothing inside it branches again."""
        if op_type != "If" or name not in ("then_branch", "else_branch") or inside:
            place = f"{op_type} inside {inside}" if inside else op_type
            raise _refusal(f"{place} with the sub-graph {name!r}; known: a top-level If")
        graph = self.reader.read(branch, onnx.GRAPH)
        self.add_initializers(graph)
        self.walk(graph, inside=name)

    def check_sizes(self, op_type: str, inputs: list[str], attributes: list[Fields]) -> None:
        """No constants make a tensor far larger than the file itself."""
        sizes = [inputs[i] for i in _SIZE_INPUTS.get(op_type, ()) if i < len(inputs)]
        # Of a Range these are single numbers.
        totals = self.total if op_type == "Range" else {}
        powers = [sum(min(self.power[name], totals.get(name, math.inf)) for name in sizes if name)]
        powers += [_power([one["i"], *one["ints"]]) for one in attributes]  # like pads
        if not all(power <= self.limit for power in powers):
            power = max(powers)
            size = f"up to 2^{power:.0f} numbers" if power < math.inf else "a size unknown"
            raise _refusal(
                f"{op_type} for a tensor of {size}, above the limit of 2^{self.limit:.0f}, "
                "16 times the largest stored tensor"
            )

    def power_of(self, op_type: str, inputs: list[str], attributes: list[Fields]) -> float:
        """log2 of the size that the outputs of a node stand for, followed from constants on.

        It finds large constants, not every way to a large size: the shape of a computed value
        counts as 1. Values of operators that do not compute sizes have no limit.
        """
        tensors = [self.tensor(one["t"]) for one in attributes if one["t"]]
        powers = [self.power[name] for name in inputs if name]
        if op_type == "Constant" and tensors:
            return tensors[0].power
        if op_type in ("Shape", "Size"):
            dims = [self.stored[name].dims for name in inputs if name in self.stored]
            return math.log2(max([1, *map(math.prod, dims)]))
        if op_type in _AT_MOST_1:
            return 0.0
        if op_type in _NOT_LARGER and powers:
            return powers[0]
        return sum(powers) + 1 if op_type in _MULTIPLIED else math.inf

    def follow_total(self, op_type: str, inputs: list[str], outputs: list[str]) -> None:
        """Sums of whole numbers that are stored by what a caller names, such as items of a tag."""
        totals = [self.total.get(name, math.inf) for name in inputs]
        total = 0.0 if op_type in _AT_MOST_1 else math.inf
        if op_type == "LabelEncoder" or (
            op_type in ("Split", "Concat", "Reshape") and self.looked_up.issuperset(inputs[:1])
        ):
            self.looked_up.update(outputs)
        elif op_type in _SAME_TOTAL or (op_type == "Gather" and inputs[1] in self.looked_up):
            total = totals[0]
        elif op_type in ("Add", "Sub", "Mul"):
            total = sum(totals) if op_type == "Mul" else max(totals) + 1
        self.total.update(dict.fromkeys(outputs, total))

    def add(self, name: str, power: float) -> None:
        """A value that nodes may read from here on; each name once."""
        if name in self.power:
            raise _refusal(f"two values {name!r}")
        if name:
            self.power[name] = power

    def add_initializers(self, graph: Fields) -> None:
        """Stored tensors."""
        for value in graph["initializer"]:
            tensor = self.tensor(value)
            self.add(tensor.name, tensor.power)
            self.stored[tensor.name] = tensor
            self.total[tensor.name] = tensor.total

    def add_dictionary(self, attributes: list[Fields]) -> None:
        """Count the keys and values of a LabelEncoder."""
        counts = {"keys": 0, "values": 0}
        for one in attributes:
            part = short_text(one["name"]).partition("_")[0]
            n_stored = math.prod(self.tensor(one["t"]).dims) if one["t"] else 0
            counts[part] = counts.get(part, 0) + one["ints"] + one["strings"] + n_stored
        self.dictionaries.append((counts["keys"], counts["values"]))

    def tensor(self, value: memoryview) -> _Tensor:
        """A tensor whose shape is that of its bytes."""
        fields = self.reader.read(value, onnx.TENSOR)
        name, kind, dims = short_text(fields["name"]), fields["data_type"], fields["dims"]
        wrong = len(dims) > 8 or any(not 0 <= dim < 2**31 for dim in dims)
        if wrong or kind not in (*onnx.BITS, onnx.STRING):
            raise _refusal(f"the tensor {name!r} of shape {dims}, element type {kind}")
        raw, n_texts, elements = fields["raw_data"], fields["string_data"], math.prod(dims)
        n_bytes = (elements * onnx.BITS.get(kind, 0) + 7) // 8
        if (len(raw), n_texts) != (n_bytes, elements if kind == onnx.STRING else 0):
            raise _refusal(
                f"the tensor {name!r} of shape {dims} with {len(raw)} bytes and {n_texts} texts"
            )
        known = kind in onnx.DTYPES and elements <= _SMALL
        power = _power(np.frombuffer(raw, onnx.DTYPES[kind]).tolist()) if known else math.inf
        is_listed = kind == onnx.INT64 and elements <= _LISTED
        total = _total(np.frombuffer(raw, onnx.DTYPES[kind])) if is_listed else math.inf
        return _Tensor(name, kind, dims, power, total)


def _power(numbers: list[float]) -> float:
    """log2 of the product of the numbers; small fractions count like large numbers."""
    return sum(abs(math.log2(abs(number))) for number in numbers if number)


def _total(numbers: np.ndarray) -> float:
    """log2 of their sum."""
    return math.log2(max(1.0, float(np.abs(numbers.astype(float)).sum())))


def _refusal(what: str) -> ModelFileError:
    return ModelFileError(
        f"the graph has {what[:500]}: attnrec never writes that; export it again"
    )

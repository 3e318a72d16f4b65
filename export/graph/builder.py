"""Writing an ONNX graph as expressions: `g.Add(a, b)` instead of node plumbing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Constant = NDArray[Any]


class GraphBuilder:
    """Collects nodes and initializers of one graph; sub-graphs of an `If` share its names."""

    def __init__(self, numbers: Iterator[int] | None = None, prefix: str = "") -> None:
        """numbers: the counter behind value names; an outer graph's, for a sub-graph.

        prefix: for the names of its nodes.
        """
        self._prefix = prefix
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._numbers = count() if numbers is None else numbers

    def op(
        self,
        op_type: str,
        *inputs: "ir.Value | int | float | list[int] | None",
        domain: str = "",
        outputs: int = 1,
        **attributes: Any,
    ) -> Any:
        """Add a node; Python numbers become constants. One value, or a list for `outputs` > 1."""
        node = ir.node(
            op_type,
            [self._as_value(value) for value in inputs],
            attributes=attributes,
            domain=domain,
            num_outputs=outputs,
            name=f"{self._prefix}{op_type}_{next(self._numbers)}",
        )
        for i, value in enumerate(node.outputs):
            value.name = f"{node.name}:{i}" if outputs > 1 else node.name
        self.nodes.append(node)
        return list(node.outputs) if outputs > 1 else node.outputs[0]

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        """`g.Add(a, b)` is `g.op("Add", a, b)`."""
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **keywords: self.op(op_type, *inputs, **keywords)

    @staticmethod
    def sized(value: ir.Value, *shape: str | int) -> ir.Value:
        """Says the shape of float32 numbers: only then onnxruntime sees that a step fits in place.

        Without, every scatter into the scores of a catalogue copies them.
        """
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
        return value

    def initializer(self, name: str, array: Constant) -> ir.Value:
        """A named tensor of the file: a table, ids, titles. Text is given as object arrays."""
        tensor: ir.TensorProtocol
        if array.dtype == object:
            text = np.array([item.encode() for item in array.ravel()], dtype=object)
            tensor = ir.StringTensor(text, shape=ir.Shape(array.shape), name=name)
        else:
            tensor = ir.tensor(array, name=name)
        value = ir.Value(
            name=name,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(array.shape),
            const_value=tensor,
        )
        self.initializers[name] = value
        return value

    def constant(self, array: Constant) -> ir.Value:
        """A small tensor; equal ones are stored once."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{next(self._numbers)}"
            self._constants[key] = self.initializer(name, array)
        return self._constants[key]

    def constant_text(self, text: str) -> ir.Value:
        """A text; equal ones are stored once."""
        name = f"text_{text}"
        if name not in self.initializers:
            self.initializer(name, np.array(text, dtype=object))
        return self.initializers[name]

    def choose(self, condition: ir.Value, then: "Branch", otherwise: "Branch") -> Any:
        """The values of one of two branches, which may use every value of this graph."""
        branches = [self._branch(build) for build in (then, otherwise)]
        outputs = len(branches[0].outputs)
        return self.op(
            "If", condition, outputs=outputs, then_branch=branches[0], else_branch=branches[1]
        )

    def _branch(self, build: "Branch") -> ir.Graph:
        inner = GraphBuilder(self._numbers)
        outputs = list(build(inner))
        tensors = list(inner.initializers.values())
        return ir.Graph([], outputs, nodes=inner.nodes, initializers=tensors, name=build.__name__)

    def inline(
        self, model: ir.Model, inputs: Mapping[str, ir.Value], prefix: str = ""
    ) -> list[ir.Value]:
        """Move the nodes of `model` here, its inputs replaced by name; returns its outputs.

        prefix: for all its names, where those of another model are here already.
        """
        graph = model.graph
        values = [*graph.initializers.values(), *(v for node in graph for v in node.outputs)]
        for named in [*graph, *values]:
            named.name = f"{prefix}{named.name}"
        for graph_input in list(graph.inputs):
            graph_input.replace_all_uses_with(inputs[str(graph_input.name)])
        outputs = list(graph.outputs)
        self.initializers.update({str(value.name): value for value in graph.initializers.values()})
        nodes = list(graph)
        graph.outputs.clear()
        graph.initializers.clear()
        graph.remove(nodes)
        self.nodes.extend(nodes)
        return outputs

    def _as_value(self, value: "ir.Value | int | float | list[int] | None") -> ir.Value | None:
        if value is None or isinstance(value, ir.Value):
            return value
        kind = np.float32 if isinstance(value, float) else np.int64
        return self.constant(np.array(value, dtype=kind))


Branch = Callable[[GraphBuilder], Sequence[ir.Value]]
"""A function that builds a branch in the graph of its own that it is given."""

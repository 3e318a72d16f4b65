"""How the item table lies in a file. The graph touches it in two places: a gather, a projection.

`fp32` keeps the numbers. `int8` keeps 8-bit codes with scales, in one of two forms, because what
is fast depends on the size of the catalogue (figures: README).
"""

import copy
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from attnrec.export.graph import GraphBuilder

CONTRIB = "com.microsoft"
"""Domain of the operators that onnxruntime has beyond the standard."""
_ZERO_POINT = 128  # of unsigned codes, which is what both operators assume


class ItemTable(Protocol):
    """The vectors of row 0 and of every item."""

    values: NDArray[np.float32]
    """The numbers that the file computes with, (N + 1, D)."""
    is_exact: bool
    """They are those of the model."""
    rounds_states: bool
    """States are rounded as well, when scores are computed."""

    def declare(self, g: GraphBuilder) -> None:
        """Add what is stored to the outermost graph, before anything is gathered."""

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        """Vectors (B, T, D) of rows (B, T)."""

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        """Scores (B, N + 1): table @ state + bias, of states (B, D) and a bias (N + 1,)."""


@dataclass(frozen=True)
class Codes:
    """A table rounded to 8 bits: value = code x scale, one scale for each block of a row."""

    codes: NDArray[np.int8]
    """(N + 1, D / block, block), from -127 to 127."""
    scales: NDArray[np.float32]
    """(N + 1, D / block, 1)."""

    def values(self) -> NDArray[np.float32]:
        """What onnxruntime computes from them, bit for bit: (N + 1, D)."""
        return (self.codes.astype(np.float32) * self.scales).reshape(len(self.codes), -1)


class FloatTable:
    """fp32: exact."""

    is_exact, rounds_states = True, False

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = values

    def declare(self, g: GraphBuilder) -> None:
        self._table = g.initializer("item_table", self.values)

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        vectors: ir.Value = g.Gather(self._table, rows, axis=0)
        return vectors

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        scores: ir.Value = g.Gemm(state, self._table, bias, transB=1)
        return scores


class UnfoldedTable(FloatTable):
    """int8 for small catalogues: onnxruntime turns the codes into float32 when it loads the file.

    A quarter of the bytes at the speed of fp32, and every processor computes the same.
    """

    is_exact = False

    def __init__(self, codes: Codes) -> None:
        """Codes with one block a row."""
        super().__init__(codes.values())
        self._codes = codes

    def declare(self, g: GraphBuilder) -> None:
        codes = g.initializer("item_codes", self._codes.codes[:, 0])  # (N + 1, D)
        scales = g.initializer("item_scales", self._codes.scales[:, 0])  # (N + 1, 1)
        self._table = g.Mul(g.Cast(codes, to=ir.DataType.FLOAT), scales)


class BlockTable:
    """int8 for large catalogues: the codes stay codes in memory, and the projection reads them.

    A third of the bytes, also in memory, and about half the time of one answer; batches of many
    rows are slower. The projection rounds the state to 8 bits as well, which moves scores a
    little, by more or less on other processors.
    """

    is_exact, rounds_states = False, True

    def __init__(self, codes: Codes) -> None:
        self.values = codes.values()
        self._codes = codes

    def with_exact_states(self) -> "BlockTable":
        """The same codes, computed with in float32: slow, and the same everywhere."""
        exact = copy.copy(self)
        exact.rounds_states = False
        return exact

    def declare(self, g: GraphBuilder) -> None:
        unsigned = (self._codes.codes.astype(np.int16) + _ZERO_POINT).astype(np.uint8)
        scales = self._codes.scales
        self._table = g.initializer("item_codes", unsigned)
        self._scales = g.initializer("item_scales", scales)
        # The same in another shape, made when the file is loaded.
        self._flat_scales = g.Reshape(self._scales, [0, -1])

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        blocks = g.op(
            "GatherBlockQuantized", self._table, rows, self._scales, domain=CONTRIB,
            gather_axis=0, quantize_axis=2, block_size=self._codes.codes.shape[2], bits=8,
        )  # (B, T, D / block, block)  # fmt: skip
        vectors: ir.Value = g.Reshape(blocks, [0, 0, self.values.shape[1]])
        return vectors

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        n_rows, dim = self.values.shape
        scores: ir.Value = g.op(
            "MatMulNBits", state, self._table, self._flat_scales, None, None, bias,
            domain=CONTRIB, K=dim, N=n_rows, bits=8, block_size=self._codes.codes.shape[2],
            accuracy_level=4 if self.rounds_states else 0,
        )  # fmt: skip
        return scores

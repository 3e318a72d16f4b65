"""How the item table lies in a file. The graph touches it in two places: a gather, a projection.

`fp32` keeps the numbers. `int8` and `int4` keep codes of so many bits with scales, in one of two
forms, because what is fast depends on the size of the catalogue (figures: README).
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


class ItemTable(Protocol):
    """The vectors of row 0 and of every item."""

    values: NDArray[np.float32]
    """The numbers that the file computes with, (N + 1, D)."""
    is_exact: bool
    """They are those of the model."""
    rounds_states: bool
    """States are rounded as well, when scores are computed."""

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes in the file."""

    def declare(self, g: GraphBuilder) -> None:
        """Add what is stored to the outermost graph, before anything is gathered."""

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        """Vectors (B, T, D) of rows (B, T)."""

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        """Scores (B, N + 1): table @ state + bias, of states (B, D) and a bias (N + 1,)."""


@dataclass(frozen=True)
class Codes:
    """A rounded table: value = code x scale, one scale for each block of a row."""

    codes: NDArray[np.int8]
    """(N + 1, D / block, block), from -127 to 127 or from -7 to 7."""
    scales: NDArray[np.float32]
    """(N + 1, D / block, 1)."""
    bits: int
    """Of one code, 8 or 4."""

    @property
    def block(self) -> int:
        """Values that share a scale."""
        block: int = self.codes.shape[2]
        return block

    @property
    def n_bytes(self) -> int:
        """Bytes of both."""
        n_bytes: int = self.codes.size * self.bits // 8 + self.scales.nbytes
        return n_bytes

    def values(self) -> NDArray[np.float32]:
        """What onnxruntime computes from them, bit for bit: (N + 1, D)."""
        return (self.codes.astype(np.float32) * self.scales).reshape(len(self.codes), -1)


class FloatTable:
    """fp32: exact."""

    is_exact, rounds_states = True, False

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = values

    @property
    def n_bytes(self) -> int:
        return self.values.nbytes

    def declare(self, g: GraphBuilder) -> None:
        self._table = g.initializer("item_table", self.values)

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        vectors: ir.Value = g.Gather(self._table, rows, axis=0)
        return vectors

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        scores: ir.Value = g.Gemm(state, self._table, bias, transB=1)
        return scores


class UnfoldedTable(FloatTable):
    """Codes for small catalogues: onnxruntime makes float32 of them when it loads the file.

    A quarter or an eighth of the bytes at the speed of fp32; every processor computes the same.
    """

    is_exact = False

    def __init__(self, codes: Codes) -> None:
        super().__init__(codes.values())
        self._codes = codes

    @property
    def n_bytes(self) -> int:
        return self._codes.n_bytes

    def declare(self, g: GraphBuilder) -> None:
        stored = self._codes.codes
        if self._codes.bits == 4:
            stored = stored.astype(ir.DataType.INT4.numpy())
        codes = g.initializer("item_codes", stored)  # (N + 1, D / block, block)
        scales = g.initializer("item_scales", self._codes.scales)  # (N + 1, D / block, 1)
        unfolded = g.Mul(g.Cast(codes, to=ir.DataType.FLOAT), scales)
        self._table = g.Reshape(unfolded, [0, -1])  # (N + 1, D)


class BlockTable:
    """Codes for large catalogues: they stay codes in memory, and the projection reads them.

    A third of the bytes, also in memory, and about half the time of one answer; batches of many
    rows are slower. The projection rounds the state to 8 bits as well, which moves scores a
    little, by more or less on other processors.
    """

    is_exact, rounds_states = False, True

    def __init__(self, codes: Codes) -> None:
        self.values = codes.values()
        self._codes = codes

    @property
    def n_bytes(self) -> int:
        return self._codes.n_bytes

    def with_exact_states(self) -> "BlockTable":
        """The same codes, computed with in float32: slow, and the same everywhere."""
        exact = copy.copy(self)
        exact.rounds_states = False
        return exact

    def declare(self, g: GraphBuilder) -> None:
        name = "item_codes" if self._codes.bits == 8 else "item_code_pairs"
        self._table = g.initializer(name, unsigned(self._codes))
        self._scales = g.initializer("item_scales", self._codes.scales)
        # The same in another shape, made when the file is loaded.
        self._flat_scales = g.Reshape(self._scales, [0, -1])

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        blocks = g.op(
            "GatherBlockQuantized", self._table, rows, self._scales, domain=CONTRIB,
            gather_axis=0, quantize_axis=2, block_size=self._codes.block, bits=self._codes.bits,
        )  # (B, T, D / block, block)  # fmt: skip
        vectors: ir.Value = g.Reshape(blocks, [0, 0, self.values.shape[1]])
        return vectors

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        n_rows, dim = self.values.shape
        scores: ir.Value = g.op(
            "MatMulNBits", state, self._table, self._flat_scales, None, None, bias,
            domain=CONTRIB, K=dim, N=n_rows, bits=self._codes.bits, block_size=self._codes.block,
            accuracy_level=4 if self.rounds_states else 0,
        )  # fmt: skip
        return scores


def unsigned(codes: Codes) -> NDArray[np.uint8]:
    """Codes as both operators expect them: counted from 0, two of 4 bits in a byte, low first."""
    counted = (codes.codes.astype(np.int16) + (1 << (codes.bits - 1))).astype(np.uint8)
    if codes.bits == 8:
        return counted
    return (counted[..., ::2] | (counted[..., 1::2] << 4)).astype(np.uint8)

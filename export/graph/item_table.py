"""How the item table lies in a file. The graph touches it in two places: a gather, a projection.

`fp32` keeps the numbers. The other profiles keep codes with scales: in small catalogues numbers
again once the file is loaded; large ones are scanned as codes (`scanned_table.py`).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from attnrec.export.graph.builder import GraphBuilder


class ItemTable(Protocol):
    """The vectors of row 0 and of every item."""

    values: NDArray[np.float32]
    """The numbers that the file computes with, (N + 1, D)."""
    is_exact: bool
    """They are those of the model."""
    scan_depth: int | None
    """Two passes: `project` scans codes and keeps the 2k best items and so many more; `gather`
    rescores them exactly. None: `project` computes scores."""

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes in the file."""

    def declare(self, g: GraphBuilder) -> None:
        """Add what is stored to the outermost graph, before anything is gathered."""

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        """Vectors (B, T, D) of rows (B, T)."""

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        """Scores (B, N + 1): table @ state + bias, of states (B, D) and a bias (N + 1,)."""


@dataclass(frozen=True, eq=False)
class Codes:
    """A rounded table: value = code x scale, one scale for each block of a row."""

    codes: NDArray[np.int8] | NDArray[np.int16]
    """(N + 1, D / block, block), from -127 to 127 or from -8 to 7."""
    scales: NDArray[np.float32]
    """(N + 1, D / block, 1); where there are more codes below 0 than above, of both signs."""
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

    is_exact = True
    scan_depth: int | None = None

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

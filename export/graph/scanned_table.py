"""Item tables of large catalogues: a scan of all codes finds what an exact score is computed for.

The codes stay codes in memory. The scan (`MatMulNBits` of onnxruntime) reads them at the speed of
the memory, but rounds states to 8 bits as well, and may read 4 bits of 8. So it only chooses: the
scores that are compared and returned come from all bits and from the state as it is.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.item_table import Codes

CONTRIB = "com.microsoft"
"""Domain of the operators that onnxruntime has beyond the standard."""
NESTED_CODES = (-136, 119)
"""Lowest and highest code whose high half, to the nearest, is one of 4 bits."""
_DEPTH, _MOST_DEPTH = 64, 256
"""The fewer bits a scan reads and the more items there are, the more it has to find; measured by
`benchmarks/scan_recall.py` and `benchmarks/scale.py`."""
_ROWS_OF_DEPTH = 4000
_LOW_STEPS = 16
"""Steps of the low half in one of the high half."""


class ScannedTable:
    """Codes of 8 or 4 bits, all of which the scan reads."""

    is_exact = False
    scan_depth: int | None = _DEPTH

    def __init__(self, codes: Codes) -> None:
        self.values = codes.values()
        self._stored = _Stored(codes, "item_codes" if codes.bits == 8 else "item_code_pairs")

    @property
    def n_bytes(self) -> int:
        return self._stored.codes.n_bytes

    def declare(self, g: GraphBuilder) -> None:
        self._stored.declare(g, g.initializer("item_scales", self._stored.codes.scales))

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        return self._stored.gather(g, rows)

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        return self._stored.scan(g, state, bias)


class NestedTable:
    """Codes of 8 bits as two halves of 4, of which the scan reads the high one.

    The size and the scores of 8 bits at the speed of 4. Value = (high + low / 16) x scale, both
    halves from -8 to 7.
    """

    is_exact = False
    scan_depth: int | None

    def __init__(self, codes: Codes) -> None:
        """codes: within `NESTED_CODES`."""
        self.scan_depth = min(max(_DEPTH, len(codes.codes) // _ROWS_OF_DEPTH), _MOST_DEPTH)
        high = (codes.codes + 8) >> 4  # to the nearest
        low = codes.codes - high * _LOW_STEPS
        scales = codes.scales * np.float32(_LOW_STEPS)
        self._high = _Stored(Codes(high, scales, 4), "item_code_pairs")
        self._low = _Stored(Codes(low, scales, 4), "item_code_rests")
        rests = self._low.codes.values() / np.float32(_LOW_STEPS)
        self.values: NDArray[np.float32] = self._high.codes.values() + rests

    @property
    def n_bytes(self) -> int:
        return self._high.codes.n_bytes + self._low.codes.codes.size // 2

    def declare(self, g: GraphBuilder) -> None:
        scales = g.initializer("item_scales", self._high.codes.scales)
        for half in (self._high, self._low):
            half.declare(g, scales)

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        rests = g.Mul(self._low.gather(g, rows), 1 / _LOW_STEPS)
        vectors: ir.Value = g.Add(self._high.gather(g, rows), rests)
        return vectors

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        return self._high.scan(g, state, bias)


class _Stored:
    """Codes in a graph, in the one form that both operators read."""

    def __init__(self, codes: Codes, name: str) -> None:
        self.codes = codes
        self._name = name
        n_rows, n_blocks, block = codes.codes.shape
        self._shape = {"K": n_blocks * block, "N": n_rows}
        self._coded = {"bits": codes.bits, "block_size": block}

    def declare(self, g: GraphBuilder, scales: ir.Value) -> None:
        self._codes = g.initializer(self._name, unsigned(self.codes))
        self._scales = scales

    def gather(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        blocks = g.op(
            "GatherBlockQuantized", self._codes, rows, self._scales, domain=CONTRIB,
            gather_axis=0, quantize_axis=2, **self._coded,
        )  # (B, T, D / block, block)  # fmt: skip
        vectors: ir.Value = g.Reshape(blocks, [0, 0, self._shape["K"]])
        return vectors

    def scan(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        # The same scales in another shape, made when the file is loaded.
        scales = g.Reshape(self._scales, [0, -1])
        scores: ir.Value = g.op(
            "MatMulNBits", state, self._codes, scales, None, None, bias, domain=CONTRIB,
            accuracy_level=4, **self._shape, **self._coded,
        )  # fmt: skip
        return scores


def unsigned(codes: Codes) -> NDArray[np.uint8]:
    """Codes as both operators expect them: counted from 0, two of 4 bits in a byte, low first."""
    counted = (codes.codes.astype(np.int16) + (1 << (codes.bits - 1))).astype(np.uint8)
    if codes.bits == 8:
        return counted
    return (counted[..., ::2] | (counted[..., 1::2] << 4)).astype(np.uint8)

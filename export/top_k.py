"""The best of every score: plain top-k, and one that stays fast where items are many.

TopK of onnxruntime keeps a heap that every better score enters: 10 times slower where scores rise
along the rows. Of a large catalogue the maximum of every block of rows is found first; the k best
items lie in the k blocks with the largest maxima, so all else is left out. The answer is the same,
equal scores included: of equal blocks the earlier counts, as of equal rows.
"""

import numpy as np
import onnx_ir as ir

from attnrec.export.graph import GraphBuilder

BLOCKS_FROM = 50_000
"""Items from which on blocks are as fast as plain top-k on scores in random order."""
_BLOCK = 64


def best(
    g: GraphBuilder, scores: ir.Value, k: ir.Value, n_items: int
) -> tuple[ir.Value, ir.Value]:
    """Top K = min(max(k, 0), N): scores (B, K) and rows (B, K), row 0 where nothing is left."""
    top_k = g.Clip(k, 0, n_items)
    top = _of_blocks if n_items >= BLOCKS_FROM else _of_all
    best_scores, rows = top(g, scores, top_k, n_items + 1)
    nothing_left = g.IsInf(best_scores)
    return best_scores, g.Where(nothing_left, 0, rows)


def _of_all(
    g: GraphBuilder, scores: ir.Value, top_k: ir.Value, n_rows: int
) -> tuple[ir.Value, ir.Value]:
    best_scores, rows = g.TopK(scores, top_k, axis=-1, largest=1, sorted=1, outputs=2)
    return best_scores, rows


def _of_blocks(
    g: GraphBuilder, scores: ir.Value, top_k: ir.Value, n_rows: int
) -> tuple[ir.Value, ir.Value]:
    n_blocks = -(-n_rows // _BLOCK)
    pooled = g.MaxPool(
        g.Unsqueeze(scores, [1]), kernel_shape=[_BLOCK], strides=[_BLOCK], ceil_mode=1
    )
    largest = g.Squeeze(pooled, [1])  # (B, n_blocks)
    n_taken = g.Min(top_k, [n_blocks])
    _, blocks = g.TopK(largest, n_taken, axis=-1, largest=1, sorted=1, outputs=2)
    # In the order of the rows, for equal scores.
    blocks, _ = g.TopK(blocks, n_taken, axis=-1, largest=0, sorted=1, outputs=2)
    first = g.Mul(g.Unsqueeze(blocks, [2]), _BLOCK)  # (B, n_taken, 1)
    inside = g.constant(np.arange(_BLOCK))
    batch = g.Shape(scores, start=0, end=1)
    shape = g.Concat(batch, g.Mul(n_taken, [_BLOCK]), axis=0)
    rows = g.Reshape(g.Add(first, inside), shape)  # (B, n_taken * block)
    exists = g.Less(rows, n_rows)  # the last block may end beyond the rows
    rows = g.Where(exists, rows, 0)
    taken = g.Where(exists, g.GatherElements(scores, rows, axis=1), -np.inf)
    best_scores, place = g.TopK(taken, top_k, axis=-1, largest=1, sorted=1, outputs=2)
    return best_scores, g.GatherElements(rows, place, axis=1)

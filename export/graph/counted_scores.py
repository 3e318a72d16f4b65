"""What the counts of `fusion` add to scores, in fewer nodes than a trace would have.

The steps are those of `CountedExperts.added_scores`. Indexes stay 32 bits wide, and shapes are
copied where a trace computes them.
"""

import numpy as np
import onnx_ir as ir

from attnrec.export.graph.builder import GraphBuilder
from attnrec.train.models.counted_experts import CountedExperts

_END = np.iinfo(np.int64).max


def counted_scores(counts: CountedExperts, history_index: str, opset: int) -> ir.Model:
    """history_index (B, T) -> rows (B, K), and what is added to their scores (B, K)."""
    g = GraphBuilder()
    history = ir.Value(
        name=history_index, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["B", "T"])
    )
    events, n_looked_at = history, counts.config.max_len
    if len(counts.weight) == 1:  # transitions alone look at fewer events
        n_looked_at = min(n_looked_at, counts.config.chain().max_len)
        events = g.Slice(history, [-n_looked_at], [_END], [1])
    chunks = _chunks(g, counts)  # (N + 1, C)
    neighbour = g.initializer("neighbour", counts.neighbour.numpy())  # (R, 8)
    weight = g.initializer("weight", counts.weight.numpy())  # (E, R, 8)
    own = g.Gather(chunks, events, axis=0)  # (B, T, C)
    rows = g.Reshape(g.Gather(neighbour, own, axis=0), [0, -1])  # (B, K)
    by_age = g.constant(counts.by_age(n_looked_at).numpy()[:, None, :, None, None])
    newest = g.Slice(by_age, g.Neg(g.Shape(events, start=1, end=2)), [_END], [2])
    each = g.Reshape(g.Mul(g.Gather(weight, own, axis=1), newest), [0, 0, -1])  # (E, B, K)
    added = _added(g, counts, rows, each, g.Shape(history, start=0, end=1))
    graph = ir.Graph(
        [history],
        [rows, added],
        nodes=g.nodes,
        initializers=list(g.initializers.values()),
        opset_imports={"": opset},
    )
    return ir.Model(graph, ir_version=10)


def _added(
    g: GraphBuilder, counts: CountedExperts, rows: ir.Value, each: ir.Value, batch: ir.Value
) -> ir.Value:
    """From rows (B, K) and their weights (E, B, K) to what is added to their scores (B, K)."""
    n_experts, n_rows = len(counts.weight), len(counts.chunks)
    place = g.Expand(rows, g.Shape(each))  # (E, B, K)
    nothing = g.Expand(0.0, g.Concat([n_experts], batch, [n_rows], axis=0))  # (E, B, N + 1)
    g.sized(nothing, n_experts, "B", n_rows)
    totals = g.ScatterElements(nothing, place, each, axis=2, reduction="add")
    summed = each  # transitions are never below 0
    if n_experts > 1:
        totals = summed = g.Relu(totals)
    reached = g.GatherElements(totals, place, axis=2)  # (E, B, K)
    in_all = g.Max(g.ReduceSum(summed, [2], keepdims=1), counts.least_sum)  # (E, B, 1)
    share = g.Div(reached, g.Mul(in_all, counts.config.count_floor))
    chosen = g.constant(counts.chosen().numpy()[:, None, None])  # (E, 1, 1)
    added: ir.Value = g.ReduceSum(
        g.Mul(g.Log(g.Add(share, 1.0)), chosen), [0], keepdims=0
    )  # (B, K)
    return added


def _chunks(g: GraphBuilder, counts: CountedExperts) -> ir.Value:
    """Rows of the chunks of every item, (N + 1, C), made when a file is loaded."""
    n_own = (counts.chunks > 0).sum(dim=1, keepdim=True).numpy()  # (N + 1, 1)
    before = np.cumsum(n_own, axis=0) - n_own
    first = g.initializer("first_chunk", (1 + before).astype(np.int32))
    end = g.Add(first, g.initializer("n_chunks", n_own.astype(np.int32)))
    every = g.Add(first, g.constant(np.arange(counts.chunks.shape[1], dtype=np.int32)))
    chunks: ir.Value = g.Where(g.Less(every, end), every, g.constant(np.zeros((), dtype=np.int32)))
    return chunks

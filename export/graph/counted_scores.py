"""What the counts of `fusion` add to scores, in fewer nodes than a trace would have.

The steps are those of `CountedExperts.added_scores`. Indexes stay 32 bits wide, and shapes are
copied where a trace computes them.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from attnrec.export.graph.builder import GraphBuilder
from attnrec.train.models.counted_experts import CountedExperts
from attnrec.train.models.fusion_config import NEWEST

_END = np.iinfo(np.int64).max


def counted_scores(counts: CountedExperts, history_index: str, opset: int) -> ir.Model:
    """history_index (B, T) -> rows (B, K), and what is added to their scores (B, K)."""
    g = GraphBuilder()
    history = ir.Value(
        name=history_index, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["B", "T"])
    )
    by_age = counts.by_age(counts.config.max_len).numpy()  # (E, T)
    chosen, n_counted = counts.chosen().numpy(), len(counts.weight)
    tables = [_counted(g, counts, history, by_age[:n_counted])]
    if counts.config.content:
        tables.append(_alike(g, counts, history, by_age[n_counted:]))
    rows = tables[0][0] if len(tables) == 1 else g.Concat(*(r for r, _ in tables), axis=1)
    added = _added(g, counts, chosen[:n_counted], rows, *tables[0])
    for table in tables[1:]:
        added = g.Add(added, _added(g, counts, chosen[n_counted:], rows, *table))
    graph = ir.Graph(
        [history],
        [rows, added],
        nodes=g.nodes,
        initializers=list(g.initializers.values()),
        opset_imports={"": opset},
    )
    return ir.Model(graph, ir_version=10)


def _counted(
    g: GraphBuilder, counts: CountedExperts, history: ir.Value, by_age: NDArray[np.float32]
) -> tuple[ir.Value, ir.Value]:
    """Neighbours by counts, (B, K), and their weights, (E, B, K)."""
    # Transitions alone look at fewer events.
    n_looked_at = counts.config.max_len if len(by_age) > 1 else NEWEST
    events, newest = _newest(g, history, by_age, n_looked_at)
    chunks = _chunks(g, counts)  # (N + 1, C)
    neighbour = g.initializer("neighbour", counts.neighbour.numpy())  # (R, 8)
    weight = g.initializer("weight", counts.weight.numpy())  # (E, R, 8)
    own = g.Gather(chunks, events, axis=0)  # (B, T, C)
    rows = g.Reshape(g.Gather(neighbour, own, axis=0), [0, -1])
    return rows, g.Reshape(g.Mul(g.Gather(weight, own, axis=1), newest), [0, 0, -1])


def _alike(
    g: GraphBuilder, counts: CountedExperts, history: ir.Value, by_age: NDArray[np.float32]
) -> tuple[ir.Value, ir.Value]:
    """Neighbours by content, (B, K), and their weights, (1, B, K)."""
    events, newest = _newest(g, history, by_age, NEWEST)
    alike = g.initializer("alike", counts.alike.numpy())  # (N + 1, C, 8)
    weight = g.initializer("alike_weight", counts.alike_weight.numpy())  # (1, N + 1, C, 8)
    listed = g.Reshape(g.Gather(alike, events, axis=0), [0, -1])
    return listed, g.Reshape(g.Mul(g.Gather(weight, events, axis=1), newest), [0, 0, -1])


def _newest(
    g: GraphBuilder, history: ir.Value, by_age: NDArray[np.float32], n_events: int
) -> tuple[ir.Value, ir.Value]:
    """The newest events, (B, T), and their weights, (E, 1, T, 1, 1)."""
    n_events = min(n_events, by_age.shape[1])
    events = history
    if n_events < by_age.shape[1]:
        events = g.Slice(history, [-n_events], [_END], [1])
    weights = g.constant(by_age[:, None, -n_events:, None, None])
    return events, g.Slice(weights, g.Neg(g.Shape(events, start=1, end=2)), [_END], [2])


def _added(
    g: GraphBuilder,
    counts: CountedExperts,
    chosen: NDArray[np.float32],
    rows: ir.Value,
    own: ir.Value,
    weights: ir.Value,
) -> ir.Value:
    """What some experts add to the scores of rows (B, K), from those that they speak for.

    own: these, (B, K'), and their weights (E, B, K'); chosen: weight of each expert, (E,).
    """
    n_experts, n_rows = len(chosen), len(counts.chunks)
    place = g.Expand(own, g.Shape(weights))  # (E, B, K')
    batch = g.Shape(own, start=0, end=1)
    nothing = g.Expand(0.0, g.Concat([n_experts], batch, [n_rows], axis=0))  # (E, B, N + 1)
    g.sized(nothing, n_experts, "B", n_rows)
    totals = g.ScatterElements(nothing, place, weights, axis=2, reduction="add")
    summed = weights  # transitions are never below 0, content neither
    if n_experts > 1:
        totals = summed = g.Relu(totals)
    if rows is not own:
        place = g.Expand(rows, g.Concat([n_experts], g.Shape(rows), axis=0))  # (E, B, K)
    reached = g.GatherElements(totals, place, axis=2)  # (E, B, K)
    in_all = g.Max(g.ReduceSum(summed, [2], keepdims=1), counts.least_sum)  # (E, B, 1)
    share = g.Div(reached, g.Mul(in_all, counts.config.count_floor))
    by_expert = g.Mul(g.Log(g.Add(share, 1.0)), g.constant(chosen[:, None, None]))
    added: ir.Value = g.ReduceSum(by_expert, [0], keepdims=0)  # (B, K)
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

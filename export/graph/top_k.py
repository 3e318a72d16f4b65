"""From scores to the best allowed items: every item, or the candidates of a call.

TopK of onnxruntime keeps a heap that every better score enters: 10 times slower where scores rise
along the rows. Of a large catalogue the maximum of every block of rows is found first; the k best
items lie in the k blocks with the largest maxima, so all else is left out. The answer is the same,
equal scores included: of equal blocks the earlier counts, as of equal rows. Where scores are those
of a coarse scan, more than k are taken and scored again. And candidates of a large catalogue are
compared among themselves, without a row for every item.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from attnrec.export.graph.builder import GraphBuilder

BLOCKS_FROM = 50_000
"""Items from which on blocks are as fast as plain top-k on scores in random order."""
_BLOCK = 64

Best = tuple[ir.Value, ir.Value]
"""Scores (B, K), best first, and rows (B, K), 0 where nothing is left."""


@dataclass(frozen=True)
class CallRows:
    """Catalogue rows of the ids of a call; 0 for padding and for unknown ids."""

    history: ir.Value  # (B, T)
    exclude: ir.Value  # (B, X)
    candidates: ir.Value  # (B, C)
    n_candidates: ir.Value  # (1,): C


@dataclass(frozen=True)
class Scored:
    """Two ways to scores, each built in the branch of the graph that takes it."""

    every_item: Callable[["Part"], ir.Value]
    """(B, N + 1), -inf at what is no item; made of parts of values (B, ...)."""
    of_rows: Callable[[GraphBuilder, ir.Value], ir.Value]
    """(B, C) of the rows (B, C) of items, in the graph that is given."""
    scan_depth: int | None = None
    """None: `every_item` computes scores. Else they are coarse: twice the k best of them and so
    many more are scored again by `of_rows`."""


Part = Callable[[ir.Value], ir.Value]
"""Of a value (B, ...) all rows, or none where candidates are listed."""


def best(
    g: GraphBuilder,
    scored: Scored,
    rows: CallRows,
    no_item: ir.Value,
    k: ir.Value,
    n_items: int,
    *,
    counts: bool = False,
) -> tuple[ir.Value, ...]:
    """Top K = min(max(k, 0), N) of what is allowed; equal scores are in the order of the rows.

    counts: also how many items are allowed, (B,).
    """
    top_k = g.Clip(k, 0, n_items)
    is_large = n_items >= BLOCKS_FROM
    plain = _of_blocks if is_large else _of_all
    is_catalogue = g.Equal(rows.n_candidates, [0])  # (1,)
    # With candidates, the batch of what follows is empty, and costs nothing. In a branch it would
    # cost more where it is needed: there, onnxruntime prepares no weights when it loads a file.
    batch = g.Shape(rows.exclude, start=0, end=1)
    n_kept = g.Where(is_catalogue, batch, 0)  # (1,)

    def part(value: ir.Value) -> ir.Value:
        kept: ir.Value = g.Slice(value, [0], n_kept, [0])
        return kept

    allowed = _ban(g, scored.every_item(part), part(rows.exclude))

    def every_item(g: GraphBuilder) -> tuple[ir.Value, ...]:
        # Here at last: of an empty batch, TopK of onnxruntime 1.23 ends the process.
        find = plain if scored.scan_depth is None else _rescored(scored, scored.scan_depth, plain)
        return *find(g, allowed, top_k, n_items + 1), *_counted(g, allowed, counts=counts)

    def candidates(g: GraphBuilder) -> tuple[ir.Value, ...]:
        scores = scored.of_rows(g, rows.candidates)
        if is_large:
            listed, item = _of_listed(g, scores, rows, no_item, top_k)
            return *_best_listed(g, listed, item, top_k), *_counted(g, listed, counts=counts)
        placed = scatter(g, rows.candidates, scores, n_items + 1)
        own = _ban(g, g.Add(placed, no_item), rows.exclude)
        return *plain(g, own, top_k, n_items + 1), *_counted(g, own, counts=counts)

    best_scores, best_rows, *n_allowed = g.choose(is_catalogue, every_item, candidates)
    return best_scores, g.Where(g.IsInf(best_scores), 0, best_rows), *n_allowed


def _counted(g: GraphBuilder, allowed: ir.Value, *, counts: bool) -> list[ir.Value]:
    """How many of the scores of each row are above -inf, if it counts."""
    if not counts:
        return []
    is_out = g.Cast(g.IsInf(allowed, detect_positive=0), to=ir.DataType.FLOAT)
    n_out = g.Cast(g.ReduceSum(is_out, [1], keepdims=0), to=ir.DataType.INT64)  # exact to 2^24
    return [g.Sub(g.Squeeze(g.Shape(allowed, start=1, end=2)), n_out)]


def _ban(g: GraphBuilder, scores: ir.Value, exclude: ir.Value) -> ir.Value:
    """Scores (B, N + 1) with -inf at the excluded rows (B, X)."""
    minus_inf = g.Expand(-np.inf, g.Shape(exclude))  # (B, X)
    allowed: ir.Value = g.ScatterElements(scores, exclude, minus_inf, axis=1)
    return allowed


def scatter(
    g: GraphBuilder,
    rows: ir.Value,
    scores: ir.Value,
    n_rows: int,
    elsewhere: float = -np.inf,
) -> ir.Value:
    """Scores (B, C) at their rows of (B, N + 1), and the same number elsewhere."""
    batch = g.Shape(rows, start=0, end=1)
    nothing = g.Expand(elsewhere, g.Concat(batch, [n_rows], axis=0))  # (B, N + 1)
    g.sized(nothing, "B", n_rows)
    scattered: ir.Value = g.ScatterElements(nothing, rows, scores, axis=1)
    return scattered


def _of_listed(
    g: GraphBuilder, scores: ir.Value, rows: CallRows, no_item: ir.Value, top_k: ir.Value
) -> Best:
    """Scores of the candidates (B, L) and their rows, from their scores (B, C), without a row for
    every item.

    Candidates and excluded rows are sorted together, of equal rows the excluded first: a candidate
    counts if the row before it is another one.
    """
    exclude = rows.exclude
    keys = g.Concat(g.Add(g.Mul(rows.candidates, 2), 1), g.Mul(exclude, 2), axis=1)  # (B, C + X)
    no_score = g.Expand(-np.inf, g.Shape(exclude))  # (B, X)
    n_keys = g.Shape(keys, start=1, end=2)
    keys, place = g.TopK(keys, n_keys, axis=-1, largest=0, sorted=1, outputs=2)
    listed = g.Div(keys, 2)  # (B, C + X)
    before = g.Concat(
        g.Sub(g.Slice(listed, [0], [1], [1]), 1), g.Slice(listed, [0], [-1], [1]), axis=1
    )
    of_listed = g.GatherElements(g.Concat(scores, no_score, axis=1), place, axis=1)
    allowed = g.Add(
        g.Where(g.Equal(listed, before), -np.inf, of_listed), g.Gather(no_item, listed, axis=0)
    )
    # At least K columns, however few are listed.
    missing = g.Concat([0, 0, 0], g.Max(g.Sub(top_k, n_keys), 0), axis=0)
    return g.Pad(allowed, missing, -np.inf), g.Pad(listed, missing, 0)


def _best_listed(g: GraphBuilder, allowed: ir.Value, listed: ir.Value, top_k: ir.Value) -> Best:
    best_scores, place = g.TopK(allowed, top_k, axis=-1, largest=1, sorted=1, outputs=2)
    return best_scores, g.GatherElements(listed, place, axis=1)


Find = Callable[[GraphBuilder, ir.Value, ir.Value, int], Best]
"""The best of scores (B, N + 1)."""


def _rescored(scored: Scored, depth: int, find: Find) -> Find:
    """The best by their own scores of those that a scan has found."""

    def find_and_score(g: GraphBuilder, scores: ir.Value, top_k: ir.Value, n_rows: int) -> Best:
        n_found = g.Min(g.Add(g.Mul(top_k, 2), depth), [n_rows])
        coarse, rows = find(g, scores, n_found, n_rows)  # (B, F)
        # In the order of the rows, for equal scores.
        rows, place = g.TopK(rows, n_found, axis=-1, largest=0, sorted=1, outputs=2)
        is_banned = g.IsInf(g.GatherElements(coarse, place, axis=1))
        own = g.Where(is_banned, -np.inf, scored.of_rows(g, rows))
        best_scores, place = g.TopK(own, top_k, axis=-1, largest=1, sorted=1, outputs=2)
        return best_scores, g.GatherElements(rows, place, axis=1)

    return find_and_score


def _of_all(g: GraphBuilder, scores: ir.Value, top_k: ir.Value, n_rows: int) -> Best:
    best_scores, rows = g.TopK(scores, top_k, axis=-1, largest=1, sorted=1, outputs=2)
    return best_scores, rows


def _of_blocks(g: GraphBuilder, scores: ir.Value, top_k: ir.Value, n_rows: int) -> Best:
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

"""The head of the file: raw ids in, raw ids out. Graph format 1, one function per clause.

Nothing here knows how a model computes; the body is inlined between `compact` and `score`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.item_table import ItemTable
from attnrec.export.graph.rules import rule_inputs, with_rules
from attnrec.export.graph.scanned_table import CONTRIB
from attnrec.export.graph.side_inputs import (
    ML,
    caller_inputs,
    look_up,
    rows_of_caller,
    times_of_caller,
)
from attnrec.export.graph.top_k import CallRows, Part, Scored, best, scatter
from attnrec.export.graph.trace import HISTORY_INDEX, ITEM_VECTORS, KNOWN, OPSET
from attnrec.export.graph.trend import AddedTrend, added_trend
from attnrec.export.item_rules import ItemRules
from attnrec.runtime.model_file import format as names
from attnrec.train.data.users import Users
from attnrec.train.models.trend import Trend
from attnrec.train.splits.split import Catalogue

_OPSETS = {"": OPSET, ML: 4, CONTRIB: 1}
_IR_VERSION = 10
_END = np.iinfo(np.int64).max


def assemble(
    body: ir.Model,
    table: ItemTable | None,
    catalogue: Catalogue,
    max_len: int,
    users: Users | None = None,
    declared: Sequence[str] = (),
    added: ir.Model | None = None,
    rules: ItemRules | None = None,
    trend: Trend | None = None,
) -> ir.Model:
    """The self-contained graph around `body`, which is used up, and so is `added`.

    table: the item vectors of a table model in the form of the profile, None for a score model.
    declared: the model's side inputs, looked up in `users`. added: what the model
    adds to the scores of its table, if anything. rules: what requests may name in rules. trend:
    what the time of a request adds to them.
    """
    g = GraphBuilder()
    inputs = _inputs(catalogue.id_type)
    rows = rows_of_ids(g, inputs, catalogue)
    place, n_known = compact(g, rows.history, max_len)
    seq = place(rows.history, 0)  # (B, W)
    no_item = _minus_inf_at_row_0(g, catalogue.n_items)
    given = {HISTORY_INDEX: seq}
    if declared:
        assert users is not None
        inputs |= caller_inputs(users, declared)
        given |= rows_of_caller(g, inputs, users) | times_of_caller(g, inputs, place)
    now = None if trend is None else added_trend(g, trend, given[names.REQUEST_TIME])
    scored, attention = _scored(g, body, table, given, no_item, added, now)
    if rules is not None:
        inputs |= rule_inputs(rules)
        scored = with_rules(g, scored, inputs, rules, catalogue.n_items)
    best_scores, best_rows, *n_allowed = best(
        g, scored, rows, no_item, inputs[names.K], catalogue.n_items, counts=rules is not None
    )
    outputs = {
        names.ITEMS: ids_of_rows(g, best_rows, catalogue),
        names.SCORES: best_scores,
        names.N_KNOWN: n_known,
    }
    if catalogue.titles is not None:
        outputs[names.TITLES] = _titles_of_rows(g, best_rows, catalogue.titles)
    if n_allowed:
        (outputs[names.N_ALLOWED],) = n_allowed
    # The last one: code that takes outputs by their place finds the others where they were.
    if attention is not None:
        outputs[names.ATTENTION] = attention  # (B, W)
    return _model(g, inputs, outputs)


def _scored(
    g: GraphBuilder,
    body: ir.Model,
    table: ItemTable | None,
    given: dict[str, ir.Value],
    no_item: ir.Value,
    added: ir.Model | None,
    trend: AddedTrend | None,
) -> tuple[Scored, ir.Value | None]:
    """Scores of the body, and its attention (B, W) if the model has any.

    given: the history of rows (B, W) and the declared inputs.
    """
    if table is None:
        (every_score,) = g.inline(body, given)
        return score_at_once(g, every_score, no_item), None
    table.declare(g)
    seq = given.pop(HISTORY_INDEX)
    vectors = table.gather(g, seq)  # (B, W, D)
    known = g.Greater(seq, 0)  # (B, W)
    state, *attention = g.inline(body, {ITEM_VECTORS: vectors, KNOWN: known} | given)
    more: tuple[ir.Value, ir.Value] | None = None
    if added is not None:
        rows, values = g.inline(added, {HISTORY_INDEX: seq}, prefix="added.")  # (B, K)
        more = rows, values
    scored = score_table(g, state, table, no_item, more, trend)
    return scored, attention[0] if attention else None


def _inputs(id_type: str) -> dict[str, ir.Value]:
    ids = ir.DataType.INT64 if id_type == "int64" else ir.DataType.STRING
    axes = {names.HISTORY: "T", names.EXCLUDE: "X", names.CANDIDATES: "C"}
    values = {
        name: ir.Value(name=name, type=ir.TensorType(ids), shape=ir.Shape(["B", axis]))
        for name, axis in axes.items()
    }
    values[names.K] = ir.Value(
        name=names.K, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([1])
    )
    return values


def rows_of_ids(g: GraphBuilder, inputs: dict[str, ir.Value], catalogue: Catalogue) -> CallRows:
    """One dictionary for all three inputs: its set-up costs more than its look-ups."""
    parts = [inputs[name] for name in (names.HISTORY, names.EXCLUDE, names.CANDIDATES)]
    rows = look_up(g, g.Concat(*parts, axis=1), catalogue.item_ids.tolist())
    widths = [g.Shape(part, start=1, end=2) for part in parts]
    history, exclude, candidates = g.Split(rows, g.Concat(*widths, axis=0), axis=1, outputs=3)
    return CallRows(history, exclude, candidates, n_candidates=widths[-1])


def compact(
    g: GraphBuilder, rows: ir.Value, max_len: int
) -> tuple[Callable[[ir.Value, int], ir.Value], ir.Value]:
    """Drop unknown ids anywhere, keep the newest `max_len`, pad on the left.

    rows (B, T) -> n_known (B,), and what does so to anything that belongs to the ids, with a
    value for padding: (B, T) -> (B, W). W is the longest known history of the batch, at least 1:
    work follows what is known, not how the caller padded.
    """
    known = g.Sign(rows)  # (B, T): 1, or 0 at padding and unknown ids
    n_known = g.ReduceSum(known, [1], keepdims=0)  # (B,)
    longest = g.ReduceMax(n_known, [0], keepdims=1)  # (1,)
    width_plus_1 = g.Add(g.Clip(longest, 1, max_len), [1])  # (1,)
    age = g.CumSum(known, 1, reverse=1)  # (B, T): the newest known id has age 1
    # Column W + 1 - age; what is unknown or too old goes to column 0, which is cut off.
    column = g.Mul(g.Max(g.Sub(width_plus_1, age), 0), known)  # (B, T)
    batch = g.Shape(rows, start=0, end=1)  # (1,)
    shape = g.Concat(batch, width_plus_1, axis=0)

    def place(values: ir.Value, padding: int) -> ir.Value:
        empty = g.Expand(padding, shape)  # (B, W + 1)
        placed = g.ScatterElements(empty, column, values, axis=1)  # (B, W + 1)
        kept: ir.Value = g.Slice(placed, [1], [_END], [1])
        return kept

    return place, n_known


def score_table(
    g: GraphBuilder,
    state: ir.Value,
    table: ItemTable,
    no_item: ir.Value,
    added: tuple[ir.Value, ir.Value] | None = None,
    trend: AddedTrend | None = None,
) -> Scored:
    """Scores of the table; added: rows (B, K), and what is added to their scores, if anything."""

    def every_item(part: Part) -> ir.Value:
        scores = g.sized(table.project(g, part(state), no_item), "kept", len(table.values))
        if trend is not None:
            scores = trend.of_all(g, part(trend.share), scores)
        if added is None:
            return scores
        rows, values = map(part, added)
        there = g.Add(g.GatherElements(scores, rows, axis=1), values)
        sums: ir.Value = g.ScatterElements(scores, rows, there, axis=1)
        return sums

    def of_rows(g: GraphBuilder, rows: ir.Value) -> ir.Value:
        vectors = table.gather(g, rows)  # (B, C, D)
        scores: ir.Value = g.Squeeze(g.MatMul(vectors, g.Unsqueeze(state, [2])), [2])
        if trend is not None:
            scores = trend.of_rows(g, rows, scores)
        if added is None:
            return scores
        every = scatter(g, *added, len(table.values), elsewhere=0.0)  # (B, N + 1)
        sums: ir.Value = g.Add(scores, g.GatherElements(every, rows, axis=1))
        return sums

    return Scored(every_item, of_rows, table.scan_depth)


def score_at_once(g: GraphBuilder, every_score: ir.Value, no_item: ir.Value) -> Scored:
    """The same for a score model, which computes every score in either case."""
    item_scores = g.Add(every_score, no_item)  # (B, N + 1)
    return Scored(
        lambda part: part(item_scores),
        lambda g, rows: g.GatherElements(item_scores, rows, axis=1),
    )


def _minus_inf_at_row_0(g: GraphBuilder, n_items: int) -> ir.Value:
    """What is added to scores (N + 1,): row 0 is no item, wherever unknown ids may lead."""
    no_item = np.zeros(n_items + 1, dtype=np.float32)
    no_item[0] = -np.inf
    return g.initializer("no_item", no_item)


def ids_of_rows(g: GraphBuilder, rows: ir.Value, catalogue: Catalogue) -> ir.Value:
    """Raw ids (B, K); row 0 is the padding value."""
    with_padding = np.insert(catalogue.item_ids, 0, names.PADDING[catalogue.id_type])
    item_ids = g.initializer("item_ids", with_padding)
    raw: ir.Value = g.Gather(item_ids, rows, axis=0)
    return raw


def _titles_of_rows(g: GraphBuilder, rows: ir.Value, titles: NDArray[np.object_]) -> ir.Value:
    """Titles (B, K); that of row 0 is empty."""
    stored = g.initializer("item_titles", np.concatenate([[""], titles]).astype(object))
    named: ir.Value = g.Gather(stored, rows, axis=0)
    return named


def _model(g: GraphBuilder, inputs: dict[str, ir.Value], outputs: dict[str, ir.Value]) -> ir.Model:
    axes = {names.N_KNOWN: ["B"], names.N_ALLOWED: ["B"], names.ATTENTION: ["B", "W"]}
    kinds = {
        names.SCORES: ir.DataType.FLOAT,
        names.N_KNOWN: ir.DataType.INT64,
        names.N_ALLOWED: ir.DataType.INT64,
        names.TITLES: ir.DataType.STRING,
        names.ATTENTION: ir.DataType.FLOAT,
    }
    for name, value in outputs.items():
        value.name = name
        value.shape = ir.Shape(axes.get(name, ["B", "K"]))
        value.type = inputs[names.HISTORY].type
        if name in kinds:
            value.type = ir.TensorType(kinds[name])
    graph = ir.Graph(
        list(inputs.values()),
        list(outputs.values()),
        nodes=g.nodes,
        initializers=list(g.initializers.values()),
        name="attnrec",
    )
    domains = sorted({node.domain for node in graph.all_nodes()})
    graph.opset_imports.update({domain: _OPSETS[domain] for domain in domains})
    return ir.Model(graph, ir_version=_IR_VERSION, producer_name=names.PRODUCER)

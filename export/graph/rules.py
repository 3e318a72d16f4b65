"""Rules of a request in the graph: which items may be shown, and which stand higher.

    score(j) + boosts of j, or -inf where a rule forbids j

The items of a tag are stored one tag after the other, so the work of a tag is its items, not the
catalogue. What no rule of a call uses is not computed.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.rule_filters import Filters, TagItems
from attnrec.export.graph.top_k import Scored
from attnrec.export.item_rules import ItemRules
from attnrec.runtime.model_file import format as names

_LARGEST_BOOST = 1e6


def rule_inputs(rules: ItemRules) -> dict[str, ir.Value]:
    """`require_all` (B, R), ..., `boost` and `boost_by` (B, G), `at_least` (B, P), ..."""
    text, real = ir.DataType.STRING, ir.DataType.FLOAT
    declared: dict[str, tuple[ir.DataType, str | int]] = {}
    if rules.tags:
        declared = {
            name: (text, axis) for name, axis in zip(names.TAG_INPUTS, "QRFG", strict=True)
        }
        declared[names.BOOST_BY] = (real, "G")
    if rules.numbers:
        declared |= {name: (real, len(rules.numbers)) for name in names.BOUNDS}
    return {
        name: ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(["B", axis]))
        for name, (kind, axis) in declared.items()
    }


def with_rules(
    g: GraphBuilder, scored: Scored, inputs: dict[str, ir.Value], rules: ItemRules, n_items: int
) -> Scored:
    """The same scores under the rules of a call."""
    n_rows = n_items + 1
    parts = _by_tags(g, inputs, rules, n_rows) if rules.tags else []
    if rules.numbers:
        parts.append(_within_bounds(g, inputs, rules))
    *others, added = parts  # filters are the first: what is seldom used is added up while small
    for part in reversed(others):
        added = g.Add(added, part)  # (B, N + 1), or (1, 1) without a rule
    batch = g.Shape(inputs[names.HISTORY], start=0, end=1)

    def of_rows(g: GraphBuilder, rows: ir.Value) -> ir.Value:
        every = g.Expand(added, g.Concat(batch, [n_rows], axis=0))  # (B, N + 1)
        ruled: ir.Value = g.Add(scored.of_rows(g, rows), g.GatherElements(every, rows, axis=1))
        return ruled

    return Scored(
        lambda part: g.sized(g.Add(scored.every_item(part), part(added)), "kept", n_rows),
        of_rows,
        scored.scan_depth,
    )


def _by_tags(
    g: GraphBuilder, inputs: dict[str, ir.Value], rules: ItemRules, n_rows: int
) -> list[ir.Value]:
    """What filters and boosts add to the scores, each (B, N + 1), or (1, 1) where it is unused."""
    lists = [inputs[name] for name in names.TAG_INPUTS]
    stored = TagItems.declare(g, rules, n_rows)
    widths = [g.Shape(one, start=1, end=2) for one in lists]
    looked_up = stored.look_up(g, g.Concat(*lists, axis=1))
    of_all, of_any, forbidden, boost = g.Split(
        looked_up, g.Concat(*widths, axis=0), axis=1, outputs=4
    )
    filters = Filters(rules, stored)

    def once(g: GraphBuilder) -> tuple[ir.Value, ir.Value]:
        return filters.of_any(g, lists[1], of_any)

    def none(g: GraphBuilder) -> tuple[ir.Value, ir.Value]:
        return g.Identity(of_any), g.Expand(0, [1, 1])

    any_once, carries = g.choose(g.Greater(widths[1], [0]), once, none)

    def filtered(g: GraphBuilder) -> list[ir.Value]:
        return [filters.penalty(g, of_all, forbidden, any_once, carries)]

    def boosted(g: GraphBuilder) -> list[ir.Value]:
        by = inputs[names.BOOST_BY]
        by = g.Clip(g.Where(g.IsNaN(by), 0.0, by), -_LARGEST_BOOST, _LARGEST_BOOST)
        values, listed = g.Mul(by, rules.boost_unit), stored.listed(g, boost)
        sums = stored.add_up(g, listed, values, g.Expand(0.0, stored.flat(g, boost)))
        return [g.Reshape(sums, [-1, n_rows])]

    n_filters = g.Add(g.Add(widths[0], widths[1]), widths[2])
    return [_if_any(g, n_filters, filtered), _if_any(g, widths[3], boosted)]


def _if_any(
    g: GraphBuilder, number: ir.Value, build: Callable[[GraphBuilder], list[ir.Value]]
) -> ir.Value:
    """The value of a branch, or one 0 where the number (1,) is 0."""

    def nothing(g: GraphBuilder) -> list[ir.Value]:
        return [g.Expand(0.0, [1, 1])]

    value: ir.Value = g.choose(g.Greater(number, [0]), build, nothing)
    return value


def _within_bounds(g: GraphBuilder, inputs: dict[str, ir.Value], rules: ItemRules) -> ir.Value:
    """-inf at items outside of a bound, (B, N + 1), or one 0 where there is no bound."""
    least, most = (inputs[name] for name in names.BOUNDS)  # (B, P)
    with_row_0 = [np.append(np.float32(np.nan), values) for values in rules.numbers.values()]
    stored = g.initializer("item_numbers", np.stack(with_row_0, axis=1))  # (N + 1, P)
    numbers = g.Unsqueeze(g.Transpose(stored, perm=[1, 0]), [0])  # (1, P, N + 1)
    is_bound = g.Not(g.And(g.IsNaN(least), g.IsNaN(most)))  # (B, P)
    n_bounds = g.ReduceSum(g.Cast(is_bound, to=ir.DataType.INT64), [0, 1], keepdims=0)

    def bounded(g: GraphBuilder) -> list[ir.Value]:
        low = g.Unsqueeze(g.Where(g.IsNaN(least), -np.inf, least), [2])  # (B, P, 1)
        high = g.Unsqueeze(g.Where(g.IsNaN(most), np.inf, most), [2])
        is_inside = g.And(g.GreaterOrEqual(numbers, low), g.LessOrEqual(numbers, high))
        fails = g.And(g.Unsqueeze(is_bound, [2]), g.Not(is_inside))  # (B, P, N + 1)
        some = g.ReduceMax(g.Cast(fails, to=ir.DataType.INT32), [1], keepdims=0)
        return [g.Where(g.Cast(some, to=ir.DataType.BOOL), -np.inf, 0.0)]

    return _if_any(g, g.Reshape(n_bounds, [1]), bounded)

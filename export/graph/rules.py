"""Rules of a request in the graph: which items may be shown, and which stand higher.

    score(j) + boosts of j, or -inf where a rule forbids j

The items of a tag are stored one tag after the other, so the work of a tag is its items, not the
catalogue. All filters of a request are counted in one whole number per item, in fields of bits:

    | impossible | one field a column: require_any | require_all | forbid |

An item passes if the field of `forbid` is 0, that of `require_all` is the number of tags required,
and every column of `require_any` counts 1 or more: 2^w - 1 added to a field of w bits carries into
the next bit exactly then. Equal tags of a list count once. What no rule uses is not computed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.side_inputs import look_up
from attnrec.export.graph.top_k import Scored
from attnrec.export.item_rules import ItemRules, column_of
from attnrec.runtime.model_file import format as names

_LARGEST_BOOST = 1e6
_MOST_BITS, _FEW_BITS = 62, 30


def rule_inputs(rules: ItemRules) -> dict[str, ir.Value]:
    """`require_all` (B, R), ..., `boost` and `boost_by` (B, G), `at_least` and `at_most` (B, P)."""
    text, real = ir.DataType.STRING, ir.DataType.FLOAT
    declared: dict[str, tuple[ir.DataType, str | int]] = {}
    if rules.tags:
        declared = {name: (text, axis) for name, axis in zip(names.TAG_INPUTS, "QRFG", strict=True)}
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
    added = parts[0]
    for part in parts[1:]:
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
    every = g.Concat(*lists, axis=1)
    widths = [g.Shape(one, start=1, end=2) for one in lists]
    rows = g.Split(look_up(g, every, list(rules.tags)), g.Concat(*widths, axis=0), axis=1, outputs=4)
    stored = _TagItems.declare(g, rules, n_rows)
    wanted, boost = _Wanted(rules, inputs, lists[1], rows[:3], widths[:3], stored), rows[3]

    def boosts(g: GraphBuilder) -> list[ir.Value]:
        by = inputs[names.BOOST_BY]
        by = g.Clip(g.Where(g.IsNaN(by), 0.0, by), -_LARGEST_BOOST, _LARGEST_BOOST)
        lengths = g.Gather(stored.lengths, boost, axis=0)
        return [stored.add_up(g, boost, lengths, g.Mul(by, rules.boost_unit), 0.0)]

    n_filters = g.Add(g.Add(widths[0], widths[1]), widths[2])
    return [
        _if_any(g, n_filters, wanted.penalty),
        _if_any(g, widths[3], boosts),
    ]


def _if_any(
    g: GraphBuilder, number: ir.Value, build: Callable[[GraphBuilder], list[ir.Value]]
) -> ir.Value:
    """The value of a branch, or one 0 where the number (1,) is 0."""

    def nothing(g: GraphBuilder) -> list[ir.Value]:
        return [g.Expand(0.0, [1, 1])]

    value: ir.Value = g.choose(g.Greater(number, [0]), build, nothing)
    return value


@dataclass(frozen=True)
class _TagItems:
    """The items of every tag; row 0 is no tag, and has none."""

    items: ir.Value  # (L,)
    starts: ir.Value  # (T + 1,)
    lengths: ir.Value  # (T + 1,)
    n_rows: int

    @classmethod
    def declare(cls, g: GraphBuilder, rules: ItemRules, n_rows: int) -> "_TagItems":
        kind = np.uint16 if n_rows <= np.iinfo(np.uint16).max else np.int32
        starts, lengths = np.append(0, rules.starts[:-1]), np.append(0, np.diff(rules.starts))
        return cls(
            g.initializer("tag_items", rules.rows.astype(kind)),
            g.initializer("tag_starts", starts),
            g.initializer("tag_lengths", lengths),
            n_rows,
        )

    def add_up(
        self,
        g: GraphBuilder,
        tags: ir.Value,
        lengths: ir.Value,
        values: ir.Value,
        zero: float | ir.Value,
    ) -> ir.Value:
        """Sum of the values of the tags of each item, (B, N + 1).

        tags, values: (B, S); lengths: how many items of each tag get its value, all or 0.
        """
        n_slots = g.Shape(tags, start=1, end=2)
        n_items = g.Reshape(lengths, [-1])  # (B * S,)
        ends = g.CumSum(n_items, 0)
        begins = g.Sub(ends, n_items)
        total = g.ReduceSum(n_items, [0], keepdims=0)
        # Which of the B * S slots each of the listed items belongs to.
        none = g.Mul(g.Range(0, g.Add(total, 1), 1), 0)
        one = g.Expand(1, g.Shape(begins))
        marks = g.ScatterElements(none, begins, one, axis=0, reduction="add")
        place = g.Range(0, total, 1)  # (M,)
        slot = g.Sub(g.Gather(g.CumSum(marks, 0), place, axis=0), 1)  # (M,)
        first = g.Sub(g.Gather(self.starts, g.Reshape(tags, [-1]), axis=0), begins)
        stored = g.Add(place, g.Gather(first, slot, axis=0))
        item = g.Cast(g.Gather(self.items, stored, axis=0), to=ir.DataType.INT64)
        there = g.Add(item, g.Mul(g.Div(slot, n_slots), self.n_rows))
        batch = g.Shape(tags, start=0, end=1)
        nothing = g.Expand(zero, g.Mul(batch, self.n_rows))
        value = g.Gather(g.Reshape(values, [-1]), slot, axis=0)
        sums = g.ScatterElements(nothing, there, value, axis=0, reduction="add")
        by_item: ir.Value = g.Reshape(sums, [-1, self.n_rows])
        return by_item


class _Wanted:
    """The filters of a call, and the fields of bits that they are counted in."""

    def __init__(
        self,
        rules: ItemRules,
        inputs: dict[str, ir.Value],
        any_tags: ir.Value,
        rows: list[ir.Value],
        widths: list[ir.Value],
        stored: _TagItems,
    ) -> None:
        self._rules, self._inputs, self._any_tags = rules, inputs, any_tags
        self._rows, self._widths, self._stored = rows, widths, stored
        n_items = stored.n_rows - 1
        own = rules.of_items(n_items)
        most = max((len(tags) for tags in own), default=0)
        in_column = {column: 1 for column in rules.columns}
        for tags in own:
            counted: dict[str, int] = {}
            for tag in tags:
                counted[column_of(tag)] = counted.get(column_of(tag), 0) + 1
            for column, n in counted.items():
                in_column[column] = max(in_column[column], n)
        self._most = most
        self._all_at = most.bit_length()
        at = 2 * self._all_at
        self._any_at, self._carry, self._fill = {}, {}, 0
        for column, n in in_column.items():
            self._any_at[column], self._carry[column] = 1 << at, 1 << (at + n.bit_length())
            self._fill |= self._carry[column] - self._any_at[column]
            at += n.bit_length() + 1
        self._impossible = 1 << at
        if at > _MOST_BITS:
            raise ValueError(
                f"the tags of {len(in_column)} columns need {at} bits an item, and there are "
                f"{_MOST_BITS}: name fewer columns with `tags`"
            )
        self._kind = np.int32 if at <= _FEW_BITS else np.int64

    def _number(self, g: GraphBuilder, value: int | list[int]) -> ir.Value:
        return g.constant(np.array(value, self._kind))

    def penalty(self, g: GraphBuilder) -> list[ir.Value]:
        """-inf at the items that do not pass, 0 at the others: (B, N + 1)."""
        rows = g.Concat(*self._rows, axis=1)  # (B, S)
        is_first = self._first(g, rows)
        shapes = [g.Shape(part) for part in self._rows]
        of_all, forbidden = 1 << self._all_at, 1
        by_tag = [0, *(self._any_at[column_of(tag)] for tag in self._rules.tags)]
        values = g.Concat(
            g.Expand(self._number(g, of_all), shapes[0]),
            g.Gather(g.initializer("tag_fields", np.array(by_tag, self._kind)), self._rows[1]),
            g.Expand(self._number(g, forbidden), shapes[2]),
            axis=1,
        )
        lengths = g.Mul(g.Gather(self._stored.lengths, rows, axis=0), is_first)
        found = self._stored.add_up(g, rows, lengths, values, self._number(g, 0))
        keep = (1 << (2 * self._all_at)) - 1 + sum(self._carry.values()) + self._impossible
        counted = g.BitwiseAnd(
            g.Add(found, self._number(g, self._fill)), self._number(g, keep)
        )  # (B, N + 1)
        wanted = g.Add(self._of_all(g, is_first), self._of_columns(g))  # (B, 1)
        return [g.Where(g.Equal(counted, wanted), 0.0, -np.inf)]

    def _first(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        """1 for one of the equal tags of a list, 0 for the others: (B, S)."""
        n_tags = len(self._rules.tags) + 1
        lists = [g.Expand(n * n_tags, width) for n, width in enumerate(self._widths)]
        key = g.Add(rows, g.Concat(*lists, axis=0))  # (B, S)
        batch, n_slots = g.Shape(rows, start=0, end=1), g.Shape(rows, start=1, end=2)
        zeros = g.Expand(0, g.Concat(batch, [3 * n_tags], axis=0))
        ones = g.Expand(1, n_slots)
        number = g.Expand(g.CumSum(ones, 0), g.Shape(rows))  # (B, S), from 1
        placed = g.ScatterElements(zeros, key, number, axis=1)
        same = g.Equal(g.GatherElements(placed, key, axis=1), number)
        first: ir.Value = g.Cast(same, to=ir.DataType.INT64)
        return first

    def _of_all(self, g: GraphBuilder, is_first: ir.Value) -> ir.Value:
        """The field of `require_all` that an item must have, (B, 1)."""
        rows = self._rows[0]
        is_given = self._is_given(g, self._inputs[names.REQUIRE_ALL])
        own = g.Slice(is_first, [0], self._widths[0], [1])
        is_known = g.Sign(rows)
        n_tags = g.ReduceSum(g.Mul(own, is_known), [1], keepdims=1)  # (B, 1)
        n_unknown = g.ReduceSum(g.Mul(is_given, g.Sub(1, is_known)), [1], keepdims=1)
        is_possible = g.And(g.LessOrEqual(n_tags, self._most), g.Equal(n_unknown, 0))
        field = g.Cast(g.Mul(g.Min(n_tags, self._most), 1 << self._all_at), to=self._to())
        impossible: ir.Value = g.Add(
            field, g.Where(is_possible, self._number(g, 0), self._number(g, self._impossible))
        )
        return impossible

    def _of_columns(self, g: GraphBuilder) -> ir.Value:
        """The carries of the columns of `require_any`, (B, 1); an unknown column is impossible."""
        columns = self._rules.columns
        # A known tag in front: then the split has two parts, whatever follows.
        batch = g.Shape(self._any_tags, start=0, end=1)
        before = g.Expand(g.constant_text(":"), g.Concat(batch, [1], axis=0))
        parts, _ = g.StringSplit(
            g.Concat(before, self._any_tags, axis=1), delimiter=":", maxsplit=1, outputs=2
        )  # (B, R + 1, 2)
        texts = g.Gather(g.Slice(parts, [1], [np.iinfo(np.int64).max], [1]), 0, axis=2)
        column = look_up(g, texts, list(columns))  # (B, R)
        is_given = self._is_given(g, self._any_tags)
        zeros = g.Expand(0, g.Concat(batch, [len(columns) + 1], axis=0))
        asked = g.ScatterElements(zeros, column, is_given, axis=1, reduction="max")
        carries = [self._impossible, *(self._carry[column] for column in columns)]
        fields = g.Mul(g.Cast(asked, to=self._to()), self._number(g, carries))
        wanted: ir.Value = g.ReduceSum(fields, [1], keepdims=1)
        return wanted

    def _is_given(self, g: GraphBuilder, tags: ir.Value) -> ir.Value:
        """1 for a tag, 0 for padding."""
        given: ir.Value = g.Cast(
            g.Not(g.Equal(tags, g.constant_text(""))), to=ir.DataType.INT64
        )
        return given

    def _to(self) -> ir.DataType:
        return ir.DataType.INT32 if self._kind is np.int32 else ir.DataType.INT64


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

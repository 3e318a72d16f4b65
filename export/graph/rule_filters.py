"""Which items the tags of a request allow, as a part of the graph.

All filters of a request are counted in one whole number per item, in fields of bits:

    | impossible | one field a column: require_any | require_all | forbid |

An item passes if the field of `forbid` is 0, that of `require_all` is the number of tags required,
and every column of `require_any` counts 1 or more: 2^w - 1 added to a field of w bits carries into
the next bit exactly then. Equal tags of a list count once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.side_inputs import look_up
from attnrec.export.item_rules import ItemRules, column_of

_MOST_BITS, _FEW_BITS = 62, 30


@dataclass(frozen=True)
class TagItems:
    """The items of every tag; row 0 is no tag, and has none."""

    items: ir.Value  # (L,)
    starts: ir.Value  # (T + 1,)
    lengths: ir.Value  # (T + 1,)
    n_rows: int

    @classmethod
    def declare(cls, g: GraphBuilder, rules: ItemRules, n_rows: int) -> "TagItems":
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
        last = g.Reshape(total, [1])
        slot = g.Sub(g.Slice(g.CumSum(marks, 0), [0], last, [0]), 1)  # (M,)
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


@dataclass(frozen=True)
class Fields:
    """Where the counts of an item lie in its number."""

    most: int
    """Tags of an item at most."""
    at_all: int
    """1 in the field of `require_all`; that of `forbid` begins at bit 0."""
    at_any: dict[str, int]
    """1 in the field of each column."""
    carry: dict[str, int]
    """The bit after the counts of each column."""
    impossible: int
    """A bit that no item has."""

    @classmethod
    def of(cls, rules: ItemRules) -> "Fields":
        """`ValueError` for more columns than a number has room for."""
        most = rules.most_tags()
        of_item = most.pop("")
        at_any, carry, at = {}, {}, 2 * of_item.bit_length()
        for column, n_tags in most.items():
            width = n_tags.bit_length()
            at_any[column], carry[column] = 1 << at, 1 << (at + width)
            at += width + 1
        if at > _MOST_BITS:
            raise ValueError(
                f"the tags of {len(at_any)} columns need {at} bits an item, and there are "
                f"{_MOST_BITS}: name fewer columns with `tags`"
            )
        return cls(of_item, 1 << of_item.bit_length(), at_any, carry, 1 << at)

    @property
    def kind(self) -> type[np.int32] | type[np.int64]:
        """The smallest whole number that holds them."""
        return np.int32 if self.impossible < 1 << _FEW_BITS else np.int64

    @property
    def fill(self) -> int:
        """What is added to make the carries."""
        return sum(self.carry[column] - one for column, one in self.at_any.items())

    @property
    def keep(self) -> int:
        """The bits that are compared."""
        return self.at_all**2 - 1 + sum(self.carry.values()) + self.impossible


class Filters:
    """The filters of a call: `require_all`, `require_any` and `forbid`, each (B, R)."""

    def __init__(
        self,
        rules: ItemRules,
        lists: Sequence[ir.Value],
        rows: Sequence[ir.Value],
        stored: TagItems,
    ) -> None:
        """lists: the three inputs; rows: the same as rows of tags, 0 for unknown ones."""
        self._tags, self._columns = rules.tags, rules.columns
        self._lists, self._rows, self._stored = lists, rows, stored
        self._fields = Fields.of(rules)
        self._to = ir.DataType.INT32 if self._fields.kind is np.int32 else ir.DataType.INT64

    def _number(self, g: GraphBuilder, value: int | list[int]) -> ir.Value:
        return g.constant(np.array(value, self._fields.kind))

    def penalty(self, g: GraphBuilder) -> list[ir.Value]:
        """-inf at the items that do not pass, 0 at the others: (B, N + 1)."""
        rows = g.Concat(*self._rows, axis=1)  # (B, S)
        is_first = self._first(g, rows)
        fields, shapes = self._fields, [g.Shape(part) for part in self._rows]
        by_tag = [0, *(fields.at_any[column_of(tag)] for tag in self._tags)]
        values = g.Concat(
            g.Expand(self._number(g, fields.at_all), shapes[0]),
            g.Gather(g.initializer("tag_fields", np.array(by_tag, fields.kind)), self._rows[1]),
            g.Expand(self._number(g, 1), shapes[2]),
            axis=1,
        )
        lengths = g.Mul(g.Gather(self._stored.lengths, rows, axis=0), is_first)
        found = self._stored.add_up(g, rows, lengths, values, self._number(g, 0))
        counted = g.BitwiseAnd(
            g.Add(found, self._number(g, fields.fill)), self._number(g, fields.keep)
        )  # (B, N + 1)
        wanted = g.Add(self._of_all(g, is_first), self._of_columns(g))  # (B, 1)
        passes = g.Cast(g.Equal(counted, wanted), to=ir.DataType.FLOAT)
        # 0 where it is 1, and -inf where it is 0: twice as fast as Where.
        return [g.Sub(1.0, g.Reciprocal(passes))]

    def _first(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        """1 for one of the equal tags of a list, 0 for the others: (B, S)."""
        n_tags = len(self._tags) + 1
        lists = [
            g.Expand(n * n_tags, g.Shape(part, start=1, end=2))
            for n, part in enumerate(self._rows)
        ]
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
        rows, fields = self._rows[0], self._fields
        is_given = self._is_given(g, self._lists[0])
        own = g.Slice(is_first, [0], g.Shape(rows, start=1, end=2), [1])
        is_known = g.Sign(rows)
        n_tags = g.ReduceSum(g.Mul(own, is_known), [1], keepdims=1)  # (B, 1)
        n_unknown = g.ReduceSum(g.Mul(is_given, g.Sub(1, is_known)), [1], keepdims=1)
        is_possible = g.And(g.LessOrEqual(n_tags, fields.most), g.Equal(n_unknown, 0))
        field = g.Cast(g.Mul(g.Min(n_tags, fields.most), fields.at_all), to=self._to)
        impossible: ir.Value = g.Add(
            field, g.Where(is_possible, self._number(g, 0), self._number(g, fields.impossible))
        )
        return impossible

    def _of_columns(self, g: GraphBuilder) -> ir.Value:
        """The carries of the columns of `require_any`, (B, 1); an unknown column is impossible."""
        columns, fields = self._columns, self._fields
        # A known tag in front: then the split has two parts, whatever follows.
        batch = g.Shape(self._lists[1], start=0, end=1)
        before = g.Expand(g.constant_text(":"), g.Concat(batch, [1], axis=0))
        parts, _ = g.StringSplit(
            g.Concat(before, self._lists[1], axis=1), delimiter=":", maxsplit=1, outputs=2
        )  # (B, R + 1, 2)
        texts = g.Gather(g.Slice(parts, [1], [np.iinfo(np.int64).max], [1]), 0, axis=2)
        column = look_up(g, texts, list(columns))  # (B, R)
        is_given = self._is_given(g, self._lists[1])
        zeros = g.Expand(0, g.Concat(batch, [len(columns) + 1], axis=0))
        asked = g.ScatterElements(zeros, column, is_given, axis=1, reduction="max")
        carries = [fields.impossible, *(fields.carry[column] for column in columns)]
        carried = g.Mul(g.Cast(asked, to=self._to), self._number(g, carries))
        wanted: ir.Value = g.ReduceSum(carried, [1], keepdims=1)
        return wanted

    def _is_given(self, g: GraphBuilder, tags: ir.Value) -> ir.Value:
        """1 for a tag, 0 for padding."""
        given: ir.Value = g.Cast(g.Not(g.Equal(tags, g.constant_text(""))), to=ir.DataType.INT64)
        return given

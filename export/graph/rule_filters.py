"""Which items the tags of a request allow, as a part of the graph.

All filters of a request are counted in one whole number per item, in fields of bits:

    | impossible | one field a column: require_any | require_all | forbid |

An item passes if the field of `forbid` is 0, that of `require_all` is the number of tags required,
and every column of `require_any` counts 1 or more: 2^w - 1 added to a field of w bits carries into
the next bit exactly then. Numbers are made for the items of the tags alone; all others have 0. A
node costs 2 microseconds however little it does, so what can be stored by tag is stored.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.side_inputs import ML, look_up
from attnrec.export.item_rules import ItemRules, column_of
from attnrec.runtime.rules import MOST_TAGS

_LISTED_BITS = MOST_TAGS.bit_length()
_MOST_BITS = 62


@dataclass(frozen=True)
class Listed:
    """The items of the tags of a call, one after the other."""

    there: ir.Value  # (M,): place of the item in a flat (B, N + 1)
    slot: ir.Value  # (M,): which of the B * S tags
    row: ir.Value  # (M,): of the batch


@dataclass(frozen=True)
class TagItems:
    """The items of every tag. Row 0 is padding and row T + 1 an unknown tag: they have none."""

    tags: tuple[str, ...]
    items: ir.Value  # (L,)
    starts: ir.Value  # (T + 2,)
    lengths: ir.Value  # (T + 2,)
    n_rows: int

    @classmethod
    def declare(cls, g: GraphBuilder, rules: ItemRules, n_rows: int) -> "TagItems":
        kind = np.uint16 if n_rows <= np.iinfo(np.uint16).max else np.int32
        return cls(
            rules.tags,
            g.initializer("tag_items", rules.rows.astype(kind)),
            g.initializer("tag_starts", np.array([0, *rules.starts[:-1], 0])),
            g.initializer("tag_lengths", np.array([0, *np.diff(rules.starts), 0])),
            n_rows,
        )

    def look_up(self, g: GraphBuilder, texts: ir.Value) -> ir.Value:
        """The row of each tag."""
        n_tags = len(self.tags)
        rows: ir.Value = g.op(
            "LabelEncoder",
            texts,
            domain=ML,
            keys_strings=["", *self.tags],
            values_int64s=list(range(n_tags + 1)),
            default_int64=n_tags + 1,
        )
        return rows

    def listed(self, g: GraphBuilder, rows: ir.Value) -> Listed:
        """The items of tags (B, S)."""
        flat = g.Reshape(rows, [-1])  # (B * S,)
        n_items = g.Gather(self.lengths, flat, axis=0)
        ends = g.CumSum(n_items, 0)
        begins = g.Sub(ends, n_items)
        total = g.ReduceSum(n_items, [0], keepdims=0)
        none = g.Mul(g.Range(0, g.Add(total, 1), 1), 0)
        ones = g.Add(g.Mul(n_items, 0), 1)
        marks = g.ScatterElements(none, begins, ones, axis=0, reduction="add")
        last = g.Reshape(total, [1])
        slot = g.Sub(g.Slice(g.CumSum(marks, 0), [0], last, [0]), 1)  # (M,)
        first = g.Sub(g.Gather(self.starts, flat, axis=0), begins)
        stored = g.Add(g.Range(0, total, 1), g.Gather(first, slot, axis=0))
        item = g.Cast(g.Gather(self.items, stored, axis=0), to=ir.DataType.INT64)
        row = g.Div(slot, g.Shape(rows, start=1, end=2))
        return Listed(g.Add(item, g.Mul(row, self.n_rows)), slot, row)

    def add_up(
        self, g: GraphBuilder, listed: Listed, values: ir.Value, zeros: ir.Value
    ) -> ir.Value:
        """Sums of the values (B, S) of the tags of each item, on zeros (B * (N + 1),)."""
        value = g.Gather(g.Reshape(values, [-1]), listed.slot, axis=0)
        sums: ir.Value = g.ScatterElements(zeros, listed.there, value, axis=0, reduction="add")
        return sums

    def flat(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        """The shape of all items of a batch in a row, (1,)."""
        size: ir.Value = g.Mul(g.Shape(rows, start=0, end=1), self.n_rows)
        return size


@dataclass(frozen=True)
class Fields:
    """Where the counts of an item lie in its number; that of `forbid` begins at bit 0."""

    at_all: int
    """1 in the field of `require_all`."""
    at_any: dict[str, int]
    """1 in the field of each column."""
    carry: dict[str, int]
    """The bit after the counts of each column."""
    impossible: int
    """A bit that no item has, with room for as many as there are tags in a list."""

    @classmethod
    def of(cls, rules: ItemRules) -> "Fields":
        """`ValueError` for more columns than a number has room for."""
        at_any, carry, at = {}, {}, 2 * _LISTED_BITS
        for column, n_tags in rules.most_tags().items():
            width = n_tags.bit_length()
            at_any[column], carry[column] = 1 << at, 1 << (at + width)
            at += width + 1
        if at + _LISTED_BITS > _MOST_BITS:
            raise ValueError(
                f"the tags of {len(at_any)} columns need {at + _LISTED_BITS} bits an item, and "
                f"there are {_MOST_BITS}: name fewer columns with `tags`"
            )
        return cls(1 << _LISTED_BITS, at_any, carry, 1 << at)

    @property
    def fill(self) -> int:
        """What is added to make the carries."""
        return sum(self.carry[column] - one for column, one in self.at_any.items())

    @property
    def keep(self) -> int:
        """The bits that are compared."""
        return self.at_all**2 - 1 + sum(self.carry.values()) + -self.impossible


class Filters:
    """The filters of a call: `require_all`, `require_any` and `forbid`, each (B, R)."""

    def __init__(self, rules: ItemRules, stored: TagItems) -> None:
        self._tags, self._columns = rules.tags, rules.columns
        self._stored, self._fields = stored, Fields.of(rules)

    def penalty(
        self,
        g: GraphBuilder,
        of_all: ir.Value,
        forbidden: ir.Value,
        of_any: ir.Value,
        carries: ir.Value,
    ) -> ir.Value:
        """-inf at the items that do not pass, 0 at the others: (B, N + 1).

        Rows of tags (B, R); of_any without repeats; carries: what its columns ask for, (B, 1).
        """
        stored, fields, n_tags = self._stored, self._fields, len(self._tags)
        lists = (of_all, forbidden, of_any)
        own = [  # by list: what an item gets for a tag, from padding to unknown
            [0, *[fields.at_all] * n_tags, 0],
            [0, *[1] * n_tags, 0],
            [0, *(fields.at_any[column_of(tag)] for tag in self._tags), 0],
        ]
        asked = [[0, *[fields.at_all] * n_tags, fields.impossible], *[[0] * (n_tags + 2)] * 2]
        kinds = [
            g.Expand(n * (n_tags + 2), g.Shape(one, start=1, end=2)) for n, one in enumerate(lists)
        ]
        rows = g.Concat(*lists, axis=1)  # (B, S)
        key = g.Add(rows, g.Concat(*kinds, axis=0))
        values = g.Gather(g.initializer("tag_fields", np.concatenate(own)), key, axis=0)
        wanted = g.Gather(g.initializer("tag_wanted", np.concatenate(asked)), key, axis=0)
        wanted = g.Add(g.ReduceSum(wanted, [1], keepdims=1), carries)  # (B, 1)
        listed = stored.listed(g, rows)
        counted = stored.add_up(g, listed, values, g.Expand(0, stored.flat(g, rows)))
        of_listed = g.BitwiseAnd(
            g.Add(g.Gather(counted, listed.there, axis=0), fields.fill), fields.keep
        )  # (M,)
        of_row = g.Gather(g.Reshape(wanted, [-1]), listed.row, axis=0)
        passes = g.Where(g.Equal(of_listed, of_row), 0.0, -np.inf)
        # Items without any of the tags have the number 0.
        others = g.Where(g.Equal(wanted, fields.fill & fields.keep), 0.0, -np.inf)  # (B, 1)
        shape = g.Concat(g.Shape(rows, start=0, end=1), [stored.n_rows], axis=0)
        every = g.Reshape(g.Expand(others, shape), [-1])
        placed = g.ScatterElements(every, listed.there, passes, axis=0)
        by_item: ir.Value = g.Reshape(placed, [-1, stored.n_rows])
        return by_item

    def of_any(
        self, g: GraphBuilder, texts: ir.Value, rows: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """The tags of `require_any` once each (B, R), and the carries they ask for (B, 1)."""
        return g.Mul(rows, self._first(g, rows)), self._carries(g, texts, rows)

    def _first(self, g: GraphBuilder, rows: ir.Value) -> ir.Value:
        """1 for one of the equal tags of a list, 0 for the others: (B, R)."""
        batch = g.Shape(rows, start=0, end=1)
        zeros = g.Expand(0, g.Concat(batch, [len(self._tags) + 2], axis=0))
        number = g.CumSum(g.Add(g.Mul(rows, 0), 1), 1)  # (B, R), from 1
        placed = g.ScatterElements(zeros, rows, number, axis=1)
        same = g.Equal(g.GatherElements(placed, rows, axis=1), number)
        first: ir.Value = g.Cast(same, to=ir.DataType.INT64)
        return first

    def _carries(self, g: GraphBuilder, texts: ir.Value, rows: ir.Value) -> ir.Value:
        columns, fields = self._columns, self._fields
        batch = g.Shape(rows, start=0, end=1)
        # A tag in front: then the split has two parts, whatever follows.
        before = g.Expand(g.constant_text(":"), g.Concat(batch, [1], axis=0))
        parts, _ = g.StringSplit(
            g.Concat(before, texts, axis=1), delimiter=":", maxsplit=1, outputs=2
        )  # (B, R + 1, 2)
        named = g.Gather(g.Slice(parts, [1], [np.iinfo(np.int64).max], [1]), 0, axis=2)
        column = look_up(g, named, list(columns))  # (B, R), 0 for an unknown one
        zeros = g.Expand(0, g.Concat(batch, [len(columns) + 1], axis=0))
        asked = g.ScatterElements(zeros, column, g.Sign(rows), axis=1, reduction="max")
        each = [fields.impossible, *(fields.carry[column] for column in columns)]
        carries: ir.Value = g.ReduceSum(g.Mul(asked, g.constant(np.array(each))), [1], keepdims=1)
        return carries

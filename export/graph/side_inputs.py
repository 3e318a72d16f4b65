"""Side inputs in the graph: raw ids of users and texts of tags become rows for the model."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from attnrec.export.graph.builder import GraphBuilder
from attnrec.runtime.model_file import format as names
from attnrec.train.data.users import Users

ML = "ai.onnx.ml"


def caller_inputs(users: Users, declared: Sequence[str]) -> dict[str, ir.Value]:
    """The side inputs of the file, where declared.

    `user` (B,), `user_tags` (B, A), `timestamps` (B, T) of the history, `request_time` (B,).
    """
    ids = ir.DataType.INT64 if users.ids.dtype == np.int64 else ir.DataType.STRING
    known = {names.USER: (ids, ["B"]), names.USER_TAGS: (ir.DataType.STRING, ["B", "A"])}
    known[names.TIMESTAMPS] = (ir.DataType.INT64, ["B", "M"])
    known[names.REQUEST_TIME] = (ir.DataType.INT64, ["B"])
    return {
        name: ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(axes))
        for name, (kind, axes) in known.items()
        if name in declared
    }


def rows_of_caller(
    g: GraphBuilder, inputs: dict[str, ir.Value], users: Users
) -> dict[str, ir.Value]:
    """Rows of the user and of tags; 0 for what is unknown. Tags given replace the stored ones."""
    rows: dict[str, ir.Value] = {}
    if names.USER in inputs:
        rows[names.USER] = look_up(g, inputs[names.USER], users.ids.tolist())  # (B,)
    if names.USER_TAGS in inputs:
        given = look_up(g, inputs[names.USER_TAGS], list(users.tags))  # (B, A)
        rows[names.USER_TAGS] = given
        if names.USER in inputs:
            table = g.initializer("user_tag_rows", users.tag_rows)  # (n_users + 1, A')
            stored = g.Gather(table, rows[names.USER], axis=0)  # (B, A')
            none_given = g.Equal(g.ReduceSum(given, [1], keepdims=1), 0)  # (B, 1)
            stored = g.Mul(stored, g.Cast(none_given, to=ir.DataType.INT64))
            rows[names.USER_TAGS] = g.Concat(stored, given, axis=1)  # (B, A' + A)
    return rows


def times_of_caller(
    g: GraphBuilder, inputs: dict[str, ir.Value], place: Callable[[ir.Value, int], ir.Value]
) -> dict[str, ir.Value]:
    """Times of the events that count, (B, W), and of the request (B,), where declared.

    place: puts what belongs to the events of the history where the events went. Times that are
    missing at the end, or altogether, are unknown.
    """
    if names.TIMESTAMPS not in inputs:
        return {}
    history, timestamps = inputs[names.HISTORY], inputs[names.TIMESTAMPS]
    unknown = g.Expand(names.NO_TIME, g.Shape(history))  # (B, T)
    enough = g.Concat(timestamps, unknown, axis=1)
    fitting = g.Slice(enough, [0], g.Shape(history, start=1, end=2), [1])  # (B, T)
    timed = place(fitting, names.NO_TIME)
    return {names.TIMESTAMPS: timed, names.REQUEST_TIME: inputs[names.REQUEST_TIME]}


def look_up(g: GraphBuilder, ids: ir.Value, known: list[int] | list[str]) -> ir.Value:
    """Row of each id, counted from 1 in `known`; 0 for any other."""
    keys: dict[str, Any] = {"keys_int64s" if isinstance(known[0], int) else "keys_strings": known}
    rows: ir.Value = g.op(
        "LabelEncoder",
        ids,
        domain=ML,
        **keys,
        values_int64s=list(range(1, len(known) + 1)),
        default_int64=0,
    )
    return rows

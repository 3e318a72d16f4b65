"""Recommendations for everybody in a table: histories in, answers out, as Arrow columns.

In this package because a device has no pyarrow, and because a log is read as in training. Without
torch.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from attnrec.runtime import ModelInfo, Recommender
from attnrec.runtime.errors import DataError
from attnrec.runtime.model_file import format as names
from attnrec.train.data.tables import check_columns

# Arguments of `recommend_batch` by the column that they are read from.
_ARGUMENTS = {
    names.HISTORY: "histories", names.USER: "users", names.USER_TAGS: "user_tags",
    names.TIMESTAMPS: "timestamps", names.REQUEST_TIME: "request_times",
}  # fmt: skip


def recommend_table(
    recommender: Recommender,
    table: Any,
    k: int = 10,
    *,
    id_col: str = "user_id",
    exclude: Sequence[int | str] | None = None,
    candidates: Sequence[int | str] | None = None,
    request_time: int | None = None,
) -> Any:
    """`recommend_batch` for the rows of a table: `id_col`, `item_id` and `score`, in their order.

    table: a pyarrow.Table or RecordBatch with the ids of users, the column `history` (lists of
    raw item ids, oldest first) and those of side inputs. A missing history (null) counts as
    empty; without a column `user` the id is the user. exclude, candidates: for every row.
    request_time: where there are timestamps without a column of this name. Returns a
    pyarrow.Table with lists, best first. `DataError` for a column that is missing or of a wrong
    type, `ValueError` for what `recommend_batch` refuses.
    """
    columns = argument_columns(recommender.info, "the table", table.schema, id_col, request_time)
    given = {argument: table[column].to_pylist() for argument, column in columns.items()}
    if request_time is not None:
        times = given["timestamps"]
        given["request_times"] = [None if own is None else request_time for own in times]
    for name, ids in (("exclude", exclude), ("candidates", candidates)):
        if ids is not None:
            given[name] = [ids] * table.num_rows
    histories = [ids or () for ids in given.pop("histories")]
    answers = recommender.recommend_batch(histories, k, **given)
    lists = [one.item_ids for one in answers], [one.scores for one in answers]
    schema = answer_schema(recommender.info, table.schema.field(id_col))
    return pa.table([table[id_col], *lists], schema=schema)


def answer_schema(info: ModelInfo, users: Any) -> Any:
    """The columns of the answers; users: the Arrow field of the ids."""
    ids = pa.string() if info.id_type == "string" else pa.int64()
    return pa.schema([users, ("item_id", pa.list_(ids)), ("score", pa.list_(pa.float32()))])


def argument_columns(
    info: ModelInfo, name: str, schema: Any, id_col: str, request_time: int | None
) -> dict[str, str]:
    """The column of a table for each argument of `recommend_batch`; `DataError` for a wrong one.

    name: of the table, for messages.
    """
    present, remedy = schema.names, "rename the right one, or select it under that name"
    check_columns(name, present, dict.fromkeys([id_col, names.HISTORY], remedy))
    wanted = {
        names.HISTORY: f"lists of {info.id_type}", names.USER: info.user_id_type,
        names.USER_TAGS: "lists of string", names.TIMESTAMPS: "lists of int64",
        names.REQUEST_TIME: "int64",
    }  # fmt: skip
    found = {}
    for own in (own for own in wanted if own in info.inputs):
        column = id_col if own == names.USER and own not in present else own
        if column not in present:
            continue
        kind = _kind(schema.field(column).type)
        if kind != wanted[own] and "null" not in kind:
            problem = f"column {column!r} holds {kind}, and this file wants {wanted[own]}"
            raise DataError(f"{name}: {problem} for its input {own!r}", "convert the column first")
        found[_ARGUMENTS[own]] = column
    n_request_times = ("request_times" in found) + (request_time is not None)
    if n_request_times != ("timestamps" in found):
        raise DataError(
            f"{name}: times count only together: a column 'timestamps', and either a column "
            "'request_time' or `request_time`; give both, or neither"
        )
    return found


def _kind(kind: Any) -> str:
    """A type of Arrow as "int64", "string" or "lists of string"; others by their own name."""
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if hasattr(kind, "value_type"):
        return f"lists of {_kind(kind.value_type)}"
    if pa.types.is_integer(kind):
        return "int64"
    return "string" if "string" in str(kind) else str(kind)


def histories_of_log(
    model: Path, info: ModelInfo, log: Path, request_time: int | None
) -> tuple[Any, int | None]:
    """A table with a row for each user of a log that is read as in training, and when it is asked.

    request_time: None: at the newest event, where the model looks at times and the log has any.
    """
    # Only here: with a table of histories there is no need for pandas and scipy.
    from attnrec.train.data.held_out import every_history
    from attnrec.train.evaluation.files import log_to_evaluate

    # Rare items and short histories matter for learning; here everybody is answered.
    recipe = info.data["recipe"] | {"min_item_events": 1, "min_user_events": 1}
    read = log_to_evaluate(model, replace(info, data={**info.data, "recipe": recipe}), log)
    found = every_history(read.events)
    columns = {recipe["user_col"]: found.users, names.HISTORY: found.histories}
    if names.TIMESTAMPS in info.inputs and read.has_times:
        columns[names.TIMESTAMPS] = found.timestamps
        if request_time is None:
            request_time = int(read.events.timestamps.max())
    return pa.table({name: pa.array(values) for name, values in columns.items()}), request_time

"""Recommendations for everybody in a table or a log: Arrow columns in, Arrow columns out.

In this package because a device has no pyarrow, and because a log is read as in training. Without
torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from attnrec.runtime import ModelInfo, Recommender
from attnrec.runtime.errors import DataError
from attnrec.runtime.model_file import format as names
from attnrec.train.data.tables import check_columns
from attnrec.train.evaluation.files import log_to_evaluate
from attnrec.train.splits.held_out import HeldOut, every_history


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
    request_time: for every row, in place of the column. Returns a pyarrow.Table with lists, best
    first. `DataError` for a column that is missing or of a wrong type, `ValueError` for what
    `recommend_batch` refuses.
    """
    given: dict[str, Any] = _arguments(recommender.info, table, id_col)
    if request_time is not None:
        times = given.get("timestamps", [()] * table.num_rows)
        given["request_times"] = [None if own is None else request_time for own in times]
    for name, ids in (("exclude", exclude), ("candidates", candidates)):
        if ids is not None:
            given[name] = [ids] * table.num_rows
    histories = [ids or () for ids in given.pop("histories")]
    answers = recommender.recommend_batch(histories, k, **given)
    lists = [one.item_ids for one in answers], [one.scores for one in answers]
    kind = pa.string() if recommender.info.id_type == "string" else pa.int64()
    types = [("item_id", pa.list_(kind)), ("score", pa.list_(pa.float32()))]
    schema = pa.schema([table.schema.field(id_col), *types])
    return pa.table([table[id_col], *lists], schema=schema)


def _arguments(info: ModelInfo, table: Any, id_col: str) -> dict[str, list[Any]]:
    """What `recommend_batch` takes, from the columns that are there."""
    present, remedy = table.schema.names, "rename the right one, or select it under that name"
    check_columns("the table", present, dict.fromkeys([id_col, names.HISTORY], remedy))
    wanted = {
        names.HISTORY: ("histories", f"lists of {info.id_type}"),
        names.USER: ("users", info.user_id_type),
        names.USER_TAGS: ("user_tags", "lists of string"),
        names.TIMESTAMPS: ("timestamps", "lists of int64"),
        names.REQUEST_TIME: ("request_times", "int64"),
    }
    found = {}
    for name, (argument, kind) in wanted.items():
        column = id_col if name == names.USER and name not in present else name
        if name in info.inputs and column in present:
            own = _kind(table.schema.field(column).type)
            if own != kind and "null" not in own:
                problem = f"column {column!r} holds {own}, the input {name!r} of this file {kind}"
                raise DataError(problem, "convert the column first")
            found[argument] = table[column].to_pylist()
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


def read_histories(path: Path, info: ModelInfo, log: Path) -> HeldOut:
    """Everybody's whole history in a log that is read as in training; asked at its newest event.

    path: of the model file. Without times where the log has only an order.
    """
    # Rare items and short histories matter for learning; here everybody is answered.
    recipe = info.data["recipe"] | {"min_item_events": 1, "min_user_events": 1}
    read = log_to_evaluate(path, replace(info, data={**info.data, "recipe": recipe}), log)
    found = every_history(read.events)
    found.request_times[:] = read.events.timestamps.max()
    return found if read.has_times else replace(found, timestamps=[])


def tables_of(found: HeldOut, info: ModelInfo, n_rows: int) -> Iterator[Any]:
    """The histories as tables for `recommend_table`, so many rows at once."""
    for start in range(0, len(found.users), n_rows):
        some = found.between(start, start + n_rows)
        columns = {info.data["recipe"]["user_col"]: some.users, names.HISTORY: some.histories}
        if found.timestamps and names.TIMESTAMPS in info.inputs:
            columns[names.TIMESTAMPS] = some.timestamps
            columns[names.REQUEST_TIME] = some.request_times
        yield pa.table({name: pa.array(values) for name, values in columns.items()})

"""From a log in a file or a DataFrame to `Interactions`, with a report of what was done."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.errors import DataError
from attnrec.train.checks import check_kind
from attnrec.train.data.filters import (
    check_usable,
    event_weights,
    frequent_events,
    keep_event_types,
    keep_min_rating,
    without_repeats,
)
from attnrec.train.data.ids import code_ids
from attnrec.train.data.interactions import Interactions, blocks, grouped_rows
from attnrec.train.data.item_columns import ItemColumns
from attnrec.train.data.movielens import read_movielens
from attnrec.train.data.recipe import DataRecipe, DataReport, IdType
from attnrec.train.data.side_tables import with_items, with_users
from attnrec.train.data.sources import recognise
from attnrec.train.data.tables import TableSource, naming, read_table
from attnrec.train.data.timestamps import EventTimes, read_times


class IdTypes(NamedTuple):
    """Types of the ids that a log must have to fit a run; "auto": as its ids allow."""

    user: IdType
    item: IdType


_DEFAULT_RECIPE = DataRecipe()
_EVENTS_AT_ONCE = 1 << 22  # sorted together: 400 MB with what sorts them


def load_interactions(
    source: TableSource,
    recipe: DataRecipe = _DEFAULT_RECIPE,
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
    of_run: IdTypes | None = None,
) -> tuple[Interactions, DataReport]:
    """Read a log (files, a folder of them or a DataFrame) and prepare it as `recipe` says.

    `items`: a table of the same kinds with an item and a title column; the first row of an item
    counts, an item without a row gets the title "". `users`: likewise, with a user column and
    the columns of the tags. Users and items are numbered by their first row in the log. The
    events of a user are ordered by time in full precision, events of the same time stay in the
    order of the log. Rows of other event types and low ratings are dropped before their ids and
    times are checked. A folder or archive of MovieLens brings its own tables. `of_run`: the
    recipe was made for another log; this one gets ids of these types, and may lack some of the
    event types.
    Raises `DataError`, naming file, column, row and remedy, and ``ValueError`` where a table or
    its columns are not given.
    """
    check_kind("recipe", recipe, DataRecipe, "write DataRecipe(item_col=NAME, ...)")
    source, items, users = _tables(source, items, users, recipe)
    rows = _read_rows(source, recipe, of_run)
    memory = pa.default_memory_pool()
    memory.release_unused()  # else Arrow keeps gigabytes that nothing needs any more
    data, dropped = _prepare(rows, recipe)
    memory.release_unused()
    columns = None
    if items is not None:
        data, columns = with_items(data, items, recipe)
    if users is not None:
        data = with_users(data, users, recipe)
    return data, _report(rows, data, dropped, columns)


class NewerEvents(NamedTuple):
    """Events without an order by user, for what is only counted."""

    name: str
    user_ids: IdArray  # (n_users,)
    item_ids: IdArray  # (n_items,)
    user_index: NDArray[np.int32]  # (n_events,)
    item_index: NDArray[np.int32]  # (n_events,)
    timestamps: NDArray[np.int64]  # (n_events,)
    weights: NDArray[np.float32] | None
    time_unit: str


def read_events(source: TableSource, recipe: DataRecipe, of_run: IdTypes) -> NewerEvents:
    """Events of the types and ratings that `recipe` keeps, however few. `DataError` as above."""
    rows = _read_rows(source, recipe, of_run)
    user, item, seconds = (rows.columns[name] for name in ("user", "item", "seconds"))
    weights, unit = rows.columns.get("weight"), rows.times.unit
    ids = rows.user_ids, rows.item_ids
    return NewerEvents(rows.name, *ids, user, item, seconds, weights, unit)


def _tables(
    source: TableSource, items: TableSource | None, users: TableSource | None, recipe: DataRecipe
) -> tuple[TableSource, TableSource | None, TableSource | None]:
    """The log, the items table and the users table; MovieLens brings all of them."""
    _, names = recognise(source)
    recipe.check_tables(
        items=items is not None or bool(names),
        users=users is not None,
        movielens_users=len(names) > 2,
    )
    movielens = read_movielens(source)
    if movielens is not None:
        source, films, movielens_users = movielens
        items = films if items is None else items
        users = movielens_users if users is None and recipe.tag_cols else users
    return source, items, users


class _Rows(NamedTuple):
    """The rows of a log that count, coded; the text of the log is no longer in memory."""

    name: str
    rows_read: int
    user_ids: IdArray
    item_ids: IdArray
    times: EventTimes  # without the times themselves
    columns: dict[str, NDArray[Any]]  # user, item, seconds, key, perhaps weight; emptied when used
    dropped: dict[str, int]  # named like the fields of the report


def _read_rows(source: TableSource, recipe: DataRecipe, of_run: IdTypes | None) -> _Rows:
    raw = read_table(source, _wanted(recipe), (recipe.user_col, recipe.item_col), recipe.sep)
    if raw.n_rows == 0:
        raise DataError(f"{raw.name}: there is a header but no row")
    typed = keep_event_types(raw, recipe, may_lack_types=of_run is not None)
    rated = keep_min_rating(typed, recipe)
    dropped = {
        "dropped_event_type": raw.n_rows - typed.n_rows,
        "dropped_rating": typed.n_rows - rated.n_rows,
    }
    id_types = of_run or IdTypes(recipe.id_type, recipe.id_type)
    users = code_ids(rated, recipe.user_col, id_types.user, padding=False)
    items = code_ids(rated, recipe.item_col, id_types.item, padding=True)
    times = read_times(rated, recipe.time_col, recipe.time_unit)
    columns: dict[str, NDArray[Any]] = {"user": users.codes, "item": items.codes}
    columns |= {"seconds": times.seconds, "key": times.key}
    if (weights := event_weights(rated, recipe)) is not None:
        columns["weight"] = weights
    times = replace(times, key=times.key[:0].copy(), seconds=times.seconds[:0].copy())
    return _Rows(raw.name, raw.n_rows, users.ids, items.ids, times, columns, dropped)


def _prepare(rows: _Rows, recipe: DataRecipe) -> tuple[Interactions, dict[str, int]]:
    """Order and filter the rows; the counts are named like the fields of the report."""
    n_rows = len(rows.columns["user"])
    events = pd.concat(_by_user_and_time(rows, recipe), ignore_index=True)
    rows.columns.clear()
    n_repeated = n_rows - len(events)
    events, dropped = frequent_events(events, recipe)
    dropped = {**rows.dropped, **dropped, "dropped_repeated": n_repeated}
    check_usable(rows.name, events, dropped, recipe)
    return _assemble(events, rows.user_ids, rows.item_ids), dropped


def _by_user_and_time(rows: _Rows, recipe: DataRecipe) -> Iterator[pd.DataFrame]:
    """The events of some users at a time, in order; events of the same time as in the log."""
    columns = dict(rows.columns)
    key = columns.pop("key")
    offsets, order = grouped_rows(columns["user"], len(rows.user_ids))
    for first, last in blocks(offsets, _EVENTS_AT_ONCE):
        own = order[offsets[first] : offsets[last]]
        own = own[_order(columns["user"][own], key[own])]
        events = pd.DataFrame({name: values[own] for name, values in columns.items()})
        yield events if recipe.repeats else without_repeats(events).reset_index(drop=True)


def _order(user: NDArray[np.int32], key: NDArray[Any]) -> NDArray[np.int64]:
    """Places by user and key (n,), of the same ones as they stand; users are sorted already."""
    low, span = key.min(), int(key.max()) - int(key.min()) + 1
    if key.dtype == np.int64 and span * (int(user[-1]) - int(user[0]) + 1) < 2**63:
        # As one number: seven times as fast as two keys.
        return np.argsort((user - user[0]) * np.int64(span) + (key - low), kind="stable")
    return np.lexsort((key, user))


def _report(
    rows: _Rows, data: Interactions, dropped: dict[str, int], columns: ItemColumns | None
) -> DataReport:
    times = rows.times
    return DataReport(
        source=rows.name,
        rows_read=rows.rows_read,
        **dropped,
        n_users=data.n_users,
        n_users_evaluable=int(np.count_nonzero(np.diff(data.offsets) >= 3)),
        n_items=data.n_items,
        n_events=data.n_events,
        user_id_type=_type_name(data.user_ids),
        item_id_type=_type_name(data.item_ids),
        time_unit=times.unit,
        time_unit_guessed=times.guessed,
        first_time=_iso(times.unit, int(data.timestamps.min())),
        last_time=_iso(times.unit, int(data.timestamps.max())),
        n_titles=None if data.titles is None else int(np.count_nonzero(data.titles != "")),
        fingerprint=data.fingerprint(),
        n_described=data.n_described,
        n_tagged=_n_filled(data.user_tags),
        item_columns=None if columns is None else columns.to_json(),
    )


def _n_filled(tuples: NDArray[np.object_] | None) -> int | None:
    return None if tuples is None else int(np.count_nonzero(tuples))


def _wanted(recipe: DataRecipe) -> dict[str, str]:
    """The columns to read, each with the remedy where it is missing."""
    no_times = "; where there are no times, add a column that numbers the rows"
    wanted = {
        recipe.user_col: naming("user_col"),
        recipe.item_col: naming("item_col"),
        recipe.time_col: naming("time_col") + no_times,
    }
    if recipe.events or recipe.event_weights:
        wanted[recipe.event_col] = naming("event_col")
    if recipe.min_rating is not None:
        wanted[recipe.rating_col] = naming("rating_col")
    return wanted


def _assemble(events: pd.DataFrame, user_ids: IdArray, item_ids: IdArray) -> Interactions:
    """Leave out the users and items without an event; the others keep their sequence."""
    n_of_user = np.bincount(events["user"], minlength=len(user_ids))
    n_of_item = np.bincount(events["item"], minlength=len(item_ids))
    new_item = (np.cumsum(n_of_item > 0) - 1).astype(np.int32)
    return Interactions(
        user_ids=user_ids[n_of_user > 0],
        item_ids=item_ids[n_of_item > 0],
        offsets=np.concatenate(([0], np.cumsum(n_of_user[n_of_user > 0]))).astype(np.int64),
        item_index=new_item[events["item"]],
        timestamps=np.array(events["seconds"]),  # pandas hands out read-only memory
        titles=None,
        weights=np.array(events["weight"]) if "weight" in events else None,
    )


def _type_name(ids: IdArray) -> str:
    return "int64" if ids.dtype == np.int64 else "string"


def _iso(unit: str, seconds: int) -> str | None:
    if unit == "order":
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        # A unit forced by the recipe can give a year that no calendar knows.
        return f"{seconds} s"

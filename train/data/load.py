"""From a log in a file or a DataFrame to `Interactions`, with a report of what was done."""

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
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
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.movielens import read_movielens
from attnrec.train.data.recipe import DataRecipe, DataReport, IdType
from attnrec.train.data.side_tables import with_items, with_users
from attnrec.train.data.sources import recognise
from attnrec.train.data.tables import RawTable, TableSource, naming, read_table
from attnrec.train.data.timestamps import EventTimes, read_times


class IdTypes(NamedTuple):
    """Types of the ids that a log must have to fit a run; "auto": as its ids allow."""

    user: IdType
    item: IdType


_DEFAULT_RECIPE = DataRecipe()


def load_interactions(
    source: TableSource,
    recipe: DataRecipe = _DEFAULT_RECIPE,
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
    of_run: IdTypes | None = None,
) -> tuple[Interactions, DataReport]:
    """Read a log (CSV, CSV.gz, Parquet or a DataFrame) and prepare it as `recipe` says.

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
    raw = read_table(source, _wanted(recipe), (recipe.user_col, recipe.item_col), recipe.sep)
    if raw.n_rows == 0:
        raise DataError(f"{raw.name}: there is a header but no row")
    typed = keep_event_types(raw, recipe, may_lack_types=of_run is not None)
    rated = keep_min_rating(typed, recipe)
    data, times, dropped = _prepare(
        rated, recipe, of_run or IdTypes(recipe.id_type, recipe.id_type)
    )
    if items is not None:
        data = with_items(data, items, recipe)
    if users is not None:
        data = with_users(data, users, recipe)
    dropped["dropped_event_type"] = raw.n_rows - typed.n_rows
    dropped["dropped_rating"] = typed.n_rows - rated.n_rows
    return data, _report(raw, data, times, dropped)


def _tables(
    source: TableSource, items: TableSource | None, users: TableSource | None, recipe: DataRecipe
) -> tuple[TableSource, TableSource | None, TableSource | None]:
    """The log, the items table and the users table; MovieLens brings all of them."""
    if items is not None and not recipe.reads_items:
        raise ValueError(
            "an items table is read for its titles and attributes; name columns with `title_col` "
            "or `attribute_cols`"
        )
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


def _prepare(
    raw: RawTable, recipe: DataRecipe, id_types: IdTypes
) -> tuple[Interactions, EventTimes, dict[str, int]]:
    """Code, order and filter the rows; the counts are named like the fields of the report."""
    users = code_ids(raw, recipe.user_col, id_types.user, padding=False)
    items = code_ids(raw, recipe.item_col, id_types.item, padding=True)
    times = read_times(raw, recipe.time_col, recipe.time_unit)
    weights = event_weights(raw, recipe)
    columns = {"user": users.codes, "item": items.codes, "seconds": times.seconds}
    events = pd.DataFrame(columns if weights is None else {**columns, "weight": weights})
    # lexsort is stable: events of the same time stay in the order of the log.
    events = events.iloc[np.lexsort((times.key, users.codes))]
    if not recipe.repeats:
        events = without_repeats(events)
    n_repeated = raw.n_rows - len(events)
    events, dropped = frequent_events(events, recipe)
    dropped["dropped_repeated"] = n_repeated
    check_usable(raw.name, events, dropped, recipe)
    return _assemble(events, users.ids, items.ids), times, dropped


def _report(
    raw: RawTable, data: Interactions, times: EventTimes, dropped: dict[str, int]
) -> DataReport:
    return DataReport(
        source=raw.name,
        rows_read=raw.n_rows,
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
        n_described=_n_filled(data.item_attributes),
        n_tagged=_n_filled(data.user_tags),
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

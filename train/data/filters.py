"""Which events of a log count: by type, by rating, once per item, and often enough."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnrec.runtime.errors import DataError, counted
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.tables import RawTable, first_failure, shown


def keep_event_types(
    raw: RawTable, recipe: DataRecipe, *, may_lack_types: bool = False
) -> RawTable:
    """The rows whose event type is one of `recipe.events`.

    `DataError` at a type that no row has: a misspelt one would leave out all its events.
    may_lack_types: only if there is a row of none of them.
    """
    if not recipe.events:
        return raw
    column = _event_types(raw, recipe)
    kinds = pa.array(recipe.events, pa.string())
    kept = raw.keep(pc.is_in(column, value_set=kinds).to_numpy())
    if kept.n_rows == 0 or not may_lack_types:
        _check_types(raw, recipe, column, kinds, "`events`")
    return kept


def event_weights(raw: RawTable, recipe: DataRecipe) -> NDArray[np.float32] | None:
    """Weight of each row (n_rows,) by its type; None where the recipe has none.

    `DataError` at a type that no row has: a misspelt one would go unnoticed.
    """
    if not recipe.event_weights:
        return None
    column = _event_types(raw, recipe)
    kinds = pa.array(recipe.event_weights, pa.string())
    _check_types(raw, recipe, column, kinds, "`event_weights`, `events`")
    weights = np.array([*recipe.event_weights.values(), 1], np.float32)
    found: NDArray[np.float32] = weights[pc.index_in(column, value_set=kinds).fill_null(-1)]
    return found


def _event_types(raw: RawTable, recipe: DataRecipe) -> Any:
    try:
        return raw.decoded(recipe.event_col).cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise raw.column_error(
            recipe.event_col, f"the event types are no text ({error})"
        ) from error


def _check_types(
    raw: RawTable, recipe: DataRecipe, column: Any, kinds: Any, settings: str
) -> None:
    present = column.unique()
    missing = kinds.filter(pc.invert(pc.is_in(kinds, value_set=present)))
    if len(missing):
        listed = ", ".join(shown(kind) for kind in present.to_pylist()[:10])
        problem = f"no row has the event type {missing[0].as_py()!r}, there are {listed}"
        raise raw.column_error(recipe.event_col, problem, f"see {settings}")


def keep_min_rating(raw: RawTable, recipe: DataRecipe) -> RawTable:
    """The rows rated `recipe.min_rating` or more. `DataError` at a rating that is no number."""
    if recipe.min_rating is None:
        return raw
    ratings = _ratings(raw, recipe.rating_col)
    kept = raw.keep(ratings >= recipe.min_rating)
    if kept.n_rows == 0:
        problem = f"no rating reaches {recipe.min_rating}, the highest is {ratings.max()}"
        raise raw.column_error(recipe.rating_col, problem, "lower `min_rating`")
    return kept


def _ratings(raw: RawTable, column: str) -> NDArray[np.float64]:
    def convert(part: Any) -> Any:
        return part.cast(pa.float64())

    values = raw.decoded(column)
    problem = "is not a rating; correct it or drop the row"
    remedy = "or leave out `min_rating`"
    try:
        ratings: NDArray[np.float64] = convert(values).to_numpy()
    except pa.ArrowInvalid as error:
        row = first_failure(values, convert)
        raise raw.error(column, row, f"{shown(values[row].as_py())} {problem}", remedy) from error
    except pa.ArrowNotImplementedError as error:
        raise raw.column_error(column, f"type {values.type} is no rating") from error
    missing = np.isnan(ratings)
    if missing.any():
        row = int(np.argmax(missing))
        raise raw.error(column, row, f"{shown(values[row].as_py())} {problem}", remedy)
    return ratings


def without_repeats(events: pd.DataFrame) -> pd.DataFrame:
    """The first event of each user with each item, with the largest weight of those after it.

    events: in order, with the columns user and item, perhaps weight. So what is seen and then
    bought stays once, at the time of the view and with the weight of the purchase.
    """
    n_items = int(events["item"].max()) + 1 if len(events) else 1
    pairs = events["user"].astype("int64") * n_items + events["item"]
    if "weight" in events:
        events = events.assign(weight=events.groupby(pairs)["weight"].transform("max"))
    return events[~pairs.duplicated()]


def frequent_events(
    events: pd.DataFrame, recipe: DataRecipe
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The events left when rare items and short users are dropped in turn until none is left.

    events: with the codes of the columns user and item. Also the events dropped for each reason,
    by the fields of `DataReport`. Items go first in each round.
    """
    limits = {
        "dropped_rare_items": ("item", recipe.min_item_events),
        "dropped_short_users": ("user", recipe.min_user_events),
    }
    dropped = dict.fromkeys(limits, 0)
    before = -1
    while len(events) != before:
        before = len(events)
        for reason, (column, minimum) in limits.items():
            codes = events[column].to_numpy()
            kept = events[np.bincount(codes)[codes] >= minimum] if minimum > 1 else events
            dropped[reason] += len(events) - len(kept)
            events = kept
    return events, dropped


def check_usable(
    name: str, events: pd.DataFrame, dropped: Mapping[str, int], recipe: DataRecipe
) -> None:
    """`DataError` unless there are two items and a user with three events.

    Fewer than three cannot be split into train, validation and test. `dropped`: events that were
    dropped, by the fields of `DataReport`.
    """
    n_items, n_users = events["item"].nunique(), events["user"].nunique()
    longest = int(np.bincount(events["user"]).max(initial=0))
    if n_users == 0:
        problem = "nothing is left"
    elif n_items < 2:
        problem = "a recommender needs two items"
    elif longest < 3:
        problem = f"no user has 3 events, the longest history has {longest}"
    else:
        return
    counts = (
        f"{counted(len(events), 'event')} of {counted(n_users, 'user')} and "
        f"{counted(n_items, 'item')} are left"
    )
    raise DataError(f"{name}: {problem} ({counts})", _remedy(n_items, dropped, recipe))


def _remedy(n_items: int, dropped: Mapping[str, int], recipe: DataRecipe) -> str:
    """What to change: the filters that dropped events, or a wrong column."""
    repeated = dropped["dropped_repeated"]
    if dropped["dropped_rare_items"] or dropped["dropped_short_users"]:
        least = {name: getattr(recipe, name) for name in ("min_item_events", "min_user_events")}
        limits = [f"`{name}`, which is {value}" for name, value in least.items() if value > 1]
        return f"lower {', or '.join(limits)}"
    if repeated and n_items > 1:
        return f"`repeats` keeps the {repeated:,} repeated events that were dropped"
    wrong, kind = ("item_col", "items") if n_items < 2 else ("user_col", "users")
    return f"check that `{wrong}` names the column of the {kind}"

"""Popularity and trend from newer events, without training: what is popular an hour later."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.errors import DataError
from attnrec.train.data.ids import spelled_as
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import IdTypes, NewerEvents, read_events
from attnrec.train.data.recipe import DataRecipe, IdType
from attnrec.train.data.tables import TableSource
from attnrec.train.data.tables import shown as shown_id
from attnrec.train.models.base import CountModel, RecommenderModel
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.popularity import PersonalFrequency, Popularity
from attnrec.train.splits.split import Sequences, Split
from attnrec.train.splits.time_split import shown


def knows_popularity(model: RecommenderModel) -> bool:
    """Whether newer events change what a model answers."""
    if isinstance(model, Fusion):
        return model.config.trend
    return isinstance(model, Popularity | PersonalFrequency)


def for_newer_events(
    split: Split, model: RecommenderModel, recipe: DataRecipe, source: TableSource
) -> tuple[RecommenderModel, dict[str, int]]:
    """The model by all events of its log and newer ones, and how many of these there are.

    model: one that knows popularity. Raises what `Run.with_recent` does.
    """
    log, catalogue = split.interactions, split.catalogue
    kinds: list[IdType] = [
        "int64" if ids.dtype == np.int64 else "string" for ids in (log.user_ids, log.item_ids)
    ]
    newer = read_events(source, recipe, IdTypes(*kinds))
    is_new = _newer_than(int(log.timestamps.max()), newer)
    if not recipe.repeats:
        is_new &= _first_of_pair(log, newer)
    rows = _places(catalogue.item_ids, newer.item_ids)[newer.item_index][is_new] + 1
    if not rows.any():
        raise DataError(
            f"{newer.name}: of its newer events none counts: one must be of an item that was "
            f"trained, such as {catalogue.item_ids[:1].tolist()[0]!r}, not as "
            f"{shown_id(newer.item_ids[:1].tolist()[0])}, and, without `repeats`, the first of "
            "its user with it",
            "give events of the same shop, with the same ids",
        )
    parts: list[list[NDArray[Any]]] = [
        [_places(catalogue.item_ids, log.item_ids)[log.item_index] + 1, rows],
        [log.timestamps, newer.timestamps[is_new]],
    ]
    if log.weights is not None and newer.weights is not None:
        parts.append([log.weights, newer.weights[is_new]])
    all_rows, times, *weights = map(np.concatenate, parts)
    known = all_rows > 0
    every_event = Sequences(
        np.array([0, int(known.sum())]),
        all_rows[known].astype(np.int32),
        weights[0][known] if weights else None,
        times[known],
    )
    model = copy.deepcopy(model)
    part: Any = model.trend if isinstance(model, Fusion) else model
    assert isinstance(part, CountModel)
    part.fit(replace(split, sequences=every_event))
    figures = {"until": int(times.max()), "n_events": len(rows)}
    return model, figures | {"n_unknown": int(np.count_nonzero(rows == 0))}


def _newer_than(last: int, newer: NewerEvents) -> NDArray[np.bool_]:
    """Which events are later than the end of the log (n_events,). `DataError` where none is."""
    if newer.time_unit == "order":
        raise DataError(
            f"{newer.name}: the events have an order and no times, so none is newer than the log",
            "name a column of times with `time_col` in the training",
        )
    is_new: NDArray[np.bool_] = newer.timestamps > last
    if not is_new.any():
        raise DataError(
            f"{newer.name}: the events end at {shown(int(newer.timestamps.max()))}, and the log "
            f"of the run at {shown(last)}: none is newer",
            "give what has happened since",
        )
    return is_new


def _first_of_pair(log: Interactions, newer: NewerEvents) -> NDArray[np.bool_]:
    """Which events are the first ones of their user with their item (n_events,)."""
    user, item = newer.user_index.astype(np.int64), newer.item_index
    order = np.argsort(newer.timestamps, kind="stable")
    _, first = np.unique((user * len(newer.item_ids) + item)[order], return_index=True)
    is_first = np.zeros(len(user), np.bool_)
    is_first[order[first]] = True
    own = _places(log.user_ids, newer.user_ids)[user]
    taken = np.repeat(np.arange(log.n_users), np.diff(log.offsets)) * log.n_items + log.item_index
    own_item = _places(log.item_ids, newer.item_ids)[item]
    pairs = np.where((own < 0) | (own_item < 0), -1, own * log.n_items + own_item)
    return is_first & ~np.isin(pairs, taken)


def _places(known: IdArray, ids: IdArray) -> NDArray[np.int64]:
    """Place of each id among those that are known (n,), -1 for another one."""
    if known.dtype != np.int64:
        ids = spelled_as(known, ids)
    places: NDArray[np.int64] = pd.Index(known).get_indexer(pd.Index(ids))
    return places

"""The side tables of a log: titles and attributes of items, tags of users."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnrec.runtime.arguments import IdArray
from attnrec.train.data.ids import id_texts, whole_number_texts
from attnrec.train.data.interactions import Interactions, text_tuples
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.tables import RawTable, TableSource, naming, read_table

logger = logging.getLogger(__name__)

MAX_USER_TAGS = 50
"""Most tags of a user: each request may bring them along."""
_SEPARATOR = "|"


def with_items(log: Interactions, table: TableSource, recipe: DataRecipe) -> Interactions:
    """The log with the titles and attributes of an items table. Raises `DataError`."""
    wanted = dict.fromkeys(recipe.attribute_cols, naming("attribute_cols"))
    if recipe.title_col:
        no_titles = ", or leave titles out with `title_col=''`"
        wanted |= {recipe.title_col: naming("title_col") + no_titles}
    raw, place = _rows_of(table, recipe, log.item_ids, "item", wanted)
    if recipe.title_col:
        titles = _texts(raw, recipe.title_col, place, "titles").to_numpy(zero_copy_only=False)
        log = log.with_titles(titles)
    if not recipe.attribute_cols:
        return log
    return replace(log, item_attributes=_descriptions(raw, recipe.attribute_cols, place))


def with_users(log: Interactions, table: TableSource, recipe: DataRecipe) -> Interactions:
    """The log with the tags of a users table, at most `MAX_USER_TAGS` each. `DataError`."""
    wanted = dict.fromkeys(recipe.tag_cols, naming("tag_cols"))
    raw, place = _rows_of(table, recipe, log.user_ids, "user", wanted)
    tags = _descriptions(raw, recipe.tag_cols, place)
    counts = np.fromiter(map(len, tags), np.int64, len(tags))
    worst = int(counts.argmax())
    if counts[worst] > MAX_USER_TAGS:
        problem = (
            f"user {log.user_ids[worst]!r} has {counts[worst]} tags, at most {MAX_USER_TAGS} are "
            "possible"
        )
        remedy = "leave columns out of `tag_cols`, or keep the most telling values"
        raise raw.error(", ".join(recipe.tag_cols), place[worst].as_py(), problem, remedy)
    return replace(log, user_tags=tags)


def _rows_of(
    table: TableSource, recipe: DataRecipe, ids: IdArray, kind: str, wanted: Mapping[str, str]
) -> tuple[RawTable, pa.Array]:
    """The table, and for each of `ids` the first of its rows there (null: none)."""
    id_col: str = getattr(recipe, f"{kind}_col")
    remedy = (
        f"the column of the {kind} ids must be called {id_col!r} here as in the log: rename it"
    )
    raw = read_table(table, {id_col: remedy, **wanted}, (), recipe.sep)
    known = pa.array(ids).cast(pa.string())
    texts = id_texts(raw, id_col)
    place = pc.index_in(known, value_set=texts)
    missing = place.null_count
    whole, wanted_whole = whole_number_texts(texts), whole_number_texts(known)
    # Text ids that differ in a fraction alone are different ids where the log or the table has two
    # such, unless none is found otherwise.
    none_twice = all(
        pc.count_distinct(one) == pc.count_distinct(other)
        for one, other in ((texts, whole), (known, wanted_whole))
    )
    if ids.dtype == np.int64 or missing == len(place) or none_twice:
        place = pc.coalesce(place, pc.index_in(wanted_whole, value_set=whole))
        if place.null_count < missing:
            logger.warning(
                "%s, column %r: %d ids are found as the whole numbers that they are",
                raw.name,
                id_col,
                missing - place.null_count,
            )
    if place.null_count == len(place):
        problem = f"none of the log's {kind}s is here, for example {known[0].as_py()!r}"
        raise raw.column_error(id_col, problem)
    return raw, place


def _texts(raw: RawTable, column: str, place: pa.Array, what: str) -> pa.Array:
    """The text of each place, "" where there is none."""
    try:
        texts = raw.columns[column].cast(pa.string()).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise raw.column_error(column, f"the {what} are not text ({error})") from error
    return texts.take(place).fill_null("")


def _descriptions(raw: RawTable, columns: tuple[str, ...], place: pa.Array) -> NDArray[np.object_]:
    """The distinct values of all columns for each place, named as in the recipe."""
    described: list[dict[str, None]] = [{} for _ in range(len(place))]
    for column in columns:
        prefix = f"{column}:" if len(columns) > 1 else ""
        cells = pc.split_pattern(_texts(raw, column, place, "values"), _SEPARATOR).to_pylist()
        for values, cell in zip(described, cells, strict=True):
            values.update((prefix + text.strip(), None) for text in cell if text.strip())
    return text_tuples(described, len(described))

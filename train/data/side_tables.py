"""The side tables of a log: what describes items, and tags of users."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.errors import DataError
from attnrec.train.data.ids import code_ids, id_texts, whole_number_texts
from attnrec.train.data.interactions import Interactions, text_tuples
from attnrec.train.data.item_columns import (
    SEPARATOR,
    ItemColumns,
    counts_the_future,
    inferred_columns,
    named_columns,
)
from attnrec.train.data.item_numbers import read_numbers, read_vectors
from attnrec.train.data.recipe import ITEM_KINDS, DataRecipe, IdType
from attnrec.train.data.tables import (
    RawTable,
    TableSource,
    column_names,
    naming,
    opened,
    read_table,
)

logger = logging.getLogger(__name__)

MAX_USER_TAGS = 50
"""Most tags of a user: each request may bring them along."""


def with_items(
    log: Interactions,
    table: TableSource,
    recipe: DataRecipe,
    columns: ItemColumns | None = None,
) -> tuple[Interactions, ItemColumns]:
    """The log with what an items table holds, and its columns. Raises `DataError`.

    columns: those to read; None: those that the recipe names, or else all that describe an item.
    """
    table = opened(table)
    present = column_names(table, recipe.sep)
    columns = columns or named_columns(recipe, present)
    wanted = {name: "" for name in present if present.count(name) == 1 and columns is None}
    if columns is not None:
        for setting, names in zip(ITEM_KINDS, columns.by_kind(), strict=True):
            wanted |= dict.fromkeys(names, naming(setting))
        wanted |= {columns.title: naming("title_col")} if columns.title else {}
    if recipe.title_col not in ("", DataRecipe.title_col):
        no_titles = ", or leave titles out with `title_col=''`"
        wanted |= {recipe.title_col: naming("title_col") + no_titles}
    raw, place = _rows_of(table, recipe, log.item_ids, "item", wanted)
    columns = columns or inferred_columns(recipe, raw.columns, present)
    if not (columns.title or any(columns.by_kind())):
        reasons = ", ".join(f"{name} ({why})" for name, why in columns.left_out.items())
        raise DataError(
            f"{raw.name}: no column describes an item{': ' * bool(reasons)}{reasons}",
            "name columns with `title_col`, `text_cols`, `attribute_cols`, `number_cols` or "
            "`vector_cols`",
        )
    for name in (*columns.attributes, *columns.numbers):
        if counts_the_future(name):
            logger.warning(
                "%s, column %r: it looks like a count of what people did with an item; unless the "
                "table is older than the events that are asked for, it knows the answers",
                raw.name,
                name,
            )
    n_items = int(pc.count_distinct(id_texts(raw, recipe.item_col)).as_py())
    n_others = n_items - (len(place) - place.null_count)
    return _described(log, raw, place, columns), replace(columns, n_others=n_others)


def _described(
    log: Interactions, raw: RawTable, place: pa.Array, columns: ItemColumns
) -> Interactions:
    if columns.title:
        log = log.with_titles(_texts(raw, columns.title, place, "titles"))
    if columns.texts:
        parts = [_texts(raw, name, place, "texts") for name in columns.texts]
        for name, texts in zip(columns.texts, parts, strict=True):
            if not texts.any():
                remedy = "leave it out of `text_cols`"
                raise raw.column_error(name, "no item of the log has a text here", remedy)
        joined = [" ".join(filter(None, texts)) for texts in zip(*parts, strict=True)]
        log = replace(log, item_texts=np.array(joined, object))
    if columns.attributes:
        log = replace(log, item_attributes=_descriptions(raw, columns.attributes, place))
    numbers = {name: read_numbers(raw, name, place) for name in columns.numbers}
    vectors = {name: read_vectors(raw, name, place) for name in columns.vectors}
    return replace(log, item_numbers=numbers, item_vectors=vectors)


def read_catalogue(
    table: TableSource, recipe: DataRecipe, ids: IdArray, columns: Mapping[str, Any] | None
) -> Interactions:
    """The items of a table, as a log without an event. Raises `DataError`.

    ids: other item ids, of whose type they have to be; columns: what was read of the items table
    before, `ItemColumns.to_json`, which is read again; None: nothing was.
    """
    table = opened(table)
    raw = read_table(table, {recipe.item_col: naming("item_col")}, (), recipe.sep)
    kind: IdType = "int64" if ids.dtype == np.int64 else "string"
    found = code_ids(raw, recipe.item_col, kind, padding=True).ids
    nothing = np.zeros(0, np.int64)
    log = Interactions(
        np.array([], object), found, nothing, nothing.astype(np.int32), nothing, None
    )
    if not len(found):
        raise DataError(f"{raw.name}: there is a header but no row")
    if columns is None:
        return log
    return with_items(log, table, recipe, ItemColumns.from_json(columns))[0]


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
    raw = read_table(table, {**wanted, id_col: remedy}, (), recipe.sep)
    known = pa.array(ids).cast(pa.string())
    texts = id_texts(raw, id_col)
    _say_of_twice(raw, id_col, texts)
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


def _say_of_twice(raw: RawTable, id_col: str, ids: pa.Array) -> None:
    """Warn of rows that are not read: the first row of an id counts."""
    first = np.asarray(pc.index_in(ids, value_set=ids))
    again = np.flatnonzero(first != np.arange(len(first)))
    rows = raw.columns.take(pa.array(again, pa.int64())).to_pylist()
    before = raw.columns.take(pa.array(first[again], pa.int64())).to_pylist()
    differ = [i for i, (own, other) in enumerate(zip(rows, before, strict=True)) if own != other]
    if differ:
        logger.warning(
            "%s, column %r: %d rows say something else than an earlier row of the same id, such "
            "as %r; the first row of an id counts",
            raw.name,
            id_col,
            len(differ),
            ids[again[differ[0]]].as_py(),
        )


def _texts(raw: RawTable, column: str, place: pa.Array, what: str) -> NDArray[np.object_]:
    """The text of each place (n,), "" where there is none."""
    try:
        texts = raw.columns[column].cast(pa.string()).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise raw.column_error(column, f"the {what} are not text ({error})") from error
    found: NDArray[np.object_] = texts.take(place).fill_null("").to_numpy(zero_copy_only=False)
    return found


def _cells(raw: RawTable, column: str, place: pa.Array) -> list[list[str]]:
    """The values of a column for each place: of a list, or of a text with separators."""
    values = raw.columns[column]
    if not pa.types.is_nested(values.type):
        return [cell.split(SEPARATOR) for cell in _texts(raw, column, place, "values")]
    try:
        lists = values.cast(pa.list_(pa.string())).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise raw.column_error(column, f"the values are no lists of texts ({error})") from error
    return [[text or "" for text in cell or []] for cell in lists.take(place).to_pylist()]


def _descriptions(raw: RawTable, columns: Sequence[str], place: pa.Array) -> NDArray[np.object_]:
    """The distinct values of all columns for each place, named as in the recipe."""
    described: list[dict[str, None]] = [{} for _ in range(len(place))]
    for column in columns:
        prefix = f"{column}:" if len(columns) > 1 else ""
        for values, cell in zip(described, _cells(raw, column, place), strict=True):
            values.update((prefix + text.strip(), None) for text in cell if text.strip())
    return text_tuples(described, len(described))

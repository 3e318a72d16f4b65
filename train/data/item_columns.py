"""Which columns of an items table describe the items, and how: as named, or by their values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd
import pyarrow as pa

from attnrec.train.data.recipe import ITEM_KINDS, DataRecipe

SEPARATOR = "|"
"""Between several values in a cell."""
_NEARLY_ALL = 0.95  # of the values are different: they name an item, and describe nothing
_HALF = 0.5
_MANY_WORDS = 4  # in a text, more than in the name of a category
_FEW = 20  # values, in which nothing shows
# Counts of what people did with an item later, unless the table is as old as the log.
_KNOWS_THE_FUTURE = re.compile(
    r"(^|_)(n|num|number|count|total)_|(sales|sold|reviews?|ratings?|views|clicks|plays|likes"
    r"|purchases|downloads|popularity|rank|counts?)$",
    re.IGNORECASE,
)
_DATE = r"^\d{4}-\d\d-\d\d"


@dataclass(frozen=True)
class ItemColumns:
    """Columns of an items table by what they are read for."""

    title: str = ""
    """Shown to people, and words of it compared; "": none."""
    texts: tuple[str, ...] = ()
    """Words of these are compared."""
    attributes: tuple[str, ...] = ()
    """Values that items have in common."""
    numbers: tuple[str, ...] = ()
    """Kept, and compared by no model."""
    vectors: tuple[str, ...] = ()
    """Lists of numbers, compared by their cosine."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Columns that are not read, each with the reason."""
    n_others: int = 0
    """Items of the table that the log does not have."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict, as `data.json` keeps it."""
        kinds = dict(zip(_KINDS, map(list, self.by_kind()), strict=True))
        left_out = {"left_out": dict(self.left_out), "n_others": self.n_others}
        return {"title": self.title, **kinds, **left_out}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ItemColumns":
        """The columns that `to_json` wrote, to be read again."""
        kinds: dict[str, Any] = {kind: tuple(values[kind]) for kind in _KINDS}
        return cls(values["title"], **kinds)

    def by_kind(self) -> tuple[tuple[str, ...], ...]:
        """Texts, attributes, numbers and vectors."""
        return self.texts, self.attributes, self.numbers, self.vectors


_KINDS = tuple(kind.name for kind in fields(ItemColumns)[1:-2])


def named_columns(recipe: DataRecipe, present: list[str]) -> ItemColumns | None:
    """The columns that the recipe names; None where it names no kind: values tell then.

    present: all columns of the table. A title column that nobody named may be missing.
    """
    title = recipe.title_col
    if title == DataRecipe.title_col and title not in present:
        title = ""
    if not any(getattr(recipe, name) for name in ITEM_KINDS):
        return None
    return ItemColumns(title, *(getattr(recipe, name) for name in ITEM_KINDS))


def inferred_columns(recipe: DataRecipe, table: pa.Table, present: list[str]) -> ItemColumns:
    """What the values of each column say that it is; of a name in `present` twice nothing."""
    title = recipe.title_col if recipe.title_col in table.column_names else ""
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    left_out = {name: "there are several" for name in present if present.count(name) > 1}
    for name in table.column_names:
        if name in (title, recipe.item_col):
            continue
        kind = _kind(name, table[name])
        if kind in found:
            found[kind].append(name)
        else:
            left_out[name] = kind
    kinds: dict[str, Any] = {kind: tuple(names) for kind, names in found.items()}
    return ItemColumns(title, left_out=left_out, **kinds)


def counts_the_future(name: str) -> bool:
    """Whether a column of this name may count what people did with an item."""
    return _KNOWS_THE_FUTURE.search(name) is not None


def _kind(name: str, column: Any) -> str:
    """The kind of a column, or why it describes nothing."""
    kind = column.type
    if pa.types.is_nested(kind):
        return _kind_of_lists(kind)
    if pa.types.is_boolean(kind):
        return "attributes"
    if pa.types.is_temporal(kind):
        return "a time"
    is_number = (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
    if not (is_number or _is_text(kind)):
        return f"of type {kind}"
    values = pd.Series(column.cast(pa.string()).to_numpy(zero_copy_only=False)).dropna()
    values = values[values.str.strip() != ""]
    if len(values) == 0:
        return "empty"
    if values.nunique() == 1 and len(values) > 1:
        return "one value"
    numbers = pd.to_numeric(values, errors="coerce")
    if is_number or numbers.notna().all():
        return _kind_of_numbers(name, numbers)
    return _kind_of_texts(values)


def _is_text(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _kind_of_lists(kind: Any) -> str:
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        return f"of type {kind}"
    if pa.types.is_floating(kind.value_type):
        return "vectors"
    is_label = _is_text(kind.value_type) or pa.types.is_integer(kind.value_type)
    return "attributes" if is_label else f"of type {kind}"


def _kind_of_numbers(name: str, numbers: "pd.Series[float]") -> str:
    if counts_the_future(name):
        return "looks like a count of what came later"
    is_whole = bool((numbers == numbers.round()).all())
    if is_whole and _are_different(numbers):
        return "nearly every value is different"
    # A category has a number, which says nothing by its size.
    return "attributes" if is_whole and re.search(r"(^|_)id$", name, re.IGNORECASE) else "numbers"


def _kind_of_texts(values: "pd.Series[str]") -> str:
    if values.str.match(_DATE).all():
        return "a time"
    if values.str.startswith("[").all():
        return "lists are read from Parquet, Arrow, JSON lines and DataFrames"
    n_words = values.str.count(r"\s+").mean() + 1
    # A script without spaces writes more than the letters of a code.
    is_code = n_words < 1.5 and values.str.match(r"^[\x00-\x7f]*$").mean() > _NEARLY_ALL
    if is_code and _are_different(values):
        return "nearly every value is different"
    if values.str.contains(SEPARATOR, regex=False).mean() > 1 - _NEARLY_ALL:
        return "attributes"
    is_repeated = values.nunique() <= _HALF * len(values)
    return "attributes" if is_repeated and n_words <= _MANY_WORDS else "texts"


def _are_different(values: "pd.Series[Any]") -> bool:
    return len(values) > _FEW and values.nunique() > _NEARLY_ALL * len(values)

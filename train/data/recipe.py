"""How a log is read (`DataRecipe`), and what was read from it (`DataReport`)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from attnrec.train.checks import check_choice, check_number, check_whole

IdType = Literal["auto", "int64", "string"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns", "iso", "order"]

_TEXT_FIELDS = ("user_col", "item_col", "time_col", "event_col", "rating_col", "title_col")
ITEM_KINDS = ("text_cols", "attribute_cols", "number_cols", "vector_cols")
"""Settings that say what the columns of the items table are; without any of them values tell."""
_LIST_FIELDS = ("events", *ITEM_KINDS, "tag_cols")


@dataclass(frozen=True)
class DataRecipe:
    """Everything that decides which events of a log are used and how their values are read.

    A wrong value raises ``ValueError``. The filters apply in this order: `events`, `min_rating`,
    `repeats`, then `min_item_events` and `min_user_events` in turn until nothing changes.
    """

    user_col: str = "user_id"
    """Column of the user ids."""
    item_col: str = "item_id"
    """Column of the item ids, in the log and in the items table."""
    time_col: str = "timestamp"
    """Column of the time of an event, or of its place in the order."""
    event_col: str = "event"
    """Column of the event type; read only for `events` and `event_weights`."""
    rating_col: str = "rating"
    """Column of the rating; read only when `min_rating` is set."""
    title_col: str = "title"
    """Column of the title in the items table; "": it has none."""
    text_cols: tuple[str, ...] = ()
    """More columns of the items table whose words describe an item. Where no kind of column is
    named, here or in the next three, values tell what each column is."""
    attribute_cols: tuple[str, ...] = ()
    """Columns of the items table whose values describe an item, several in a cell joined by "|".
    Of one column the plain values are kept; of several "column:value", because a brand "red"
    is not the colour."""
    number_cols: tuple[str, ...] = ()
    """Columns of the items table with a number, such as a price: kept in the run, compared by no
    model."""
    vector_cols: tuple[str, ...] = ()
    """Columns of the items table with lists of numbers, a vector of an encoder for each item."""
    tag_cols: tuple[str, ...] = ()
    """Columns of the users table that describe a user, likewise."""
    sep: str = ""
    """Character between the fields of CSV files, such as ";". Empty: a comma, a tab in .tsv."""
    id_type: IdType = "auto"
    """int64 or string ids; "auto": int64 where every id is a plain decimal, judged per column."""
    time_unit: TimeUnit = "auto"
    """Unit of the time column, "iso" for text, "order" for mere places; "auto" guesses."""
    repeats: bool = False
    """Keep repeated events of a user and an item; otherwise the first by time stays."""
    min_rating: float | None = None
    """Lowest rating that counts as an event. None: every row counts."""
    events: tuple[str, ...] = ()
    """Event types that count; empty: all."""
    event_weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of an event in training by its type; types without one weigh 1. Of repeated events
    the one that is kept gets the largest weight."""
    min_item_events: int = 1
    """Fewest events of an item that stays."""
    min_user_events: int = 1
    """Fewest events of a user that stays."""

    def __post_init__(self) -> None:
        for name in _TEXT_FIELDS:
            value = getattr(self, name)
            no_titles = name == "title_col" and value == ""
            if not (no_titles or _is_name(value)):
                raise ValueError(f"`{name}` must be a column name, not {value!r}")
        if len({self.user_col, self.item_col, self.time_col}) < 3:
            raise ValueError(
                "`user_col`, `item_col` and `time_col` must be three columns, not "
                f"{self.user_col!r}, {self.item_col!r}, {self.time_col!r}"
            )
        check_choice("id_type", self.id_type, get_args(IdType))
        check_choice("time_unit", self.time_unit, get_args(TimeUnit))
        if not isinstance(self.repeats, bool):
            raise ValueError(f"`repeats` must be true or false, not {self.repeats!r}")
        if self.min_rating is not None:
            check_number("min_rating", self.min_rating)
        for name in _LIST_FIELDS:
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(map(_is_name, values)):
                raise ValueError(f"`{name}` must be a tuple of names, not {values!r}")
        self._check_sep()
        self._check_weights()
        for name in ("min_item_events", "min_user_events"):
            check_whole(name, getattr(self, name))

    def _check_sep(self) -> None:
        sep: object = self.sep
        if not isinstance(sep, str) or len(sep.encode()) > 1 or sep in ('"', "\r", "\n"):
            raise ValueError(
                f"`sep` must be one ASCII character, no quote and no line end, not {sep!r}"
            )

    def _check_weights(self) -> None:
        weights = self.event_weights
        if not isinstance(weights, Mapping) or not all(map(_is_name, weights)):
            raise ValueError(f"`event_weights` must map event types to weights, not {weights!r}")
        for kind, weight in weights.items():
            if not _is_finite_number(weight) or weight <= 0:
                raise ValueError(
                    f"`event_weights` must be finite numbers above 0, not {kind}={weight!r}; "
                    "leave events out that shall not count, with `events`"
                )

    def check_tables(self, *, items: bool, users: bool, movielens_users: bool = False) -> None:
        """`ValueError` for a table without columns to read, or columns without their table.

        items, users: whether there is such a table. movielens_users: one that comes with the log.
        """
        if users and not self.tag_cols:
            raise ValueError("a users table is read for its tags; name columns with `tag_cols`")
        for name in ITEM_KINDS:
            if getattr(self, name) and not items:
                raise ValueError(f"`{name}` are columns of the items table; name it with `items`")
        if self.tag_cols and not (users or movielens_users):
            raise ValueError("`tag_cols` are columns of the users table; name it with `users`")

    def to_json(self) -> dict[str, Any]:
        """A plain dict that ``json.dumps`` takes and `from_json` reads back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        lists = {name: list(values[name]) for name in _LIST_FIELDS}
        return values | lists | {"event_weights": dict(self.event_weights)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DataRecipe":
        """The recipe that `to_json` wrote; an unknown key or a wrong value is a ``ValueError``."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r} in a data recipe, known: {known}")
        # JSON has no tuples.
        lists = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **lists})


def column_lines(columns: Mapping[str, Any]) -> list[str]:
    """What is read of an items table, and what is not, to print; an `ItemColumns` as a dict."""
    read = [f"{columns['title']} (title)"] if columns["title"] else []
    for setting in ITEM_KINDS:
        kind = setting.removesuffix("_cols")
        read += [f"{name} ({kind})" for name in columns[f"{kind}s"]]
    lines = [f"columns  {', '.join(read)}"]
    if columns["left_out"]:
        reasons = ", ".join(f"{name} ({why})" for name, why in columns["left_out"].items())
        lines.append(f"left out {reasons}")
    if columns.get("n_others"):
        lines.append(f"others   {columns['n_others']:,} items of the table are not in the log")
    return lines


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_finite_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def parse_weights(text: str) -> dict[str, float]:
    """Weights by event type of a text like "cart=2,purchase=4". `ValueError` for another one."""
    weights: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        kind, _, weight = part.rpartition("=")
        if kind in weights:
            raise ValueError(f"`event_weights` names {kind!r} twice")
        try:
            weights[kind] = float(weight)
        except ValueError:
            raise ValueError(
                f"`event_weights`: {part!r} is not a type with a weight; write for example "
                "cart=2,purchase=4"
            ) from None
    return weights


@dataclass(frozen=True)
class DataReport:
    """What was read from a log and what was dropped; `lines` to print, `to_json` for files."""

    source: str
    """Name of the file, or "DataFrame"."""
    rows_read: int
    """Rows of the source."""
    dropped_event_type: int
    """Rows of an event type that does not count."""
    dropped_rating: int
    """Rows below the lowest rating."""
    dropped_repeated: int
    """Later events of a user with the same item."""
    dropped_rare_items: int
    """Events of items with too few events."""
    dropped_short_users: int
    """Events of users with too few events."""
    n_users: int
    """Users left."""
    n_users_evaluable: int
    """Users with 3 events or more: one each to train, validate and test."""
    n_items: int
    """Items left."""
    n_events: int
    """Events left."""
    user_id_type: str
    """"int64" or "string"."""
    item_id_type: str
    """"int64" or "string"."""
    time_unit: str
    """"s", "ms", "us", "ns", "iso", "datetime" or "order"."""
    time_unit_guessed: bool
    """Whether the unit was guessed from the values."""
    first_time: str | None
    """Time of the first event, ISO 8601 in UTC; None where the log has only an order."""
    last_time: str | None
    """Time of the last event, likewise."""
    n_titles: int | None
    """Items with a title; None without an items table."""
    fingerprint: str
    """sha256 over the prepared arrays (hex): the same log gives the same in every format."""
    n_described: int | None = None
    """Items with more than a title; None without such columns."""
    n_tagged: int | None = None
    """Users with a tag; None without tag columns."""
    item_columns: Mapping[str, Any] | None = None
    """What was read of the items table, and what not: `ItemColumns.to_json`."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict that ``json.dumps`` takes."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as a few short lines."""
        dropped = {
            "other event types": self.dropped_event_type,
            "low ratings": self.dropped_rating,
            "repeats": self.dropped_repeated,
            "rare items": self.dropped_rare_items,
            "short users": self.dropped_short_users,
        }
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
        span = f"{self.first_time} to {self.last_time}" if self.first_time else "order only"
        guess = ", guessed" if self.time_unit_guessed else ""
        titles = "" if self.n_titles is None else f", {self.n_titles:,} with a title"
        if self.n_described is not None:
            titles += f", {self.n_described:,} described"
        tagged = "" if self.n_tagged is None else f", {self.n_tagged:,} with tags"
        return [
            f"read     {self.source}: {self.rows_read:,} rows",
            f"dropped  {reasons or 'nothing'}",
            f"events   {self.n_events:,}",
            f"users    {self.n_users:,} ({self.user_id_type} ids), "
            f"{self.n_users_evaluable:,} with 3 events or more{tagged}",
            f"items    {self.n_items:,} ({self.item_id_type} ids){titles}",
            *([] if self.item_columns is None else column_lines(self.item_columns)),
            f"time     {span} (unit {self.time_unit}{guess})",
            f"sha256   {self.fingerprint[:16]}",
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())

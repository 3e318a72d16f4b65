"""The interaction log in memory: flat arrays, one slice per user."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray
from scipy import sparse

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.errors import RunError
from attnrec.runtime.files import replace_file
from attnrec.train.run_files import EVENTS_FILE, ITEMS_FILE

_NUMBERS, _VECTORS = "number:", "vector:"


@dataclass(frozen=True, eq=False)
class Interactions:
    """A prepared log. The events of user ``u`` are ``[offsets[u], offsets[u + 1])``, oldest first.

    Flat arrays instead of a list per user: ten million events take 160 MB, not gigabytes.
    """

    user_ids: IdArray
    """Raw user ids (n_users,), int64 or str."""
    item_ids: IdArray
    """Raw item ids (n_items,), int64 or str; `item_index` points into this array."""
    offsets: NDArray[np.int64]
    """Start of each user's events and the total at the end (n_users + 1,)."""
    item_index: NDArray[np.int32]
    """Item of each event (n_events,)."""
    timestamps: NDArray[np.int64]
    """Unix seconds of each event (n_events,), or its place where the log has only an order."""
    titles: NDArray[np.object_] | None
    """Name of each item for people (n_items,); "" where unknown, None without titles."""
    item_attributes: NDArray[np.object_] | None = None
    """What describes each item (n_items,), a tuple of texts, empty where unknown; or None."""
    item_texts: NDArray[np.object_] | None = None
    """Texts of each item other than its title (n_items,), "" where unknown; or None."""
    item_numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Numbers of each item by column (n_items,), NaN where unknown."""
    item_vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Vectors of each item by column (n_items, width), zeros where unknown."""
    user_tags: NDArray[np.object_] | None = None
    """What describes each user (n_users,), a tuple of texts, empty where unknown; or None."""
    weights: NDArray[np.float32] | None = None
    """Weight of each event in training (n_events,), above 0; None: all weigh 1."""

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_ids)

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.item_index)

    @property
    def n_described(self) -> int | None:
        """Items with more than a title; None where no item can have that."""
        parts = [self.item_attributes, self.item_texts, *self.item_vectors.values()]
        known = [part for part in parts if part is not None]
        known += [np.isfinite(numbers) for numbers in self.item_numbers.values()]
        if not known:
            return None
        filled = [part.astype(bool).reshape(len(part), -1).any(axis=1) for part in known]
        return int(np.count_nonzero(np.any(filled, axis=0)))

    def sequence(self, user: int) -> NDArray[np.int32]:
        """Items of user number `user`, oldest first (length of the history,); a view."""
        return self.item_index[self.offsets[user] : self.offsets[user + 1]]

    def with_titles(self, titles: NDArray[np.object_]) -> "Interactions":
        """The same log with `titles` (n_items,)."""
        return replace(self, titles=titles)

    def fingerprint(self, *, extras: bool = False) -> str:
        """sha256 (hex) of ids, order and times: it tells whether two logs hold the same events.

        extras: of all that decides what is learned of the same events, too: weights, tags, and
        what describes the items.
        """
        digest = hashlib.sha256(b"attnrec interactions 1")
        for ids in (self.user_ids, self.item_ids):
            digest.update(_id_bytes(ids))
        # A fixed byte order: the same log has the same fingerprint on every machine.
        digest.update(np.ascontiguousarray(self.offsets, "<i8").data)
        digest.update(np.ascontiguousarray(self.item_index, "<i4").data)
        digest.update(np.ascontiguousarray(self.timestamps, "<i8").data)
        if extras and self.weights is not None:
            digest.update(b"weights" + self.weights.astype("<f4").tobytes())
        described = {"tags": self.user_tags, "titles": self.titles}
        described |= {"attributes": self.item_attributes, "texts": self.item_texts}
        for name, texts in described.items():
            if extras and texts is not None:
                digest.update(name.encode() + json.dumps(texts.tolist()).encode())
        measured: dict[str, NDArray[Any]] = {**self.item_numbers, **self.item_vectors}
        for name, values in measured.items() if extras else ():
            digest.update(name.encode() + values.astype("<f8").tobytes())
        return digest.hexdigest()

    def save(self, directory: Path) -> None:
        """Write `interactions.parquet` and `items.parquet` into an existing directory.

        Each file is replaced as a whole. The tags of a user stand at the first event of that
        user. ``ValueError`` if a user has no event: the files have no place for such a user.
        """
        lengths = np.diff(self.offsets)
        if (lengths < 1).any():
            raise ValueError("every user must have an event to be saved")
        user = np.repeat(np.arange(self.n_users, dtype=np.int32), lengths)
        first = np.zeros(self.n_events, np.bool_)
        first[self.offsets[:-1]] = True
        events = {
            "user_id": pa.DictionaryArray.from_arrays(user, _id_array(self.user_ids)),
            "item_id": pa.DictionaryArray.from_arrays(self.item_index, _id_array(self.item_ids)),
            "timestamp": pa.array(self.timestamps),
        }
        items = {"item_id": _id_array(self.item_ids)}
        if self.weights is not None:
            events["weight"] = pa.array(self.weights)
        if self.user_tags is not None:
            events["tags"] = _packed(self.user_tags).take(pa.array(user, mask=~first))
        if self.titles is not None:
            items["title"] = pa.array(self.titles, pa.string())
        if self.item_attributes is not None:
            items["attributes"] = _packed(self.item_attributes)
        if self.item_texts is not None:
            items["text"] = pa.array(self.item_texts, pa.string())
        for name, numbers in self.item_numbers.items():
            items[_NUMBERS + name] = pa.array(numbers)
        for name, vectors in self.item_vectors.items():
            flat = pa.array(vectors.ravel())
            width = vectors.shape[1]
            items[_VECTORS + name] = pa.FixedSizeListArray.from_arrays(flat, width)
        with (
            replace_file(directory / EVENTS_FILE) as events_path,
            replace_file(directory / ITEMS_FILE) as items_path,
        ):
            pyarrow.parquet.write_table(pa.table(events), events_path)
            pyarrow.parquet.write_table(pa.table(items), items_path)

    @classmethod
    def load(cls, directory: Path) -> "Interactions":
        """Read what `save` wrote, exactly. `RunError` if it is missing or not intact."""
        items = _read(directory / ITEMS_FILE, ("item_id",))
        events = _read(directory / EVENTS_FILE, ("user_id", "item_id", "timestamp"))
        item_ids = items["item_id"].combine_chunks()
        # The events hold the users in order, but not the items: those have a table of their own.
        user, user_ids = _codes(events["user_id"])
        item, distinct = _codes(events["item_id"])
        if distinct.type != item_ids.type:
            raise RunError(f"{directory}: the item ids of the two files differ in type")
        place = pc.index_in(distinct, value_set=item_ids)
        if place.null_count:
            raise RunError(
                f"{directory}: {EVENTS_FILE} holds an item that {ITEMS_FILE} does not: "
                "the files are of different runs; train again"
            )
        lengths = np.bincount(user, minlength=len(user_ids))
        return cls(
            user_ids=_values(user_ids),
            item_ids=_values(item_ids),
            offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            item_index=place.to_numpy().astype(np.int32)[item],
            timestamps=_values(events["timestamp"]),
            titles=_values(items["title"]) if "title" in items.column_names else None,
            item_attributes=_unpacked(items, "attributes", len(item_ids)),
            item_texts=_values(items["text"]) if "text" in items.column_names else None,
            item_numbers={n: column.to_numpy() for n, column in _stored(items, _NUMBERS).items()},
            item_vectors={
                n: column.combine_chunks().values.to_numpy().reshape(len(column), -1)
                for n, column in _stored(items, _VECTORS).items()
            },
            user_tags=_unpacked(events, "tags", len(user_ids)),
            weights=_values(events["weight"]) if "weight" in events.column_names else None,
        )


def text_tuples(values: Iterable[Iterable[str]], count: int) -> NDArray[np.object_]:
    """An array (count,) of tuples; numpy alone would make tuples of one length a matrix."""
    return np.fromiter((tuple(texts) for texts in values), object, count)


def _packed(tuples: NDArray[np.object_]) -> pa.Array:
    return pa.array([json.dumps(texts) for texts in tuples], pa.string())


def _unpacked(table: pa.Table, column: str, count: int) -> NDArray[np.object_] | None:
    if column not in table.column_names:
        return None
    return text_tuples(map(json.loads, table[column].drop_null().to_pylist()), count)


def _stored(table: pa.Table, prefix: str) -> dict[str, Any]:
    names = [name for name in table.column_names if name.startswith(prefix)]
    return {name.removeprefix(prefix): table[name] for name in names}


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError as error:
        raise RunError(f"{path}: there is no such file; is this a run directory?") from error
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path}: not an intact file of a run ({error}); train again") from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise RunError(f"{path}: there is no column {missing[0]!r}; train again")
    return table


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], pa.Array]:
    """Codes by first appearance, and the distinct values."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    coded = column.unify_dictionaries().combine_chunks()
    return number_by_first_row(coded.indices.to_numpy(), coded.dictionary)


def _id_array(ids: IdArray) -> pa.Array:
    return pa.array(ids, pa.int64() if ids.dtype == np.int64 else pa.string())


def _values(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    # A copy, because Arrow's own memory is read-only and torch warns about that.
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.array(array.to_numpy(zero_copy_only=False))


def _id_bytes(ids: IdArray) -> bytes:
    """Bytes that no other id array has: the type, the count, then the ids."""
    head = f"{ids.dtype} {len(ids)} ".encode()
    if ids.dtype == np.int64:
        return head + ids.astype("<i8").tobytes()
    encoded = [str(text).encode() for text in ids]
    lengths = np.array([len(text) for text in encoded], "<i8")
    return head + lengths.tobytes() + b"".join(encoded)


def number_by_first_row(
    codes: NDArray[np.int32], values: pa.Array
) -> tuple[NDArray[np.int32], pa.Array]:
    """Number `values` anew by first row: each row's code (n,), and the values that have a row.

    `codes` (n,) points into `values`.
    """
    numbered = pa.array(codes).dictionary_encode()
    return numbered.indices.to_numpy(), values.take(numbered.dictionary)


def grouped_rows(
    codes: NDArray[np.int32], n_codes: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Where the rows of each code begin, and the end (n_codes + 1,), and all rows by code (n,).

    Rows of the same code keep their order. `codes` (n,) are from 0 to n_codes - 1.
    """
    n = len(codes)
    ends = np.arange(n + 1, dtype=np.int32 if n < 2**31 else np.int64)
    # One entry a column: scipy then sorts by counting, in one pass.
    by_row = sparse.csc_array((np.ones(n, np.bool_), codes, ends), shape=(n_codes, n)).tocsr()
    return by_row.indptr, by_row.indices


def blocks(until: NDArray[np.integer], most: int) -> Iterator[tuple[int, int]]:
    """Runs of rows, from the first to before the last, that hold at most `most`; or one row.

    until: what all rows before each hold, and the total (n_rows + 1,).
    """
    first = 0
    while first < len(until) - 1:
        last = int(np.searchsorted(until, until[first] + most, side="right")) - 1
        yield first, max(first + 1, last)
        first = max(first + 1, last)

"""What requests can name in rules: tags of items, "column:value", and numbers such as a price."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.models.content_based import words_of
from attnrec.train.runs.run import Run
from attnrec.train.splits.split import Catalogue

logger = logging.getLogger(__name__)

MOST_TAGS, MOST_NUMBERS = 10_000, 20
_LEAST_ITEMS = 5  # with a word of the titles
_TITLE = "title"
_ASKED = 1000  # users whose scores set the unit of boosts
_DEEP = 100


@dataclass(frozen=True, eq=False)
class ItemRules:
    """Tags and numbers of the items of a file, and the unit of its boosts."""

    tags: tuple[str, ...]
    """Each "column:value", those of a column together, T of them."""
    starts: NDArray[np.int64]
    """Where the items of each tag begin in `rows`, (T + 1,)."""
    rows: NDArray[np.int32]
    """Catalogue rows from 1 on, in order within a tag (L,)."""
    numbers: Mapping[str, NDArray[np.float32]]
    """By name (N,), NaN where unknown."""
    boost_unit: float = 1.0
    """What a boost of 1 adds to a score."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the tags, in order."""
        return tuple(dict.fromkeys(column_of(tag) for tag in self.tags))

    def rows_of(self, tag: str) -> NDArray[np.int32]:
        """Catalogue rows of the items with a tag; none for an unknown one."""
        place = self._place.get(tag)
        return self.rows[:0] if place is None else self.rows[slice(*self.starts[place:][:2])]

    def most_tags(self) -> dict[str, int]:
        """Most tags that an item has in each column."""
        most = {}
        for column in self.columns:
            own = [self.rows_of(tag) for tag in self.tags if column_of(tag) == column]
            most[column] = int(np.bincount(np.concatenate(own)).max())
        return most

    @cached_property
    def _place(self) -> dict[str, int]:
        return {tag: place for place, tag in enumerate(self.tags)}

    def facts(self) -> dict[str, Any]:
        """What the metadata of a file says of them: items of each tag, range of each number."""
        counts = np.diff(self.starts).tolist()
        tags: dict[str, dict[str, int]] = {column: {} for column in self.columns}
        for tag, n_items in zip(self.tags, counts, strict=True):
            column, _, value = tag.partition(":")
            tags[column][value] = n_items
        ranges = {
            name: [float(np.nanmin(values)), float(np.nanmax(values))]
            for name, values in self.numbers.items()
        }
        return {"tags": tags, "numbers": ranges, "boost_unit": self.boost_unit}


def column_of(tag: str) -> str:
    """The column of a tag."""
    return tag.partition(":")[0]


def rules_of(
    run: Run, tags: Sequence[str] | None = None, numbers: Sequence[str] | None = None
) -> ItemRules | None:
    """The rules of the file of a run, or None without a tag and a number.

    tags: columns of attributes, and "title" for the words of the titles; None: all attributes
    that there is room for. numbers: likewise. `ValueError` for one that the run does not have,
    and for too many.
    """
    catalogue = run.split.catalogue
    tagged = _tags_of(catalogue, run.data.get("item_columns"))
    chosen = _chosen(tagged, catalogue.n_items, tags)
    known = {
        name: values.astype(np.float32)
        for name, values in _numbers(catalogue, numbers)
        if not np.isnan(values).all()
    }
    if not chosen and not known:
        return None
    items: dict[str, list[int]] = {}
    for column in chosen:
        items |= {tag: rows for tag, rows in sorted(tagged[column].items())}
    starts = np.cumsum([0, *map(len, items.values())])
    flat = [row for rows in items.values() for row in rows]
    rules = ItemRules(tuple(items), starts, np.array(flat, np.int32), known)
    return replace(rules, boost_unit=_boost_unit(run))


def _tags_of(catalogue: Catalogue, columns: Any) -> dict[str, dict[str, list[int]]]:
    """For each column its tags with the rows of their items."""
    found: dict[str, dict[str, list[int]]] = {}
    names = tuple((columns or {}).get("attributes", ()))
    # With one column its values stand without its name.
    prefix = f"{names[0]}:" if len(names) == 1 else ""
    for row, own in enumerate(catalogue.attributes if catalogue.attributes is not None else (), 1):
        for value in own:
            tag = prefix + value
            found.setdefault(column_of(tag), {}).setdefault(tag, []).append(row)
    if catalogue.titles is not None:
        words: dict[str, list[int]] = {}
        for row, title in enumerate(catalogue.titles, 1):
            for word in dict.fromkeys(words_of(title or "")):
                words.setdefault(f"{_TITLE}:{word}", []).append(row)
        found.setdefault(
            _TITLE, {t: rows for t, rows in words.items() if len(rows) >= _LEAST_ITEMS}
        )
    return found


def _chosen(
    tagged: Mapping[str, Mapping[str, list[int]]], n_items: int, tags: Sequence[str] | None
) -> list[str]:
    """The columns to keep. `ValueError` for unknown ones, and for too many tags."""
    if tags is not None:
        for column in tags:
            if column not in tagged:
                raise ValueError(
                    f"`tags` names {column!r}, and the run has no such attributes; there are: "
                    f"{', '.join(tagged) or 'none, so train with `items`'}"
                )
        n_tags = sum(len(tagged[column]) for column in tags)
        if n_tags > MOST_TAGS:
            sizes = ", ".join(f"{column} {len(tagged[column]):,}" for column in tags)
            raise ValueError(
                f"{n_tags:,} tags ({sizes}), and a file holds at most {MOST_TAGS:,}: name fewer "
                "columns with `tags`"
            )
        return list(dict.fromkeys(tags))
    chosen, n_tags = [], 0
    for column, own in tagged.items():
        if column == _TITLE:
            continue
        if n_tags + len(own) > MOST_TAGS or len(own) > n_items // 2:
            logger.warning(
                "%s has %d values: they are no tags of the file; name it with `tags` if they are "
                "to be, at most %d in all",
                column,
                len(own),
                MOST_TAGS,
            )
            continue
        chosen.append(column)
        n_tags += len(own)
    return chosen


def _numbers(
    catalogue: Catalogue, numbers: Sequence[str] | None
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    names = list(catalogue.numbers) if numbers is None else list(dict.fromkeys(numbers))
    if len(names) > MOST_NUMBERS:
        raise ValueError(
            f"{len(names)} numbers, and a file holds at most {MOST_NUMBERS}: name fewer with "
            "`numbers`"
        )
    for name in names:
        if name not in catalogue.numbers:
            raise ValueError(
                f"`numbers` names {name!r}, and the run has no such numbers; there are: "
                f"{', '.join(catalogue.numbers) or 'none, so train with `items`'}"
            )
        yield name, catalogue.numbers[name]


def _boost_unit(run: Run) -> float:
    """The median gap between the scores of ranks 1 and 100, of users of the validation part."""
    split, inputs = run.split, run.model.inputs
    asked = split.everybody() if split.final else split.held_out("valid", _ASKED)
    asked = asked.between(0, _ASKED)
    torch = TorchRecommender(run.model, split.catalogue, users=split.users)
    lists = torch.recommend_batch(
        asked.histories, _DEEP, exclude_seen=not run.recipe.repeats, **asked.side_inputs(inputs)
    )
    gaps = [own.scores[0] - own.scores[-1] for own in lists if len(own.scores) > 1]
    unit = float(np.float32(np.median(gaps))) if gaps else 0.0
    return unit if np.isfinite(unit) and unit > 0 else 1.0

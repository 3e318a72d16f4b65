"""Made-up calls of the graph: every corner of the contract, and never a real history."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.format import LONGEST
from attnrec.runtime.side_inputs import SideInputs
from attnrec.train.data.split import Catalogue
from attnrec.train.data.users import Users

ItemId = int | str
_FEW = 10  # unknown ids and padding, at most so many in a history


@dataclass(frozen=True)
class Call:
    """One call of the graph: rows of raw ids, still of different lengths."""

    name: str
    """What it tries."""
    histories: list[list[ItemId]]
    """Ids, padding and unknown ids, one list a row."""
    k: int
    """As given to the graph."""
    exclude: list[list[ItemId]] = field(default_factory=list)
    """Ids not to return, a list a row, or none at all."""
    candidates: list[list[ItemId]] = field(default_factory=list)
    """Ids to choose from, a list a row; none at all: the whole catalogue."""
    users: list[ItemId | None] = field(default_factory=list)
    """Who asks, one a row; none at all: nobody."""
    user_tags: list[list[str]] = field(default_factory=list)
    """What is known of them, a list a row, or none at all."""
    timestamps: list[list[int] | None] = field(default_factory=list)
    """When the events of the histories were, a list a row, or none at all."""
    request_times: list[int | None] = field(default_factory=list)
    """When they ask, one a row, or none at all."""

    def said(self) -> SideInputs:
        """What stands beside the histories."""
        return SideInputs(
            self.users or None,
            self.user_tags or None,
            self.timestamps or None,
            self.request_times or None,
        )

    def only(self, row: int) -> "Call":
        """The same question of one row alone."""
        lists = {name: values for name, values in vars(self).items() if isinstance(values, list)}
        own: dict[str, Any] = {name: rows[row : row + 1] for name, rows in lists.items()}
        return replace(self, **own)


class _Maker:
    """Draws ids; seeded, so that the same catalogue always gets the same calls."""

    def __init__(self, catalogue: Catalogue, id_type: str) -> None:
        self._rng = np.random.default_rng(catalogue.n_items)
        self.ids: list[ItemId] = catalogue.item_ids.tolist()
        self.padding = names.PADDING[id_type]
        known = set(self.ids)
        # More numbers than items: three of them name no item.
        numbers = range(-10 - len(known), -2)
        is_text = id_type == "string"
        names_of_nothing = (f"no such item {n}" if is_text else n for n in numbers)
        self.unknown: list[ItemId] = list(
            islice((item_id for item_id in names_of_nothing if item_id not in known), 3)
        )

    def draw(self, n: int) -> list[ItemId]:
        """n ids of the catalogue, repeats possible."""
        return [self.ids[i] for i in self._rng.integers(0, len(self.ids), n)]

    def mix(self, *parts: list[ItemId]) -> list[ItemId]:
        """All parts in a random order."""
        joined = [item_id for part in parts for item_id in part]
        return [joined[i] for i in self._rng.permutation(len(joined))]


def made_up_calls(catalogue: Catalogue, id_type: str, max_len: int) -> Iterator[Call]:
    """Calls whose answers the gate compares; the longest holds 10 x max_len ids, or LONGEST."""
    make = _Maker(catalogue, id_type)
    pad, unknown, n_items = [make.padding], make.unknown, catalogue.n_items
    for length in (0, 1, 2, max_len - 1, max_len, max_len + 1, min(10 * max_len, LONGEST)):
        yield Call(f"history of {length}", [make.draw(length)], 10)
    some = make.draw(5)
    yield Call("padding left", [pad * 7 + some], 10)
    yield Call("padding right", [some + pad * 7], 10)
    yield Call("padding in the middle", [some[:2] + pad * 7 + some[2:]], 10)
    yield Call("only padding", [pad * 3], 10)
    yield Call("only unknown ids", [unknown], 10)
    yield Call("unknown ids in between", [make.mix(make.draw(max_len), unknown, unknown)], 10)
    yield Call("one item again and again", [some[:1] * (max_len + 3)], 10)
    for k in (-1, 0, 1, 2, n_items - 1, n_items, n_items + 1, 10**9):
        yield Call(f"k = {k}", [some], k)
    yield Call("exclude some", [some], 10, exclude=[make.mix(make.draw(20), unknown, pad)])
    yield Call("exclude the history", [some], n_items, exclude=[some])
    yield Call("exclude everything", [some], 10, exclude=[make.ids])
    yield Call("exclude all but one", [some], 10, exclude=[make.ids[:-1]])
    listed = make.draw(30)
    yield Call("candidates", [some], n_items, candidates=[listed])
    yield Call(
        "candidates: unknown, repeated, excluded",
        [some],
        20,
        exclude=[listed[:5]],
        candidates=[make.mix(listed, listed, unknown, pad)],
    )
    yield Call("candidates: only unknown ids", [some], 10, candidates=[unknown])
    yield Call("candidates for a newcomer", [[]], 10, candidates=[listed])
    yield _crowd(make, max_len)
    yield _crowd(make, max_len, with_candidates=True)


def calls_of_callers(
    catalogue: Catalogue, users: Users, declared: Sequence[str], id_type: str
) -> Iterator[Call]:
    """The corners of what only models that look at who asks have; none for other models."""
    make = _Maker(catalogue, id_type)
    known: list[ItemId] = users.ids.tolist() if names.USER in declared else []
    tags = list(users.tags) if names.USER_TAGS in declared else []
    some, rng = make.draw(5), np.random.default_rng(len(known))
    for user in dict.fromkeys([None, *known[:1], *known[-1:]]) if declared else ():
        asking = [user] if known else []
        yield Call(f"asked by {user!r}, without a history", [[]], 10, users=asking)
        yield Call(f"asked by {user!r}", [some], 10, exclude=[some], users=asking)
        if tags:
            given = ["no such tag", tags[-1], "", tags[0]]
            yield Call(f"tags of {user!r}", [some], 10, users=asking, user_tags=[given])
            nothing = [given[:1]]
            yield Call(f"unknown tags of {user!r}", [some], 10, users=asking, user_tags=nothing)
    if declared:
        histories = [make.draw(n % 9) for n in range(64)]
        who = [known[i] if i % 3 else None for i in rng.integers(0, max(1, len(known)), 64)]
        owned = [[tags[i] for i in rng.permutation(len(tags))[: n % 4]] for n in range(64)]
        yield Call(
            "64 rows, each asked by somebody else",
            histories,
            10,
            users=who if known else [],
            user_tags=owned if tags else [],
        )


def calls_of_times(
    catalogue: Catalogue, declared: Sequence[str], id_type: str, max_len: int
) -> Iterator[Call]:
    """The corners of what only models that look at times have; none for other models."""
    if names.TIMESTAMPS not in declared:
        return
    make, now, none = _Maker(catalogue, id_type), 1_000_000_000, names.NO_TIME
    some = make.draw(5)
    at = {
        "minutes apart": [now - 60 * n for n in (900, 30, 3, 2, 1)],
        "at one time": [now] * 5,
        "years ago": [0, 1, 2, 3, 4],
        "after the request": [now + 7] * 5,
        "not in order": [now, 5, now - 1, 0, now - 100],
        "partly unknown": [none, now - 9, none, -(2**63), now - 1],
        "at the end of time": [2**63 - 1] * 5,
    }
    for name, times in at.items():
        yield Call(f"events {name}", [some], 10, timestamps=[times], request_times=[now])
    for name, asked_at in (("the end of time", 2**63 - 1), ("an unknown time", none), ("0", 0)):
        times = at["minutes apart"]
        yield Call(f"asked at {name}", [some], 10, timestamps=[times], request_times=[asked_at])
    yield Call("a newcomer with a clock", [[]], 10, timestamps=[[]], request_times=[now])
    mixed = make.mix(make.draw(_twice(max_len)), make.unknown, make.unknown, [make.padding] * 3)
    apart = [now - 40 * n for n in range(len(mixed), 0, -1)]
    yield Call("times of unknown ids", [mixed], 10, timestamps=[apart], request_times=[now])
    crowd = _crowd(make, max_len)
    gaps = np.random.default_rng(max_len).integers(0, 10**6, (64, 12 * max_len))
    times_of = [[int(now - gap) for gap in own] for own in gaps.cumsum(axis=1)[:, ::-1]]
    own = [times_of[row][-len(h) :] if h else [] for row, h in enumerate(crowd.histories)]
    yield Call(
        "64 rows, each at its own time",
        crowd.histories,
        10,
        crowd.exclude,
        timestamps=[None if row % 5 == 0 else times for row, times in enumerate(own)],
        request_times=[None if row % 5 == 0 else now + row for row in range(64)],
    )


def _twice(max_len: int) -> int:
    """Length of a history that is cut, and that a request can hold with a few unknown ids."""
    return min(2 * max_len, LONGEST - _FEW)


def _crowd(make: _Maker, max_len: int, *, with_candidates: bool = False) -> Call:
    """64 rows of all lengths, each padded in its own way."""
    histories, exclude, candidates = [], [], []
    for row in range(64):
        length = 0 if row % 16 == 0 else row * _twice(max_len) // 64 + 1
        padding: list[ItemId] = [make.padding] * (row % 5)
        histories.append(make.mix(make.draw(length), padding, make.unknown[: row % 3]))
        exclude.append(make.draw(row % 7))
        candidates.append(make.draw(row % 11))
    if with_candidates:
        return Call("64 rows with candidates", histories, 10, exclude, candidates)
    return Call("64 rows", histories, 10, exclude)


def golden_calls(catalogue: Catalogue, id_type: str, max_len: int) -> list[Call]:
    """The few calls whose answers a file keeps, so that it can test itself on any machine."""
    make = _Maker(catalogue, id_type)
    short, long, listed = make.draw(4), make.draw(_twice(max_len)), make.draw(8)
    return [
        Call("newcomer", [[]], 5),
        Call("short history", [short], 5, exclude=[short]),
        Call("long history", [make.mix(long, make.unknown)], 5, exclude=[long]),
        Call("candidates", [short], 5, candidates=[listed]),
    ]

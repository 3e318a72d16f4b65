"""Synthetic calls of the graph: every corner of the contract, and never a real history."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.format import LONGEST
from attnrec.runtime.rules import Rules
from attnrec.runtime.side_inputs import SideInputs
from attnrec.train.data.users import Users
from attnrec.train.runs.run import Run
from attnrec.train.splits.split import Catalogue
from attnrec.train.splits.time_split import DAY

ItemId = int | str
_FEW = 10  # unknown ids and padding, at most so many in a history


@dataclass(frozen=True)
class GraphCall:
    """One call of the graph: rows of raw ids, still of different lengths."""

    name: str
    """Name of the case, for faults."""
    histories: list[list[ItemId]]
    """Ids, padding and unknown ids, one list a row."""
    k: int
    """As given to the graph."""
    exclude: list[list[ItemId]] = field(default_factory=list)
    """Ids not to return, a list a row, or none at all."""
    candidates: list[list[ItemId]] = field(default_factory=list)
    """Ids to choose from, a list a row; none at all: the whole catalogue."""
    users: list[ItemId | None] = field(default_factory=list)
    """A user a row, or none at all."""
    user_tags: list[list[str]] = field(default_factory=list)
    """Tags of the user, a list a row, or none at all."""
    timestamps: list[list[int] | None] = field(default_factory=list)
    """Times of the events, a list a row, or none at all."""
    request_times: list[int | None] = field(default_factory=list)
    """Times of the requests, one a row, or none at all."""
    rules: list[Rules] = field(default_factory=list)
    """Rules, one set a row, or none at all."""

    def side_inputs(self) -> SideInputs:
        """The side inputs of every row."""
        return SideInputs(
            self.users or None,
            self.user_tags or None,
            self.timestamps or None,
            self.request_times or None,
        )

    def only(self, row: int) -> "GraphCall":
        """The same call with one row alone."""
        lists = {name: values for name, values in vars(self).items() if isinstance(values, list)}
        own: dict[str, Any] = {name: rows[row : row + 1] for name, rows in lists.items()}
        return replace(self, **own)


class Maker:
    """Draws ids; seeded, so that the same catalogue always gets the same calls."""

    def __init__(self, catalogue: Catalogue, id_type: str) -> None:
        self._rng = np.random.default_rng(catalogue.n_items)
        self.ids: list[ItemId] = catalogue.item_ids.tolist()
        self.padding = names.PADDING[id_type]
        known = set(self.ids)
        # More numbers than items: at least three of them are unknown ids.
        numbers = range(-10 - len(known), -2)
        ids = (f"no such item {n}" if id_type == "string" else n for n in numbers)
        self.unknown: list[ItemId] = [*islice((i for i in ids if i not in known), 3)]

    def draw(self, n: int) -> list[ItemId]:
        """n ids of the catalogue, repeats possible."""
        return [self.ids[i] for i in self._rng.integers(0, len(self.ids), n)]

    def mix(self, *parts: list[ItemId]) -> list[ItemId]:
        """All parts in a random order."""
        joined = [item_id for part in parts for item_id in part]
        return [joined[i] for i in self._rng.permutation(len(joined))]


def every_call(run: Run, id_type: str) -> Iterator[GraphCall]:
    """All calls that suit the inputs of a model, without rules."""
    split, declared, max_len = run.split, run.model.inputs, run.model.config.max_len
    yield from contract_calls(split.catalogue, id_type, max_len)
    yield from calls_with_users(split.catalogue, split.users, declared, id_type)
    until = run.seen_until()
    yield from calls_with_times(split.catalogue, declared, id_type, max_len, until)


def contract_calls(catalogue: Catalogue, id_type: str, max_len: int) -> Iterator[GraphCall]:
    """Calls whose answers the gate compares; the longest holds 10 x max_len ids, or LONGEST."""
    make = Maker(catalogue, id_type)
    pad, unknown, n_items = [make.padding], make.unknown, catalogue.n_items
    for length in (0, 1, 2, max_len - 1, max_len, max_len + 1, min(10 * max_len, LONGEST)):
        yield GraphCall(f"history of {length}", [make.draw(length)], 10)
    some = make.draw(5)
    yield GraphCall("padding left", [pad * 7 + some], 10)
    yield GraphCall("padding right", [some + pad * 7], 10)
    yield GraphCall("padding in the middle", [some[:2] + pad * 7 + some[2:]], 10)
    yield GraphCall("only padding", [pad * 3], 10)
    yield GraphCall("only unknown ids", [unknown], 10)
    yield GraphCall("unknown ids in between", [make.mix(make.draw(max_len), unknown, unknown)], 10)
    yield GraphCall("one item again and again", [some[:1] * (max_len + 3)], 10)
    for k in (-1, 0, 1, 2, n_items - 1, n_items, n_items + 1, 10**9):
        yield GraphCall(f"k = {k}", [some], k)
    yield GraphCall("exclude some", [some], 10, exclude=[make.mix(make.draw(20), unknown, pad)])
    yield GraphCall("exclude the history", [some], n_items, exclude=[some])
    yield GraphCall("exclude everything", [some], 10, exclude=[make.ids])
    yield GraphCall("exclude all but one", [some], 10, exclude=[make.ids[:-1]])
    listed = make.draw(30)
    yield GraphCall("candidates", [some], n_items, candidates=[listed])
    yield GraphCall(
        "candidates: unknown, repeated, excluded",
        [some],
        20,
        exclude=[listed[:5]],
        candidates=[make.mix(listed, listed, unknown, pad)],
    )
    yield GraphCall("candidates: only unknown ids", [some], 10, candidates=[unknown])
    yield GraphCall("candidates after an empty history", [[]], 10, candidates=[listed])
    yield _crowd(make, max_len)
    yield _crowd(make, max_len, with_candidates=True)


def calls_with_users(
    catalogue: Catalogue, users: Users, declared: Sequence[str], id_type: str
) -> Iterator[GraphCall]:
    """Calls with users and tags; none for models without these inputs."""
    make = Maker(catalogue, id_type)
    known: list[ItemId] = users.ids.tolist() if names.USER in declared else []
    tags = list(users.tags) if names.USER_TAGS in declared else []
    some, rng = make.draw(5), np.random.default_rng(len(known))
    for user in dict.fromkeys([None, *known[:1], *known[-1:]]) if declared else ():
        own = [user] if known else []
        yield GraphCall(f"user {user!r} without a history", [[]], 10, users=own)
        yield GraphCall(f"user {user!r}", [some], 10, exclude=[some], users=own)
        if tags:
            given = ["no such tag", tags[-1], "", tags[0]]
            yield GraphCall(f"tags of {user!r}", [some], 10, users=own, user_tags=[given])
            unknown = [given[:1]]
            yield GraphCall(f"unknown tags of {user!r}", [some], 10, users=own, user_tags=unknown)
    if declared:
        histories = [make.draw(n % 9) for n in range(64)]
        drawn = [known[i] if i % 3 else None for i in rng.integers(0, max(1, len(known)), 64)]
        owned = [[tags[i] for i in rng.permutation(len(tags))[: n % 4]] for n in range(64)]
        yield GraphCall(
            "64 rows, each of another user",
            histories,
            10,
            users=drawn if known else [],
            user_tags=owned if tags else [],
        )


def calls_with_times(
    catalogue: Catalogue,
    declared: Sequence[str],
    id_type: str,
    max_len: int,
    until: int | None = None,
) -> Iterator[GraphCall]:
    """Calls with times; none for models without these inputs. until: the end of the log."""
    if names.TIMESTAMPS not in declared:
        return
    make, now, none = Maker(catalogue, id_type), 1_000_000_000, names.NO_TIME
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
        yield GraphCall(f"events {name}", [some], 10, timestamps=[times], request_times=[now])
    when: list[list[int] | None] = [at["minutes apart"]]
    for name, second in (
        ("the end of time", 2**63 - 1),
        ("an unknown time", none),
        ("0", 0),
        ("lowest", -(2**63)),
    ):
        yield GraphCall(f"request at {name}", [some], 10, timestamps=when, request_times=[second])
    for days in (-1, 0, 1, 30, 1000) if until else ():  # a trend fades
        moment = 0 if until is None else until + days * DAY
        name = f"request {days} days after the log"
        yield GraphCall(name, [some], 10, timestamps=when, request_times=[moment])
    yield GraphCall("empty history at a time", [[]], 10, timestamps=[[]], request_times=[now])
    mixed = make.mix(make.draw(_twice(max_len)), make.unknown, make.unknown, [make.padding] * 3)
    apart = [now - 40 * n for n in range(len(mixed), 0, -1)]
    yield GraphCall("times of unknown ids", [mixed], 10, timestamps=[apart], request_times=[now])
    crowd = _crowd(make, max_len)
    gaps = np.random.default_rng(max_len).integers(0, 10**6, (64, 12 * max_len))
    times_of = [[int(now - gap) for gap in own] for own in gaps.cumsum(axis=1)[:, ::-1]]
    own = [times_of[row][-len(h) :] if h else [] for row, h in enumerate(crowd.histories)]
    yield GraphCall(
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


def _crowd(make: Maker, max_len: int, *, with_candidates: bool = False) -> GraphCall:
    """64 rows of all lengths, each padded in its own way."""
    histories, exclude, candidates = [], [], []
    for row in range(64):
        length = 0 if row % 16 == 0 else row * _twice(max_len) // 64 + 1
        padding: list[ItemId] = [make.padding] * (row % 5)
        histories.append(make.mix(make.draw(length), padding, make.unknown[: row % 3]))
        exclude.append(make.draw(row % 7))
        candidates.append(make.draw(row % 11))
    if with_candidates:
        return GraphCall("64 rows with candidates", histories, 10, exclude, candidates)
    return GraphCall("64 rows", histories, 10, exclude)


def golden_calls(catalogue: Catalogue, id_type: str, max_len: int) -> list[GraphCall]:
    """The few calls whose answers a file keeps, for its self-test on any machine."""
    make = Maker(catalogue, id_type)
    short, long, listed = make.draw(4), make.draw(_twice(max_len)), make.draw(8)
    return [
        GraphCall("empty history", [[]], 5),
        GraphCall("short history", [short], 5, exclude=[short]),
        GraphCall("long history", [make.mix(long, make.unknown)], 5, exclude=[long]),
        GraphCall("candidates", [short], 5, candidates=[listed]),
    ]

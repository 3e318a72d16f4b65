"""Random logs of any shape, and in plain Python what must become of them."""

import csv
import gzip
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from hypothesis import strategies as st

Readable = Path | pd.DataFrame

AWKWARD = [
    "00123", "123", "-0", "+1", "1e3", "-1", "9223372036854775808", "NA", "null", "nan", "None",
    "a,b", 'say "hi"', '"', '""', "'", "\\", " ", " padded ", "\t", "line\nbreak", "\n", "\r",
    "\r\n", "\x00", "a\x00", "a\x00b", "\x1a", "\x85", "\u2028", "\ufeff", "\ufffd", "\U0010ffff",
    "é", "e\u0301", "🛒", "👩‍🍳", "[bold]", "{}", "%s", "x" * 5000, "商" * 3000,
]  # fmt: skip
EXTREME = [-(2**63), -(2**63) + 1, 2**63 - 1, 2**63 - 2, 0, 1, -2, 2**53, 2**53 + 1]


@dataclass(frozen=True)
class Log:
    """Events in the order of the source; ids are all text or all int."""

    events: list[tuple[Any, Any, int]]
    """User, item, time."""
    titles: list[tuple[Any, str]] | None
    """Rows of the items table: an item may stand there twice."""
    time_unit: str
    """What the recipe says of the times."""
    form: str
    """How it is handed over."""

    def sources(self, directory: Path) -> tuple[Readable, Readable | None]:
        """The log and its items table in their form."""
        log = _write(["user_id", "item_id", "timestamp"], self.events, self.form, directory, "log")
        if self.titles is None:
            return log, None
        return log, _write(["item_id", "title"], self.titles, self.form, directory, "items")


@st.composite
def logs(draw: st.DrawFn, flaw: str = "") -> Log:
    """Sizes and shapes are drawn one by one, the mass of events by a seeded generator.

    Without a flaw the first user has three items at least, so that the log can be used.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_items = draw(st.one_of(st.integers(3, 8), st.integers(9, 60), st.integers(500, 2000)))
    n_users = draw(st.one_of(st.integers(3, 12), st.integers(13, 500)))
    items = _ids(draw, rng, 1 if flaw == "one item" else n_items)
    if flaw == "padding":
        items = [-1, *(i for i in items if isinstance(i, int))]
    users = _ids(draw, rng, n_users)
    longest = 2 if flaw == "short histories" else draw(st.sampled_from([4, 8, 30, 150]))
    shape = draw(st.sampled_from(["any", "any", "one item for all", "one long history", "runs"]))
    lengths = rng.integers(1, longest + 1, len(users))
    lengths[0] = longest
    if shape == "one long history":
        lengths[1:] = 1
    times, unit = _times(draw, rng, int(lengths.sum()))
    events = []
    for user, length in zip(users, lengths, strict=True):
        places = rng.integers(0, len(items), length)
        if shape == "one item for all":
            places[rng.integers(0, length)] = 0
        elif shape == "runs":
            places = (places[0] + np.arange(length) // 2) % len(items)
        if user == users[0] and not flaw:
            places[:3] = [0, 1, 2]
        elif user == users[0]:
            places[0] = 0
        events += [(user, items[place], times.pop()) for place in places]
    if draw(st.booleans()):
        events = [events[i] for i in rng.permutation(len(events))]
    form = draw(st.sampled_from(["csv", "csv.gz", "parquet", "DataFrame"]))
    return Log(events, _titles(draw, rng, [item for _, item, _ in events]), unit, form)


def _ids(draw: st.DrawFn, rng: np.random.Generator, n: int) -> list[Any]:
    """n distinct ids, all of one type and none that stands for padding, the strange ones first."""
    kind = draw(st.sampled_from(["text", "text", "int64", "padded numbers", "plain numbers"]))
    drawn: list[Any]
    if kind == "int64":
        drawn = draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5)) + EXTREME
        more = rng.integers(-(2**63), 2**63 - 1, 2 * n).tolist()
    elif kind == "text":
        text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
        drawn = draw(st.lists(text, max_size=5))
        drawn += [AWKWARD[i] for i in rng.permutation(len(AWKWARD))]
        more = [_random_text(rng) for _ in range(2 * n)]
    else:
        drawn = []
        more = [f"{i:0{5 if kind == 'padded numbers' else 1}}" for i in range(2 * n)]
    return [i for i in dict.fromkeys(drawn + more) if i not in ("", -1)][:n]


def _random_text(rng: np.random.Generator) -> str:
    highest = int(rng.choice([0x80, 0x250, 0xD800, 0x20000]))
    points = rng.integers(0, highest, int(rng.integers(1, 12)))
    return "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)


def _times(draw: st.DrawFn, rng: np.random.Generator, n: int) -> tuple[list[int], str]:
    kind = draw(st.sampled_from(["equal", "few", "order", "s", "ms", "extreme"]))
    low, high, unit = {
        "equal": (5, 6, "auto"),
        "few": (0, 3, "auto"),
        "order": (-(10**7), 10**7, "auto"),
        "s": (1_700_000_000, 1_700_000_000 + 10 * n, "auto"),
        "ms": (1_700_000_000_000, 1_700_000_000_000 + 10**9, "auto"),
        "extreme": (-(2**63), 2**63 - 1, "order"),
    }[kind]
    return rng.integers(low, high, n).tolist(), unit


def _titles(draw: st.DrawFn, rng: np.random.Generator, items: list[Any]) -> Any:
    kind = draw(st.sampled_from(["none", "none", "some", "awkward"]))
    if kind == "none":
        return None
    named = list(dict.fromkeys(items))
    named = [item for item in named if rng.random() < 0.7] or named[:1]
    if kind == "some":
        return [(item, f"Title {place}") for place, item in enumerate(named)]
    pool = ["", *AWKWARD]
    rows = [(item, pool[rng.integers(len(pool))]) for item in named]
    return rows + [(item, "too late: not the first row of this item") for item in named[:3]]


def _write(columns: list[str], rows: list[Any], form: str, directory: Path, name: str) -> Readable:
    frame = pd.DataFrame(rows, columns=columns)
    if form == "DataFrame":
        return frame
    path = directory / f"{name}.{form}"
    if form == "parquet":
        values = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
        pyarrow.parquet.write_table(pa.table(values), path)
        return path
    opened: Any = gzip.open if form == "csv.gz" else open
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


class Prepared:
    """What the documents say of a log: whose history is what, and which items are known."""

    def __init__(self, log: Log, *, repeats: bool, final: bool = False) -> None:
        as_read = _reader([item for _, item, _ in log.events])
        self.histories: dict[Any, list[Any]] = {}
        for user, item, _ in sorted(log.events, key=lambda event: event[2]):
            history = self.histories.setdefault(user, [])
            if repeats or as_read(item) not in history:
                history.append(as_read(item))
        # Of three events or more, the last two are held back.
        n_held_back = 0 if final else 2
        counts = Counter(
            item
            for history in self.histories.values()
            for item in history[: len(history) - n_held_back * (len(history) >= 3)]
        )
        self.catalogue = sorted(counts, key=lambda item: (-counts[item], item))
        self.titles = None
        if log.titles is not None:
            title_of = {as_read(item): title for item, title in reversed(log.titles)}
            self.titles = [title_of.get(item, "") for item in self.catalogue]


def _reader(ids: list[Any]) -> Any:
    """Text becomes int64 where every id is a plain number of that range."""
    for item in map(str, set(ids)):
        plain = re.fullmatch(r"0|-?[1-9][0-9]{0,18}", item)
        if plain is None or not -(2**63) <= int(item) < 2**63:
            return str
    return int

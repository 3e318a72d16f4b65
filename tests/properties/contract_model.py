"""The contract of a model file in plain numpy: what must follow from the scores of its items.

Written from docs/file-format.md. It knows no torch, no ONNX and no code of attnrec, so that a
mistake there cannot be repeated here.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = list[Any]


@dataclass(frozen=True)
class Call:
    """One row of a call of the graph: raw ids, padding and unknown ids among them."""

    history: Ids
    k: int
    exclude: Ids = field(default_factory=list)
    candidates: Ids | None = None
    """None: no restriction. []: nothing may be returned."""


@dataclass(frozen=True)
class Row:
    """One row of an answer, filled with padding to its whole width."""

    items: Ids
    scores: list[float]
    n_known: int
    titles: list[str] | None


class ContractModel:
    """Knows the ids and titles of a catalogue, in the order of its table."""

    def __init__(self, ids: Ids, titles: list[str] | None) -> None:
        self.ids, self.titles = ids, titles
        self.padding: Any = -1 if isinstance(ids[0], int) else ""
        self._place = {item_id: place for place, item_id in enumerate(ids)}

    def places(self, ids: Ids) -> list[int]:
        """Places in the table of the known ids, in order."""
        return [self._place[item_id] for item_id in ids if item_id in self._place]

    def allowed(self, call: Call) -> NDArray[np.bool_]:
        """Which items may be returned (N,)."""
        allowed = np.full(len(self.ids), call.candidates is None)
        allowed[self.places(call.candidates or [])] = True
        allowed[self.places(call.exclude)] = False
        return allowed

    def width(self, call: Call) -> int:
        """Columns of the answer, K."""
        return min(max(call.k, 0), len(self.ids))

    def answer(self, scores: NDArray[np.float32], call: Call) -> Row:
        """The answer where the items have these scores (N,): equal scores by place."""
        places = np.flatnonzero(self.allowed(call))
        best = places[np.argsort(-scores[places], kind="stable")][: self.width(call)]
        titles = None if self.titles is None else [self.titles[place] for place in best]
        items = [self.ids[place] for place in best]
        return self.row(items, scores[best].tolist(), len(self.places(call.history)), titles, call)

    def row(
        self, items: Ids, scores: list[float], n_known: int, titles: list[str] | None, call: Call
    ) -> Row:
        """An answer without its padding, with it."""
        missing = self.width(call) - len(items)
        return Row(
            items + [self.padding] * missing,
            scores + [-np.inf] * missing,
            n_known,
            None if titles is None else titles + [""] * missing,
        )

    def assert_answers(self, row: Row, scores: NDArray[np.float32], call: Call) -> None:
        """`row` is the answer to `call`, up to the tolerance; scores (N,): those of the items."""
        wanted = self.answer(scores, call)
        n = min(self.width(call), int(self.allowed(call).sum()))
        assert row.n_known == wanted.n_known
        assert len(row.items) == len(row.scores) == len(wanted.items)
        assert row.items[n:] == wanted.items[n:] and row.scores[n:] == wanted.scores[n:]
        places = self.places(row.items[:n])
        assert len(set(places)) == n, "an unknown item, or one twice"
        assert self.allowed(call)[places].all()
        tolerance = 1e-5 * max(1.0, float(np.abs(scores).max()))
        best = np.array(row.scores[:n], dtype=np.float32)
        assert np.abs(best - scores[places]).max(initial=0) <= tolerance
        apart = np.abs(scores[places] - scores[self.places(wanted.items[:n])])
        assert apart.max(initial=0) <= 2 * tolerance
        order = [(-score, place) for score, place in zip(best, places, strict=True)]
        assert order == sorted(order), "best first, equal scores in the order of the table"
        if self.titles is None:
            assert row.titles is None
        else:
            assert row.titles == [self.titles[p] for p in places] + [""] * (len(row.items) - n)

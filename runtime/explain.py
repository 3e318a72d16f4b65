"""Explanations: each event of the history is left out and the item scored again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from attnrec.runtime.arguments import IdArray, stack
from attnrec.runtime.batch import BATCH, GraphFunction
from attnrec.runtime.deadline import check_deadline
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.rules import CheckedRules, Rules


@dataclass(frozen=True, slots=True)
class Explanation:
    """The contribution of each event of a history to the score of one item."""

    item_id: int | str
    """The item that is explained."""
    score: float
    """Its score after the whole history."""
    title: str | None
    """Its title; None if the file holds no titles."""
    history: list[int] | list[str]
    """The events as given, oldest first."""
    titles: list[str] | None
    """Their titles, "" where unknown or unavailable; None if the file holds no titles."""
    contributions: list[float]
    """For each event how much lower the score is without it; negative where the event lowers
    the score, 0.0 for unknown ids and for events beyond `max_len`."""
    attention: list[float] | None
    """Attention weight of each event, the same for every item, 0.0 likewise; None for a model
    without attention weights."""
    boosts: dict[str, float] | None = None
    """What each boost that lifts or lowers the item adds to its score; None: none was given."""

    def strongest(self, n: int) -> list[tuple[int, float]]:
        """Places of the `n` events that raise the score most, with their share of the total.

        Only positive contributions count; the shares of all of these sum to 1.
        """
        positive = [place for place, value in enumerate(self.contributions) if value > 0]
        positive.sort(key=lambda place: -self.contributions[place])
        total = sum(self.contributions[place] for place in positive)
        return [(place, self.contributions[place] / total) for place in positive[:n]]


@dataclass(frozen=True, eq=False)
class ExplainedItem:
    """An item to explain, with the history and the side inputs of the request."""

    info: ModelInfo
    run: GraphFunction
    history: IdArray
    """Checked ids (T,), as the item's."""
    item_id: int | str
    side_inputs: dict[str, IdArray]
    """The side inputs of the request, one row."""
    boost: Mapping[str, float] = field(default_factory=dict)
    """The boosts of the request, by tag."""

    def explain(self) -> Explanation:
        """Score the item with each event left out. `ValueError` for an item without a score."""
        has_attention = self.info.has_attention
        _, scores, n_known, *rest = self._score(
            [range(len(self.history))], attention=has_attention
        )
        if scores[0, 0] == -np.inf:  # the end of an empty answer
            raise self._refusal()
        score = float(scores[0, 0])
        known = self._newest_known(int(n_known[0]))
        counting = known[-self.info.max_len :]
        contributions, attention = np.zeros((2, len(self.history)))
        for start in range(0, len(counting), BATCH):
            check_deadline()
            places = counting[start : start + BATCH]
            # With one event less, the next older one counts as well.
            rows = [[i for i in known if i != place] for place in places]
            contributions[places] = score - self._score(rows)[1][:, 0].astype(np.float64)
        if has_attention and counting:
            attention[counting] = rest[-1][0, -len(counting) :]
        boosts = self._boosts(score)
        titles = self._titles()
        events = self.history.tolist()
        return Explanation(
            item_id=self.item_id,
            score=score + sum(boosts.values()),
            title=None if titles is None else titles[self.item_id],
            history=events,
            titles=None if titles is None else [titles.get(event, "") for event in events],
            contributions=contributions.tolist(),
            boosts=boosts if self.boost else None,
            attention=attention.tolist() if has_attention else None,
        )

    def _boosts(self, score: float) -> dict[str, float]:
        """What each boost adds by itself, without those that add nothing."""
        one_each = [Rules(boost={tag: by}) for tag, by in self.boost.items()]
        if not one_each:
            return {}
        more = CheckedRules(self.info, one_each, len(one_each)).inputs(range(len(one_each)))
        scores = self._score([range(len(self.history))] * len(one_each), more=more)[1][:, 0]
        added = zip(self.boost, (scores - np.float32(score)).tolist(), strict=True)
        return {tag: value for tag, value in added if value}

    def _score(
        self,
        rows: Sequence[Sequence[int]],
        *,
        attention: bool = False,
        more: Mapping[str, IdArray] = MappingProxyType({}),
    ) -> list[Any]:
        """The outputs of the graph for the item as the only candidate: items and scores (B, 1).

        rows: places of the history that each row keeps; more: inputs of rules.
        """
        n_rows, id_type = len(rows), self.info.id_type
        kept = [np.array(places, dtype=np.int64) for places in rows]
        history = stack([self.history[own] for own in kept], id_type, names.PADDING[id_type])
        item = np.full((n_rows, 1), self.item_id, dtype=history.dtype)
        side = {name: np.repeat(row, n_rows, axis=0) for name, row in self.side_inputs.items()}
        side |= more
        times = self.side_inputs.get(names.TIMESTAMPS)
        if times is not None and times.size:
            own_times = [times[0][own] for own in kept]
            side[names.TIMESTAMPS] = stack(own_times, "int64", names.NO_TIME)
        return self.run(history, item[:, :0], item, 1, side, attention=attention)

    def _newest_known(self, n_known: int) -> list[int]:
        """Places of the known events, oldest first; beyond `max_len` + 1 none can matter."""
        length, n_kept = len(self.history), min(n_known, self.info.max_len + 1)
        if n_known == length:
            return list(range(length - n_kept, length))
        known: list[int] = []
        end = length
        while len(known) < n_kept:
            check_deadline()
            places = range(max(0, end - BATCH), end)
            # Each event by itself: `n_known` is 1 for a known one.
            n_known_of = self._score([[i] for i in places])[2].tolist()
            known[:0] = [i for i, one in zip(places, n_known_of, strict=True) if one]
            end = places.start
        return known[len(known) - n_kept :]

    def _titles(self) -> dict[Any, str] | None:
        """Titles of the item and of the events; None if the file holds none."""
        if not self.info.has_titles:
            return None
        ids = np.append(self.history, np.array([self.item_id], self.history.dtype))[None]
        nothing = self.history[None, :0]
        items, _, _, titles, *_ = self.run(nothing, nothing, ids, ids.size, self.side_inputs)
        return dict(zip(items[0].tolist(), titles[0].tolist(), strict=True))

    def _refusal(self) -> ValueError:
        item = np.full((1, 1), self.item_id, dtype=self.history.dtype)
        if self.run(item, item[:, :0], item, 1, self.side_inputs)[2][0]:
            return ValueError(
                f"item_id {self.item_id!r} is unavailable, so it has no score; "
                "explain one that recommend returns"
            )
        return ValueError(
            f"item_id {self.item_id!r} is none of the {self.info.n_items} items of this file; "
            "explain one that recommend returns"
        )

"""How good the answers are: whole-catalogue ranking of what was held out of every user's log."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.answers import Recommendations
from attnrec.runtime.arguments import IdArray
from attnrec.runtime.model_file import format as names
from attnrec.train.splits.held_out import HeldOut

logger = logging.getLogger(__name__)

_CUTOFFS = (5, 10, 20)
_BOOTSTRAP_SAMPLES = 1000
_BATCH = 1024  # users whose lists are in memory at once

Tick = Callable[[int, int], None]
Interval = tuple[float, float]
Gains = dict[str, NDArray[np.float64]]
Intervals = Callable[[Gains], dict[str, Interval]]


class Answers(Protocol):
    """A file through `Recommender`, or a torch model through `TorchRecommender`."""

    @property
    def recommend_batch(self) -> Callable[..., list[Recommendations]]:
        """Best `k` items for each history; side inputs for models that declare them."""


@dataclass(frozen=True)
class Metrics:
    """Figures of one evaluation; every user counts once."""

    values: dict[str, float]
    """ndcg@k and hit_rate@k for k = 5, 10, 20, mrr@10, coverage@10; recall@k for sessions."""
    intervals: dict[str, Interval]
    """95 % intervals over users, of all but the coverage."""
    n_users: int
    """Users with a target."""
    missing_targets: float
    """Share of targets without a training event, which no list can hold."""
    n_left_out: int = 0
    """Users left out, because the model has seen their targets."""
    sample_of: int | None = None
    """Users that `n_users` were drawn from, always the same ones; None: these are all."""
    n_cold_users: int | None = None
    """Users who have their first event in the window that is asked for; None: no such window."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict, figures rounded to 6 places."""
        return {
            **{name: round(value, 6) for name, value in self.values.items()},
            **{
                f"{name}_interval": [round(low, 6), round(high, 6)]
                for name, (low, high) in self.intervals.items()
            },
            "n_users": self.n_users,
            "missing_targets": round(self.missing_targets, 6),
            "n_left_out": self.n_left_out,
            **{n: v for n in ("sample_of", "n_cold_users") if (v := getattr(self, n)) is not None},
        }


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where the targets are in the lists of their users."""

    ranks: NDArray[np.float64]
    """Rank of every target (n_targets,), as `target_ranks` gives it."""
    lists: list[list[int] | list[str]]
    """The first ten items of each user."""
    seconds: float
    """Processor time of the answers, which other programs do not lengthen."""


def evaluate_answers(
    answers: Answers,
    held_out: HeldOut,
    catalogue_ids: IdArray,
    *,
    exclude_seen: bool,
    inputs: Sequence[str] = (),
) -> Metrics:
    """Rank the targets of every history in the whole catalogue.

    exclude_seen: the repeat policy of the run; it may not depend on the target. inputs: the side
    inputs that the model declares, which it is given.
    """
    ranking = rank_targets(answers, held_out, exclude_seen=exclude_seen, inputs=inputs)
    return metrics_of(ranking, held_out, catalogue_ids)


def rank_targets(
    answers: Answers,
    held_out: HeldOut,
    *,
    exclude_seen: bool,
    inputs: Sequence[str] = (),
    tick: Tick | None = None,
) -> Ranking:
    """The same, batch by batch, as ranks; tick: called with (users done, users in all)."""
    if {names.USER, names.USER_TAGS} & {*inputs} == {names.USER_TAGS} and not held_out.user_tags:
        logger.warning("the model uses user_tags, and this log has none: evaluated without")
    ranks, seconds = [], 0.0
    lists: list[list[int] | list[str]] = []
    n_users = len(held_out.histories)
    for start in range(0, n_users, _BATCH):
        some = held_out.between(start, start + _BATCH)
        began = time.process_time()
        found = ask(answers, some, exclude_seen=exclude_seen, inputs=inputs)
        seconds += time.process_time() - began
        ranks.append(target_ranks(found, some))
        lists += [answer.item_ids[:10] for answer in found]
        if tick is not None:
            tick(len(lists), n_users)
    return Ranking(np.concatenate(ranks), lists, seconds)


def ask(
    answers: Answers, some: HeldOut, *, exclude_seen: bool, inputs: Sequence[str] = ()
) -> list[Recommendations]:
    """A list for each user, long enough for `target_ranks`: 21 items for one target."""
    # One more than the longest cutoff for each target of a user: if the last place is tied with
    # them, then all of them have ranks beyond the cutoff, whatever else is tied and not listed.
    k = max(_CUTOFFS) + int(some.n_targets().max(initial=1))
    given = some.side_inputs(inputs)
    if exclude_seen and some.older:
        given["exclude"] = [some.older.get(n, ()) for n in range(len(some.histories))]
    return answers.recommend_batch(some.histories, k, exclude_seen=exclude_seen, **given)


def target_ranks(lists: Sequence[Recommendations], held_out: HeldOut) -> NDArray[np.float64]:
    """Rank of each target, (n_targets,) from 1; inf: beyond 20.

    1 + better items + equal items: ties count against the model. Targets of one user that are
    tied with each other take places of their own, one after the other, behind all other equals.
    """
    targets = iter(held_out.targets.tolist())
    ranks: list[float] = []
    for answer, n_targets in zip(lists, held_out.n_targets().tolist(), strict=True):
        own = dict.fromkeys(islice(targets, n_targets))
        worst_order = sorted(
            (-score, item_id in own, item_id) for item_id, score in answer.pairs()
        )
        place = {item_id: rank for rank, (_, _, item_id) in enumerate(worst_order, start=1)}
        found = [place.get(target, math.inf) for target in own]
        ranks += [rank if rank <= max(_CUTOFFS) else math.inf for rank in found]
    return np.array(ranks, dtype=float)


def metrics_of(
    ranking: Ranking,
    held_out: HeldOut,
    catalogue_ids: IdArray,
    intervals: Intervals | None = None,
) -> Metrics:
    """The figures of a ranking by a model with this catalogue.

    intervals: how they are computed, by default `bootstrap_intervals`.
    """
    gains = user_gains(ranking.ranks, None if held_out.offsets is None else held_out.n_targets())
    values = {name: float(gain.mean()) for name, gain in gains.items()}
    known = set(catalogue_ids.tolist())
    targets = held_out.targets.tolist()
    return Metrics(
        values={
            **values,
            "coverage@10": len({i for own in ranking.lists for i in own}) / len(known),
        },
        intervals=(intervals or bootstrap_intervals)(gains),
        n_users=len(held_out.histories),
        missing_targets=sum(target not in known for target in targets) / len(targets),
        n_left_out=held_out.n_left_out,
        sample_of=held_out.sample_of,
        n_cold_users=held_out.n_cold_users,
    )


def user_gains(ranks: NDArray[np.float64], n_targets: NDArray[np.int64] | None = None) -> Gains:
    """Figures of each user, (n_users,); ranks (sum of n_targets,) from 1, inf for a miss.

    n_targets: how many each user has, from 1; None: one each, and recall is the hit rate.
    NDCG@k compares the sum of 1 / log2(rank + 1) inside k with that of the first min(k,
    n_targets) ranks; hit rate: any target inside k; recall: the share of them; MRR: the best.
    """
    counts = np.ones(len(ranks), dtype=np.int64) if n_targets is None else n_targets
    user = np.repeat(np.arange(len(counts)), counts)
    ideal = np.cumsum(1 / np.log2(np.arange(2, max(_CUTOFFS) + 2)))
    gains: Gains = {}
    for cutoff in _CUTOFFS:
        inside = ranks <= cutoff
        found = np.bincount(user, inside, len(counts))
        gain = np.bincount(user, inside / np.log2(ranks + 1), len(counts))
        gains[f"ndcg@{cutoff}"] = gain / ideal[np.minimum(counts, cutoff) - 1]
        gains[f"hit_rate@{cutoff}"] = (found > 0).astype(float)
        if n_targets is not None:
            gains[f"recall@{cutoff}"] = found / counts
    best = np.full(len(counts), math.inf)
    np.minimum.at(best, user, ranks)
    gains["mrr@10"] = (best <= 10) / best
    return gains


def normal_intervals(gains: Gains) -> dict[str, Interval]:
    """95 % intervals of the means by the normal approximation, inside 0 to 1; for each epoch."""

    def ends(gain: NDArray[np.float64]) -> Interval:
        mean, reach = float(gain.mean()), 1.96 * float(gain.std()) / math.sqrt(len(gain))
        return max(0.0, mean - reach), min(1.0, mean + reach)

    return {name: ends(gain) for name, gain in gains.items()}


def bootstrap_intervals(gains: Gains) -> dict[str, Interval]:
    """Where 95 % of the means lie when users are drawn again; seeded, so figures repeat.

    The same users for all gains, and in every call with as many users: pairs stay pairs.
    """
    rng = np.random.default_rng(0)
    table = np.stack(list(gains.values()))  # (n_gains, n_users)
    n_users = table.shape[1]
    means = []
    for _ in range(_BOOTSTRAP_SAMPLES):
        drawn = np.bincount(rng.integers(0, n_users, n_users), minlength=n_users)
        means.append(table @ drawn.astype(float) / n_users)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return dict(zip(gains, zip(low.tolist(), high.tolist(), strict=True), strict=True))

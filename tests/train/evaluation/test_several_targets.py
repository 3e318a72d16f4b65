"""Figures of several targets: by hand, and compared with an independent evaluation library."""

import math
from collections.abc import Sequence

import ir_measures
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG

from attnrec.runtime.answers import Recommendations
from attnrec.runtime.arguments import IdArray
from attnrec.train.evaluation.metrics import (
    ask,
    evaluate_answers,
    rank_targets,
    target_ranks,
    user_gains,
)
from attnrec.train.splits.held_out import HeldOut

LIBRARY = {"ndcg": nDCG, "hit_rate": Success, "recall": R}


class ByScore:
    """Answers from the scores of items 0, 1, ...; the history names the row of the table."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores
        self.calls: list[tuple[int, int]] = []  # histories and k

    def recommend_batch(
        self,
        histories: Sequence[IdArray],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        users: IdArray | None = None,
    ) -> list[Recommendations]:
        self.calls.append((len(histories), k))
        rows = [self.scores[int(history[0])] for history in histories]
        best = [np.argsort(-row, kind="stable")[:k] for row in rows]
        return [
            Recommendations(items.tolist(), row[items].tolist(), None, 1)
            for items, row in zip(best, rows, strict=True)
        ]


def held_out_of(targets: Sequence[Sequence[int]]) -> HeldOut:
    flat = np.array([target for own in targets for target in own], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, targets)])
    return HeldOut(
        [np.array([user]) for user in range(len(targets))], flat, np.arange(len(targets)), offsets
    )


def gains_of_one(scores: Sequence[float], targets: Sequence[int]) -> dict[str, float]:
    held_out, answers = held_out_of([targets]), ByScore(np.array([scores], dtype=float))
    ranks = target_ranks(ask(answers, held_out, exclude_seen=False), held_out)
    gains = user_gains(ranks, held_out.n_targets())
    return {name: float(gain[0]) for name, gain in gains.items()}


FALLING = [float(-place) for place in range(40)]  # item 0 is best, 1 second, ...


def test_figures_of_three_targets_by_hand() -> None:
    gains = gains_of_one(FALLING, [6, 0, 11])  # ranks 7, 1, 12
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert gains == pytest.approx(
        {
            "ndcg@5": 1 / ideal,
            "hit_rate@5": 1,
            "recall@5": 1 / 3,
            "ndcg@10": (1 + 1 / 3) / ideal,
            "hit_rate@10": 1,
            "recall@10": 2 / 3,
            "ndcg@20": (1 + 1 / 3 + 1 / math.log2(13)) / ideal,
            "hit_rate@20": 1,
            "recall@20": 1,
            "mrr@10": 1,
        }
    )


def test_the_ideal_list_is_as_long_as_the_cutoff_at_most() -> None:
    gains = gains_of_one(FALLING, range(7))
    assert (gains["ndcg@5"], gains["ndcg@10"], gains["recall@5"]) == (1, 1, 5 / 7)


def test_targets_tied_with_each_other_follow_one_another_behind_the_others() -> None:
    scores = [3.0, 2.0, 2.0, 2.0, *(-float(i) for i in range(36))]
    # Of items 1, 2, 3 the one that is no target comes first: places 3 and 4 are left.
    for targets in ([1, 2], [2, 3], [3, 1]):
        gains = gains_of_one(scores, targets)
        assert gains["mrr@10"] == pytest.approx(1 / 3)
        assert gains["ndcg@10"] == pytest.approx(
            (1 / 2 + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
        )
    # No other item has their score: together they are a perfect list, and no better than that.
    assert gains_of_one([2.0, 2.0, *FALLING[1:]], [0, 1])["ndcg@5"] == pytest.approx(1)


def test_one_target_of_a_session_counts_like_the_one_that_is_left_out() -> None:
    ranks = np.array([1.0, 7, 20, math.inf, 3])
    alone, session = user_gains(ranks), user_gains(ranks, np.ones(5, dtype=np.int64))
    assert all(np.array_equal(gain, session[name]) for name, gain in alone.items())
    assert all((session[f"recall@{k}"] == session[f"hit_rate@{k}"]).all() for k in (5, 10, 20))


@st.composite
def tied_tables(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]]]:
    """Scores (users, items) with many ties, and targets: one for every user, or several."""
    n_users, n_items = draw(st.integers(1, 5)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.integers(0, draw(st.integers(1, 40)), (n_users, n_items)).astype(float)
    most = draw(st.sampled_from([1, 3, n_items]))
    sizes = rng.integers(1, min(most, n_items) + 1, n_users)
    # Numbers from n_items on are in no list.
    return scores, [rng.choice(n_items + 3, size, replace=False).tolist() for size in sizes]


@given(tied_tables())
@example((np.zeros((1, 60)), [list(range(20))]))  # a tie across the end of the list
@settings(max_examples=40)
def test_figures_agree_with_ir_measures_where_ties_count_against_the_model(
    table: tuple[np.ndarray, list[list[int]]],
) -> None:
    scores, targets = table
    held_out = held_out_of(targets)
    metrics = evaluate_answers(
        ByScore(scores), held_out, np.arange(scores.shape[1]), exclude_seen=False
    )
    relevant = {str(u): {str(item): 1 for item in own} for u, own in enumerate(targets)}
    run = {}
    for user, (row, own) in enumerate(zip(scores, targets, strict=True)):
        worst = sorted(range(len(row)), key=lambda item: (-row[item], item in own))
        run[str(user)] = {str(item): float(-place) for place, item in enumerate(worst)}
    wanted = {f"{n}@{k}": m @ k for n, m in LIBRARY.items() for k in (5, 10, 20)}
    wanted["mrr@10"] = RR @ 10
    theirs = ir_measures.calc_aggregate([*wanted.values()], relevant, run)
    expected = {name: theirs[measure] for name, measure in wanted.items()}
    assert {name: metrics.values[name] for name in wanted} == pytest.approx(expected)


def test_users_are_ranked_in_batches_and_their_lists_not_kept() -> None:
    rng = np.random.default_rng(0)
    answers = ByScore(rng.normal(size=(2500, 30)))
    held_out = held_out_of(
        [rng.choice(30, 1 + u % 3, replace=False).tolist() for u in range(2500)]
    )
    done: list[tuple[int, int]] = []
    ranking = rank_targets(
        answers, held_out, exclude_seen=False, tick=lambda *now: done.append(now)
    )
    assert answers.calls == [(1024, 23), (1024, 23), (452, 23)]
    assert done == [(1024, 2500), (2048, 2500), (2500, 2500)]
    at_once = target_ranks(ask(answers, held_out, exclude_seen=False), held_out)
    assert ranking.ranks.tolist() == at_once.tolist()

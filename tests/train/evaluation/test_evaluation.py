"""Ranks and figures, by hand and compared with a full sort of raw scores."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnrec.runtime.answers import Recommendations
from attnrec.runtime.arguments import IdArray
from attnrec.train.evaluation.metrics import (
    Metrics,
    bootstrap_intervals,
    evaluate_answers,
    normal_intervals,
    user_gains,
)
from attnrec.train.splits.held_out import HeldOut

CATALOGUE = np.arange(100, 140)
CUTOFFS = (5, 10, 20)


class ScoreTable:
    """Answers from given scores: row u of the table belongs to the history that starts with u."""

    def __init__(self, scores: NDArray[np.float64]) -> None:
        self.scores = scores

    def recommend_batch(
        self,
        histories: Sequence[IdArray],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        users: IdArray | None = None,
    ) -> list[Recommendations]:
        answers = []
        for scores, history in zip(self.scores, histories, strict=True):
            left = [
                (-score, item)
                for score, item in zip(scores, CATALOGUE.tolist(), strict=True)
                if not (exclude_seen and item in history)
            ]
            best = sorted(left)[:k]
            answers.append(
                Recommendations([item for _, item in best], [-s for s, _ in best], None, 0)
            )
        return answers


def evaluate(
    scores: Sequence[Sequence[float]],
    targets: Sequence[int],
    histories: Sequence[Sequence[int]] | None = None,
    *,
    exclude_seen: bool = True,
) -> Metrics:
    seen = histories or [[] for _ in targets]
    held_out = HeldOut(
        [np.array(h, dtype=np.int64) for h in seen], np.array(targets), np.arange(len(targets))
    )
    table = ScoreTable(np.array(scores, dtype=float))
    return evaluate_answers(table, held_out, CATALOGUE, exclude_seen=exclude_seen)


def falling(by_hand: dict[int, float] | None = None) -> list[float]:
    """Item 100 is best, 101 second, ...; the scores of some places set by hand."""
    by_hand = by_hand or {}
    return [by_hand.get(place, float(-place)) for place in range(40)]


def mrr(metrics: Metrics) -> float:
    return metrics.values["mrr@10"]


def test_figures_of_one_user_by_hand() -> None:
    metrics = evaluate([falling()], [106])  # rank 7
    assert metrics.values == pytest.approx(
        {
            "ndcg@5": 0.0,
            "hit_rate@5": 0.0,
            "ndcg@10": 1 / 3,  # 1 / log2(8)
            "hit_rate@10": 1.0,
            "ndcg@20": 1 / 3,
            "hit_rate@20": 1.0,
            "mrr@10": 1 / 7,
            "coverage@10": 10 / 40,
        }
    )
    assert (metrics.n_users, metrics.missing_targets) == (1, 0.0)


@pytest.mark.parametrize("tied_place", [0, 2, 4])
def test_a_tie_counts_against_the_model_whoever_is_listed_first(tied_place: int) -> None:
    # Items at places 0, 2 and 4 have one score: whichever is the target, its rank is 3.
    equal = falling({0: 5.0, 2: 5.0, 4: 5.0})
    assert mrr(evaluate([equal], [100 + tied_place])) == pytest.approx(1 / 3)


def test_all_equal_scores_are_worth_nothing() -> None:
    metrics = evaluate([[1.0] * 40], [100])
    assert {metrics.values[f"hit_rate@{k}"] for k in CUTOFFS} == {0.0}


@pytest.mark.parametrize(("place", "hit"), [(19, 1.0), (20, 0.0)])
def test_rank_20_counts_and_rank_21_does_not(place: int, hit: float) -> None:
    assert evaluate([falling()], [100 + place]).values["hit_rate@20"] == hit


def test_a_tie_across_the_longest_cutoff_counts_against_the_model() -> None:
    # Places 20 and 21 are equal: the target is listed 20th, but its rank is 21.
    equal = falling({19: -19.0, 20: -19.0})
    assert evaluate([equal], [119]).values["hit_rate@20"] == 0.0


def test_a_target_outside_the_catalogue_is_a_miss_and_is_counted() -> None:
    metrics = evaluate([falling()] * 4, [100, 7, 8, 100])
    assert metrics.values["hit_rate@10"] == 0.5
    assert metrics.missing_targets == 0.5


def test_what_was_seen_does_not_stand_above_the_target() -> None:
    question = {"targets": [103], "histories": [[100, 101]]}
    assert mrr(evaluate([falling()], **question)) == pytest.approx(1 / 2)
    assert mrr(evaluate([falling()], **question, exclude_seen=False)) == pytest.approx(1 / 4)


def test_a_target_seen_before_is_found_only_where_seen_items_are_shown() -> None:
    question = {"targets": [100], "histories": [[100]]}
    assert mrr(evaluate([falling()], **question)) == 0.0
    assert mrr(evaluate([falling()], **question, exclude_seen=False)) == 1.0


def test_coverage_is_the_share_of_items_that_anybody_is_shown() -> None:
    backwards = falling()[::-1]
    assert evaluate([falling()] * 3, [100] * 3).values["coverage@10"] == 10 / 40
    assert evaluate([falling(), backwards], [100] * 2).values["coverage@10"] == 20 / 40


tables = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 12))


@given(tables, st.booleans())
@settings(max_examples=150)
def test_figures_agree_with_a_full_ranking_of_raw_scores(
    table: tuple[int, int, int], exclude_seen: bool
) -> None:
    seed, n_users, n_levels = table
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, n_levels, (n_users, 40)).astype(float)  # many ties
    histories = [rng.choice(CATALOGUE, rng.integers(0, 15)).tolist() for _ in range(n_users)]
    targets = rng.integers(98, 142, n_users).tolist()  # some are in no catalogue

    expected = {f"{name}@{k}": 0.0 for name in ("ndcg", "hit_rate") for k in CUTOFFS}
    expected["mrr@10"] = 0.0
    for row, history, target in zip(scores, histories, targets, strict=True):
        left = {
            item: score
            for item, score in zip(CATALOGUE.tolist(), row, strict=True)
            if not (exclude_seen and item in history)
        }
        if target not in left:
            continue
        better = sum(s > left[target] for s in left.values())
        equal = sum(s == left[target] for item, s in left.items() if item != target)
        rank = 1 + better + equal
        for k in CUTOFFS:
            if rank <= k:
                expected[f"ndcg@{k}"] += 1 / math.log2(rank + 1) / n_users
                expected[f"hit_rate@{k}"] += 1 / n_users
        if rank <= 10:
            expected["mrr@10"] += 1 / rank / n_users

    metrics = evaluate(scores, targets, histories, exclude_seen=exclude_seen)
    assert {name: metrics.values[name] for name in expected} == pytest.approx(expected)


@given(st.lists(st.one_of(st.integers(1, 20), st.just(math.inf)), min_size=1, max_size=200))
@settings(max_examples=15)
def test_the_intervals_surround_the_mean_and_repeat(ranks: list[float]) -> None:
    gains = user_gains(np.array(ranks, dtype=float))
    for intervals in (bootstrap_intervals, normal_intervals):
        found = intervals(gains)
        assert set(found) == set(gains) and intervals(gains) == found
        for name, (low, high) in found.items():
            assert 0 <= low <= gains[name].mean() + 1e-12 and gains[name].mean() <= high + 1e-12


def test_bootstrap_and_normal_intervals_have_one_width() -> None:
    gains = user_gains(np.array([1.0, math.inf] * 200))
    for intervals, tolerance in ((bootstrap_intervals, 0.1), (normal_intervals, 1e-12)):
        low, high = intervals(gains)["hit_rate@10"]
        assert high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=tolerance)


def test_figures_become_json_rounded_and_with_their_intervals() -> None:
    values = evaluate([falling()] * 3, [100, 106, 7]).to_json()
    assert values["ndcg@10"] == 0.444444
    assert values["missing_targets"] == 0.333333
    low, high = values["ndcg@10_interval"]
    assert 0 <= low <= 0.444444 <= high <= 1

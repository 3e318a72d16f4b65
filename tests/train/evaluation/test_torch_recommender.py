"""The answers that files are compared with, checked by a plain sort."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attnrec.train.evaluation.torch_recommender import TorchRecommender, top_rows
from attnrec.train.models.base import ScoreModel
from attnrec.train.models.popularity import PopularityConfig
from attnrec.train.splits.split import Catalogue

IDS = ["a", "b", "c", "d", "e"]


class NewestTwice(ScoreModel):
    """Scores an item by how often it is among the newest three, the newest counting twice."""

    def __init__(self) -> None:
        super().__init__()
        self.config = PopularityConfig(n_items=5, max_len=3)

    def scores(self, history_index: Tensor) -> Tensor:
        scores = torch.zeros(len(history_index), 6)
        scores.scatter_add_(1, history_index, torch.ones_like(history_index).float())
        return scores.scatter_add(1, history_index[:, -1:], torch.ones(len(history_index), 1))


@pytest.fixture(scope="module")
def reference() -> TorchRecommender:
    titles = np.array(["A", "B", "", "D", "E"], dtype=object)
    return TorchRecommender(
        NewestTwice(), Catalogue(np.array(IDS, dtype=object), np.ones(5), titles)
    )


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
    st.integers(-2, 70),
)
def test_top_rows_are_the_head_of_a_full_sort(levels: list[int], random: Any, k: int) -> None:
    scores = np.array([9, *levels], dtype=np.float32)
    admissible = np.array([False, *(random.random() < 0.8 for _ in levels)])
    rows = [row for row in range(len(scores)) if admissible[row]]
    expected = sorted(rows, key=lambda row: (-scores[row], row))[: max(k, 0)]
    assert top_rows(scores, admissible, k).tolist() == expected


def test_equals_of_the_last_place_are_chosen_by_row() -> None:
    scores = np.array([0, 1, 1, 5, *[1] * 40], dtype=np.float32)
    assert top_rows(scores, scores > 0, 3).tolist() == [3, 1, 2]


def test_rows_of_known_ids_keep_their_order(reference: TorchRecommender) -> None:
    assert reference.rows(["c", "?", "a", "", "c"]).tolist() == [3, 1, 3]
    assert reference.rows([]).tolist() == []
    assert (reference.row("e"), reference.row("?")) == (5, -1)


def test_the_newest_known_events_count(reference: TorchRecommender) -> None:
    (answer,) = reference.recommend_batch([["a", "a", "b", "?", "b", "c"]], exclude_seen=False)
    assert answer.item_ids == ["b", "c", "a", "d", "e"]  # b and c score 2: lower row first
    assert answer.scores == [2.0, 2.0, 0.0, 0.0, 0.0]
    assert answer.titles == ["B", "", "A", "D", "E"]
    assert answer.n_known == 5


def test_what_was_seen_is_left_out_however_long_ago(reference: TorchRecommender) -> None:
    (answer,) = reference.recommend_batch([["a", "b", "b", "b", "c"]], k=3)
    assert answer.item_ids == ["d", "e"]


def test_answers_come_in_the_order_of_the_histories(reference: TorchRecommender) -> None:
    histories = [["a"] * (n % 4) + [IDS[n % 5]] for n in range(150)]  # more than one batch
    answers = reference.recommend_batch(histories, k=1, exclude_seen=False)
    alone = [reference.recommend_batch([h], k=1, exclude_seen=False)[0] for h in histories]
    assert answers == alone
    assert [answer.item_ids[0] for answer in answers[:2]] == ["a", "b"]


def test_only_candidates_without_the_excluded_may_be_returned(reference: TorchRecommender) -> None:
    everything = reference.admissible(np.array([], dtype=np.int64))
    assert everything.tolist() == [False, True, True, True, True, True]
    some = reference.admissible(np.array([2]), np.array([2, 5]))
    assert some.tolist() == [False, False, False, False, False, True]

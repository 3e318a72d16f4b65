"""Items that are out of stock: never returned, whatever is asked, and at no cost."""

import math
import pickle

import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.stored import StoredTensors


def test_the_rest_of_the_answer_moves_up(path) -> None:
    whole = Recommender.load(path)
    everything = whole.recommend([], whole.info.n_items, exclude_seen=False)
    gone = everything.item_ids[:3] + everything.item_ids[7:8]
    unknown = [10**9] if whole.info.id_type == "int64" else ["no-such-item"]
    rest = Recommender.load(path, unavailable=gone + unknown)
    left = [(item, score) for item, score in everything if item not in gone]
    assert list(rest.recommend([], whole.info.n_items, exclude_seen=False)) == left
    assert list(rest.recommend([], 5, exclude_seen=False)) == left[:5]
    asked = everything.item_ids[5:9]
    among = rest.recommend([], 4, candidates=asked, exclude_seen=False)
    assert among.item_ids == [item for item in asked if item not in gone]
    (answer,) = rest.recommend_batch([[]], 5, exclude_seen=False)
    assert answer.item_ids == [item for item, _ in left[:5]]


def test_an_unavailable_item_has_no_score_but_still_speaks_in_a_history(path) -> None:
    whole = Recommender.load(path)
    first, second = whole.recommend([], 2, exclude_seen=False).item_ids
    rest = Recommender.load(path, unavailable=[first])
    with_it, without_it = rest.score([first], [first, second])
    assert math.isnan(with_it)
    assert without_it == whole.score([first], [first, second])[1]


def test_everything_may_be_unavailable(path) -> None:
    whole = Recommender.load(path)
    rest = Recommender.load(path, unavailable=StoredTensors(path.read_bytes()).item_ids())
    assert rest.recommend([], 10).item_ids == []
    assert rest.recommend_batch([[], []], 10)[1].item_ids == []
    assert whole.recommend([], 10, exclude_seen=False).item_ids != []


def test_it_survives_pickle_and_the_self_test(path) -> None:
    first = Recommender.load(path).recommend([], 1, exclude_seen=False).item_ids
    rest = Recommender.load(path, unavailable=first)
    assert rest.selftest() == Recommender.load(path).selftest()
    again = pickle.loads(pickle.dumps(rest))
    assert first[0] not in again.recommend([], 10, exclude_seen=False).item_ids


def test_ids_of_the_wrong_type_are_named(int64_path, string_path) -> None:
    with pytest.raises(ValueError, match=r"unavailable.*1.5"):
        Recommender.load(int64_path, unavailable=[1.5])
    with pytest.raises(ValueError, match=r"unavailable.*'sku-1'"):
        Recommender.load(string_path, unavailable="sku-1")

"""A file with users, used without torch: int64 user ids, string item ids, tags."""

from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import Recommender

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
HISTORY = ["sku-11", "00123"]


@pytest.fixture(scope="module")
def users() -> Recommender:
    return Recommender.load(FORMAT_1 / "tiny-users.onnx")


def test_the_user_decides_the_scores_and_the_history_what_is_not_repeated(
    users: Recommender,
) -> None:
    one, other = (users.recommend(HISTORY, k=40, user=user) for user in (3, 5))
    assert one.scores != other.scores
    assert set(one.item_ids) == set(other.item_ids)
    assert not set(HISTORY) & set(one.item_ids)
    everything = users.recommend([], k=40, user=3)
    assert [pair for pair in everything.pairs() if pair[0] not in HISTORY] == one.pairs()


def test_an_unknown_user_is_answered_like_no_user(users: Recommender) -> None:
    without_user = users.recommend(HISTORY)
    for user in (None, -1, 999, 2**63 - 1):
        assert users.recommend(HISTORY, user=user) == without_user
    assert users.recommend(HISTORY, user=3) != without_user


def test_tags_that_are_given_stand_for_the_stored_ones(users: Recommender) -> None:
    stored = users.score([], HISTORY, user=3)  # gold, шахматы and "a,b"
    same = users.score([], HISTORY, user=3, user_tags=["a,b", "шахматы", "gold"])
    assert same == pytest.approx(stored, abs=1e-5)
    assert users.score([], HISTORY, user=3, user_tags=["gold"]) != pytest.approx(stored, abs=1e-4)
    for none in ([], ["no such tag"], [""]):
        assert users.score([], HISTORY, user=3, user_tags=none) == stored
    assert users.score([], HISTORY, user_tags=["gold"]) != users.score([], HISTORY)


def test_each_row_of_a_batch_has_its_own_user_and_tags(users: Recommender) -> None:
    ids: list[Any] = [3, None, 5, 999, 79]
    tags: list[Any] = [None, ["gold"], ["no such tag", "a,b"], [], ["шахматы"]]
    histories = [[], HISTORY, ["id"], [], ["no such item"]]
    answers = users.recommend_batch(histories, 5, users=ids, user_tags=tags)
    for answer, history, user, own in zip(answers, histories, ids, tags, strict=True):
        alone = users.recommend(history, 5, user=user, user_tags=own)
        assert answer.item_ids == alone.item_ids
        assert answer.scores == pytest.approx(alone.scores, abs=1e-5)
    assert len(users.recommend_batch(histories, 5)) == 5, "users are optional"


WRONG = [
    ({"user": "3"}, r"users\[0\] is '3'; user ids of this file are"),
    ({"user": 1.5}, r"users\[0\] is 1\.5; user ids of this file are"),
    ({"user": 2**63}, r"users holds 9223372036854775808, which is no int64"),
    ({"user": True}, r"users\[0\]"),
    ({"user_tags": "gold"}, r"user_tags\[0\] must be a list of user tags, not 'gold'"),
    ({"user_tags": [1]}, r"user_tags\[0\]\[0\] is 1; user tags of this file are strings"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[str(a) for a, _ in WRONG])
def test_what_is_no_user_and_no_tag_is_refused(
    users: Recommender, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        users.recommend([], **arguments)
    with pytest.raises(ValueError, match=message):
        users.score([], HISTORY, **arguments)


@pytest.mark.parametrize("name", ["users", "user_tags"])
def test_a_batch_has_one_user_and_one_list_of_tags_for_each_history(
    users: Recommender, name: str
) -> None:
    wrong: dict[str, Any] = {name: [None]}
    with pytest.raises(ValueError, match=name):
        users.recommend_batch([[], []], **wrong)

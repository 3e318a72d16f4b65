"""Ordinary arguments of `Recommender`, with one file of each id type and policy."""

import json
import math
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from attnrec.runtime import Recommendations, Recommender
from attnrec.runtime.model_file.format import score_tolerance


def test_seen_items_are_excluded_as_the_model_was_trained_unless_the_call_sets_it(
    strings: Recommender, numbers: Recommender
) -> None:
    assert not strings.info.repeats and numbers.info.repeats
    for recommender, seen_by_default in ((strings, False), (numbers, True)):
        history = recommender.recommend([], k=3).item_ids

        def has_seen(exclude_seen: bool | None, r: Any = recommender, h: Any = history) -> bool:
            return bool(set(h) & set(r.recommend(h, k=100, exclude_seen=exclude_seen).item_ids))

        assert has_seen(None) is seen_by_default
        assert has_seen(True) is False
        assert has_seen(False) is True


def test_what_was_seen_is_left_out_however_long_ago(strings: Recommender) -> None:
    n_items = strings.info.n_items
    first, other, *rest = strings.recommend([], n_items, exclude_seen=False).item_ids
    history = [first, *[other] * strings.info.max_len]
    answers = strings.recommend_batch([history], n_items, exclude_seen=True)
    answers.append(strings.recommend(history, n_items, exclude_seen=True))
    assert [sorted(answer.item_ids) for answer in answers] == [sorted(rest)] * 2


def test_a_history_of_unknown_ids_is_answered_like_an_empty_one(
    recommender: Recommender, expected: dict[str, Any]
) -> None:
    empty = recommender.recommend([], k=5)
    assert recommender.recommend(expected["unknown_ids"] * 3, k=5) == empty
    assert empty.n_known == 0 and len(empty) == 5


def test_k_beyond_the_catalogue_returns_what_there_is(strings: Recommender) -> None:
    assert len(strings.recommend([], k=10**30)) == strings.info.n_items == 32
    assert len(strings.recommend(["NA"], k=33)) == 31


def test_k_may_be_a_numpy_integer(strings: Recommender) -> None:
    k: Any = np.int8(3)
    assert len(strings.recommend([], k=k)) == 3


def test_no_candidates_at_all_is_no_restriction_and_an_empty_list_is_nothing(
    strings: Recommender,
) -> None:
    assert len(strings.recommend(["NA"], candidates=None)) == 10
    nothing = strings.recommend(["NA", "no such item", "NA"], candidates=[])
    assert nothing == Recommendations([], [], [], 2)
    assert strings.recommend(["NA"], candidates=["no such item"]) == Recommendations([], [], [], 1)


def test_a_batch_may_mix_rows_with_without_and_with_empty_candidates(strings: Recommender) -> None:
    answers = strings.recommend_batch(
        [["NA"]] * 5, k=3, candidates=[None, [], ["é"], ["no such item"], ["NA", "é", "é", "id"]]
    )
    assert [len(answer) for answer in answers] == [3, 0, 1, 0, 2]
    assert answers[2].item_ids == ["é"] and set(answers[4].item_ids) == {"é", "id"}
    assert [answer.n_known for answer in answers] == [1] * 5


def test_a_batch_of_empty_candidate_lists_returns_nothing(strings: Recommender) -> None:
    answers = strings.recommend_batch([["NA"], []], candidates=[[], []])
    assert [answer.item_ids for answer in answers] == [[], []]
    assert [answer.n_known for answer in answers] == [1, 0]


def test_an_empty_batch_has_no_answers(strings: Recommender) -> None:
    assert strings.recommend_batch([]) == []
    assert strings.recommend_batch([], exclude=[], candidates=[]) == []


def test_batches_of_any_size_keep_the_order_of_the_histories(numbers: Recommender) -> None:
    ids = numbers.recommend([], k=100).item_ids
    histories = [[ids[(row + i) % len(ids)] for i in range(row % 9)] for row in range(150)]
    together = numbers.recommend_batch(histories, k=4)
    for history, answer in zip(histories, together, strict=True):
        alone = numbers.recommend(history, k=4)
        assert answer.n_known == alone.n_known == len(history)
        tolerance = score_tolerance(max(map(abs, alone.scores)))
        assert np.allclose(answer.scores, alone.scores, rtol=0, atol=tolerance)


def test_exclude_belongs_to_its_history_in_a_batch(strings: Recommender) -> None:
    best = strings.recommend([]).item_ids
    answers = strings.recommend_batch([[], []], k=3, exclude=[best[:1], best[1:2]])
    assert [answer.item_ids for answer in answers] == [best[1:4], [best[0], *best[2:4]]]


def test_awkward_strings_are_ids_like_any_other(strings: Recommender) -> None:
    awkward = [
        "00123",
        "123",
        "NA",
        "null",
        "-1",
        "a,b",
        "🛒",
        " padded ",
        "line\nbreak",
        "ID",
        "id",
    ]
    for item_id in [*awkward, "\u00e9", "e\u0301"]:
        assert strings.recommend([item_id]).n_known == 1
        assert strings.recommend([], candidates=[item_id]).item_ids == [item_id]
    for item_id in ["0123", "na", "\u00c9", "padded", "NA\0", "\0", "", "🛒\ufe0f"]:
        assert strings.recommend([item_id]).n_known == 0


def test_int64_ids_are_exact_where_floating_point_numbers_are_not(numbers: Recommender) -> None:
    for item_id in [0, -2, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]:
        assert numbers.recommend([item_id]).n_known == 1
        assert numbers.recommend([], candidates=[item_id]).item_ids == [item_id]
    for item_id in [-1, 2**53 + 2, -(2**53), 2**63 - 2]:
        assert numbers.recommend([item_id]).n_known == 0


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64", "object"]
)
def test_int64_ids_may_come_in_any_integer_array(dtype: str, numbers: Recommender) -> None:
    array = np.array([100, 0, 101], dtype=dtype)
    assert numbers.recommend(array) == numbers.recommend([100, 0, 101])
    assert numbers.recommend(list(array)) == numbers.recommend([100, 0, 101])
    assert numbers.score([100], array) == numbers.score([100], [100, 0, 101])


@pytest.mark.parametrize("dtype", ["U", "object"])
def test_string_ids_may_come_in_an_array(dtype: str, strings: Recommender) -> None:
    array = np.array(["NA", "é", "🛒"], dtype=dtype)
    options: dict[str, Any] = {"exclude": array[:1], "candidates": array}
    assert strings.recommend(array) == strings.recommend(["NA", "é", "🛒"])
    assert strings.recommend(list(array)) == strings.recommend(["NA", "é", "🛒"])
    assert set(strings.recommend([], **options).item_ids) == {"é", "🛒"}


def test_tuples_ranges_and_empty_arrays_are_lists_of_ids(
    strings: Recommender, numbers: Recommender
) -> None:
    assert strings.recommend(("NA",)) == strings.recommend(["NA"])
    assert numbers.recommend(range(100, 103)) == numbers.recommend([100, 101, 102])
    assert strings.recommend(np.array([]), exclude=np.array([])) == strings.recommend([])


def test_a_batch_may_come_in_one_array(numbers: Recommender) -> None:
    table = np.array([[100, 101], [102, 103]])
    answers = numbers.recommend_batch(table, exclude=table, candidates=np.flip(table, axis=0))
    assert [set(answer.item_ids) for answer in answers] == [{102, 103}, {100, 101}]


def test_answers_are_plain_python_values_that_json_can_write(
    strings: Recommender, numbers: Recommender
) -> None:
    text, number = strings.recommend(np.array(["NA"])), numbers.recommend(np.array([100]))
    assert {type(i) for i in text.item_ids} == {type(t) for t in text.titles or []} == {str}
    assert {type(i) for i in number.item_ids} == {int} and number.titles is None
    assert {type(score) for score in text.scores + number.scores} == {float}
    assert type(text.n_known) is int


def test_an_answer_has_pairs_and_does_not_unpack_into_two_of_them(strings: Recommender) -> None:
    answer = strings.recommend(["NA"], k=2)
    assert answer.pairs() == list(zip(answer.item_ids, answer.scores, strict=True))
    assert len(answer) == 2
    with pytest.raises(TypeError):
        _ids, _scores = answer  # type: ignore[misc]


def test_an_answer_is_a_dict_for_json(strings: Recommender, numbers: Recommender) -> None:
    assert list(strings.recommend(["NA"]).to_dict()) == ["item_ids", "scores", "titles", "n_known"]
    assert list(numbers.recommend([100]).to_dict()) == ["item_ids", "scores", "n_known"]
    json.dumps(strings.similar("NA").to_dict())


def test_histories_may_come_one_by_one_and_are_answered_in_parts(numbers: Recommender) -> None:
    read: list[int] = []

    def histories() -> Iterator[list[int]]:
        for item in range(100, 110):
            read.append(item)
            yield [item]

    answers = numbers.recommend_iter(histories(), 3, batch_size=4, exclude_seen=False)
    first = next(answers)
    assert read == [100, 101, 102, 103]
    expected = numbers.recommend_batch([[i] for i in range(100, 110)], 3, exclude_seen=False)
    assert [first, *answers] == expected
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        next(numbers.recommend_iter([], batch_size=0))


def test_no_exclusion_and_no_candidates_are_none(numbers: Recommender) -> None:
    assert numbers.recommend([100], exclude=None, candidates=None) == numbers.recommend([100])
    assert numbers.recommend([100], exclude=[]) == numbers.recommend([100])


def test_the_items_of_a_file_have_their_titles(strings: Recommender, numbers: Recommender) -> None:
    everything = strings.recommend([], 1000, exclude_seen=False)
    titled = dict(zip(everything.item_ids, everything.titles or [], strict=True))
    assert strings.items() == titled
    assert set(numbers.items().values()) == {None}


def test_scores_of_nothing_are_no_scores(strings: Recommender) -> None:
    assert strings.score(["NA"], []) == []


def test_scores_come_in_the_order_given_seen_or_not(strings: Recommender) -> None:
    first, unknown, again, padding = strings.score(["NA"], ["NA", "no such item", "NA", ""])
    assert first == again and math.isfinite(first)
    assert math.isnan(unknown) and math.isnan(padding)


def test_the_longest_lists_allowed_are_answered_whole(numbers: Recommender) -> None:
    longest = [99] * 99_999 + [100]
    assert numbers.recommend([0] * 99_999 + [100]).n_known == 100_000
    assert numbers.recommend([100] + [99] * 99_999) == numbers.recommend([100])
    assert 100 not in numbers.recommend([], k=100, exclude=longest).item_ids
    assert numbers.recommend([], candidates=longest).item_ids == [100]
    assert math.isfinite(numbers.score([], longest)[-1])


def test_the_memory_of_a_large_batch_is_that_of_its_ids_and_answers(numbers: Recommender) -> None:
    n_rows, length = 20_000, 100
    histories = [list(range(100, 100 + length))] * n_rows
    numbers.recommend_batch(histories[:2], 1)
    tracemalloc.start()
    try:
        answers = numbers.recommend_batch(histories, 1, exclude=histories, exclude_seen=True)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(answers) == n_rows
    # Both lists are held once, as arrays, and one of them twice while its parts are joined. The
    # padded arrays of all calls would be another three times as much.
    assert peak < held + 4 * 8 * n_rows * length

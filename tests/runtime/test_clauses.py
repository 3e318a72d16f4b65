"""The graph contract, clause by clause, for any call.

The model's scores of all items come from `score`; what must follow from them is plain Python.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from attnrec.runtime import Recommendations, Recommender
from attnrec.runtime.model_file.format import PADDING, score_tolerance

# The first call on a busy machine may take its time.
some_examples = settings(deadline=None, max_examples=50)

Expected = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """Arguments of one `recommend`."""

    history: list[Any]
    k: int = 10
    exclude: list[Any] = field(default_factory=list)
    candidates: list[Any] | None = None
    exclude_seen: bool | None = None


def some_ids(expected: Expected, max_size: int = 20) -> st.SearchStrategy[list[Any]]:
    """Known ids, unknown ids and padding in any order, repeats included."""
    known = expected["catalogue"]
    padding = PADDING["int64" if isinstance(known[0], int) else "string"]
    nothing = [*expected["unknown_ids"], padding]
    return st.lists(st.one_of(st.sampled_from(known), st.sampled_from(nothing)), max_size=max_size)


def calls(expected: Expected) -> st.SearchStrategy[Call]:
    ids = some_ids(expected)
    return st.builds(
        Call,
        history=ids,
        k=st.integers(1, 100),
        exclude=ids,
        candidates=st.one_of(st.none(), ids),
        exclude_seen=st.sampled_from([None, True, False]),
    )


def known_ids(ids: Sequence[Any], expected: Expected) -> list[Any]:
    return [item_id for item_id in ids if item_id in expected["catalogue"]]


def allowed_ids(call: Call, expected: Expected) -> list[Any]:
    """In the order of the catalogue."""
    banned = set(call.exclude)
    if call.exclude_seen or (call.exclude_seen is None and not expected["repeats"]):
        banned |= set(call.history)
    pool = expected["catalogue"] if call.candidates is None else call.candidates
    return [i for i in expected["catalogue"] if i in set(pool) and i not in banned]


def tolerance_of(scores: Sequence[float]) -> float:
    return score_tolerance(max(map(abs, scores)))


def assert_same_scores(one: Sequence[float], other: Sequence[float]) -> None:
    tolerance = tolerance_of(other)
    assert all(math.isclose(a, b, abs_tol=tolerance) for a, b in zip(one, other, strict=True))


def assert_follows(
    answer: Recommendations,
    call: Call,
    scores: list[float],
    expected: Expected,
) -> None:
    """`answer` is what `call` asks for if the items of the catalogue score like `scores`."""
    score_of = dict(zip(expected["catalogue"], scores, strict=True))
    row_of = {item_id: row for row, item_id in enumerate(expected["catalogue"])}
    allowed = allowed_ids(call, expected)
    best = sorted(allowed, key=lambda item_id: -score_of[item_id])[: call.k]
    tolerance = tolerance_of(scores)
    assert len(answer) == len(answer.scores) == len(best)
    assert set(answer.item_ids) <= set(allowed)
    assert len(set(answer.item_ids)) == len(answer)
    for (item_id, score), wanted in zip(answer.pairs(), best, strict=True):
        assert abs(score - score_of[item_id]) <= tolerance
        assert abs(score_of[item_id] - score_of[wanted]) <= 2 * tolerance
    places = [(-score, row_of[item_id]) for item_id, score in answer.pairs()]
    assert places == sorted(places), "best first, equal scores in the order of the catalogue"
    assert answer.n_known == len(known_ids(call.history, expected))
    assert (answer.titles is None) == (expected["titles"] is None)
    if answer.titles is not None:
        assert answer.titles == [expected["titles"][row_of[i]] for i in answer.item_ids]


@some_examples
@given(data=st.data())
def test_an_answer_is_the_k_best_of_what_may_be_returned(
    data: st.DataObject, recommender: Recommender, expected: Expected
) -> None:
    call = data.draw(calls(expected))
    scores = recommender.score(call.history, expected["catalogue"])
    assert_follows(
        recommender.recommend(**vars(call)),
        call,
        scores,
        expected,
    )


@some_examples
@given(data=st.data())
def test_a_row_of_a_batch_is_answered_as_if_it_were_alone(
    data: st.DataObject, recommender: Recommender, expected: Expected
) -> None:
    k, exclude_seen = (
        data.draw(st.integers(1, 100)),
        data.draw(st.sampled_from([None, True, False])),
    )
    rows = data.draw(st.lists(calls(expected), max_size=8))
    answers = recommender.recommend_batch(
        [row.history for row in rows],
        k,
        exclude=[row.exclude for row in rows],
        candidates=[row.candidates for row in rows],
        exclude_seen=exclude_seen,
    )
    assert len(answers) == len(rows)
    for answer, row in zip(answers, rows, strict=True):
        call = Call(row.history, k, row.exclude, row.candidates, exclude_seen)
        scores = recommender.score(row.history, expected["catalogue"])
        assert_follows(answer, call, scores, expected)
        alone = recommender.recommend(**vars(call))
        assert answer.n_known == alone.n_known
        assert_same_scores(answer.scores + scores, alone.scores + scores)


@some_examples
@given(data=st.data())
def test_unknown_ids_and_padding_change_no_score_wherever_they_stand(
    data: st.DataObject, recommender: Recommender, expected: Expected
) -> None:
    history = data.draw(some_ids(expected))
    with_them = recommender.score(history, expected["catalogue"])
    without = recommender.score(known_ids(history, expected), expected["catalogue"])
    assert_same_scores(with_them, without)


@some_examples
@given(data=st.data())
def test_only_the_newest_max_len_known_ids_change_scores(
    data: st.DataObject, recommender: Recommender, expected: Expected
) -> None:
    history = data.draw(some_ids(expected, max_size=40))
    newest = known_ids(history, expected)[-expected["max_len"] :]
    whole = recommender.score(history, expected["catalogue"])
    assert_same_scores(whole, recommender.score(newest, expected["catalogue"]))


@some_examples
@given(data=st.data())
def test_what_is_seen_is_excluded_also_beyond_max_len(
    data: st.DataObject, recommender: Recommender, expected: Expected
) -> None:
    history = data.draw(some_ids(expected, max_size=60))
    answer = recommender.recommend(history, k=100, exclude_seen=True)
    assert not set(answer.item_ids) & set(history)


@some_examples
@given(data=st.data())
def test_a_history_without_known_ids_gets_the_answer_to_a_newcomer(
    data: st.DataObject, recommender: Recommender, expected: Expected
) -> None:
    unknown = data.draw(st.lists(st.sampled_from(expected["unknown_ids"]), max_size=20))
    newcomer = recommender.recommend([], k=5)
    assert recommender.recommend(unknown, k=5) == newcomer
    assert newcomer.n_known == 0 and len(newcomer) == 5


@some_examples
@given(data=st.data())
def test_score_answers_in_the_order_given_with_nan_for_unknown_ids(
    data: st.DataObject, recommender: Recommender, expected: Expected
) -> None:
    history, asked = data.draw(some_ids(expected)), data.draw(some_ids(expected))
    of_all = recommender.score(history, expected["catalogue"])
    score_of = dict(zip(expected["catalogue"], of_all, strict=True))
    scores = recommender.score(history, asked)
    assert len(scores) == len(asked)
    for item_id, score in zip(asked, scores, strict=True):
        if item_id in score_of:
            assert abs(score - score_of[item_id]) <= tolerance_of(of_all)
        else:
            assert math.isnan(score)

"""What `explain` says of every event is what leaving it out does, on every committed file."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnrec.runtime import Explanation, Recommender

per_file = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def without(history: list[Any], place: int) -> list[Any]:
    return history[:place] + history[place + 1 :]


def side_inputs(recommender: Recommender) -> dict[str, Any]:
    return {"user": 3, "user_tags": ["gold"]} if "user" in recommender.info.inputs else {}


@per_file
@given(data=st.data())
def test_a_contribution_is_what_leaving_the_event_out_takes_away(
    data, recommender, expected
) -> None:
    ids = st.sampled_from(expected["catalogue"])
    # Few different ids, so that some come again, and more than count.
    history = data.draw(st.lists(ids | st.sampled_from(expected["unknown_ids"]), max_size=12))
    item = data.draw(ids)
    given = data.draw(st.sampled_from([{}, side_inputs(recommender)]))
    why = recommender.explain(history, item, **given)
    assert (why.item_id, why.history) == (item, history)
    (score,) = recommender.score(history, [item], **given)
    tolerance = 2e-5 * max(1.0, abs(score))
    assert why.score == pytest.approx(score, abs=tolerance)
    known = [i for i, event in enumerate(history) if event in expected["catalogue"]]
    for place, contribution in enumerate(why.contributions):
        if place in known[-expected["max_len"] :]:
            (other,) = recommender.score(without(history, place), [item], **given)
            assert contribution == pytest.approx(score - other, abs=tolerance)
        else:
            assert contribution == 0
    if expected["titles"] is None:
        assert why.title is why.titles is None
    else:
        title_of = dict(zip(expected["catalogue"], expected["titles"], strict=True))
        assert why.title == title_of[item]
        assert why.titles == [title_of.get(event, "") for event in history]


def test_long_histories_with_much_that_is_unknown(recommender, expected) -> None:
    ids, unknown = expected["catalogue"], expected["unknown_ids"]
    history = ids[:3] + (unknown * 50)[:100] + ids[:20] + (unknown * 50)[:70] + ids[3:4]
    why = recommender.explain(history, ids[5])
    counting = [i for i, event in enumerate(history) if event in ids][-expected["max_len"] :]
    assert {i for i, x in enumerate(why.contributions) if x} <= {*counting}
    (score,) = recommender.score(history, [ids[5]])
    (other,) = recommender.score(history[:-1], [ids[5]])
    assert why.contributions[-1] == pytest.approx(score - other, abs=2e-5 * max(1, abs(score)))


def test_more_than_one_batch_of_events_is_one_answer(strings, numbers) -> None:
    for recommender in (strings, numbers):
        ids = recommender.recommend([], 30, exclude_seen=False).item_ids
        assert len(recommender.explain(ids * 7, ids[0]).contributions) == 7 * len(ids)


def test_nothing_to_explain_after_no_event(recommender, expected) -> None:
    item = expected["catalogue"][0]
    why = recommender.explain([], item)
    assert (why.contributions, why.history, why.strongest(3)) == ([], [], [])
    assert why.score == pytest.approx(recommender.score([], [item])[0], abs=1e-4)


def test_the_strongest_are_those_with_the_largest_positive_contributions() -> None:
    why = Explanation("x", 1.0, None, ["a", "b", "c", "d"], None, [0.1, -5.0, 0.3, 0.0], None)
    assert why.strongest(3) == [(2, pytest.approx(0.75)), (0, pytest.approx(0.25))]
    assert why.strongest(1) == [(2, pytest.approx(0.75))]


def test_only_files_with_the_output_have_attention(path, recommender, expected) -> None:
    # The others were made before files could have any.
    has_attention = path.stem in (
        "tiny-rules", "tiny-times", "tiny-int4", "tiny-int8-blocks", "tiny-top-k-blocks",
        "tiny-nested",
    )  # fmt: skip
    assert recommender.info.has_attention == has_attention
    explanation = recommender.explain(expected["catalogue"][:3], expected["catalogue"][3])
    assert (explanation.attention is not None) == has_attention


def test_an_item_that_is_unknown_or_unavailable_is_refused_with_its_id(path, expected) -> None:
    unknown, gone = expected["unknown_ids"][0], expected["catalogue"][4]
    recommender = Recommender.load(path, unavailable=[gone])
    with pytest.raises(ValueError, match=r"none of the .* items of this file") as error:
        recommender.explain(expected["catalogue"][:2], unknown)
    assert repr(unknown) in str(error.value)
    with pytest.raises(ValueError, match="is unavailable"):
        recommender.explain([], gone)
    # It still counts in a history.
    why = recommender.explain([gone], expected["catalogue"][0])
    whole = Recommender.load(path).explain([gone], expected["catalogue"][0])
    assert why.contributions == whole.contributions


def test_wrong_arguments_are_named(strings, numbers) -> None:
    with pytest.raises(ValueError, match=r"item_id.*3"):
        strings.explain([], 3)
    with pytest.raises(ValueError, match=r"item_id.*'3'"):
        numbers.explain([], "3")
    with pytest.raises(ValueError, match=r"history\[1\] is None"):
        numbers.explain([1, None], 1)
    with pytest.raises(ValueError, match="does not declare the input 'user'"):
        strings.explain([], "123", user=3)


def test_it_works_from_threads_from_a_session_and_after_pickling(path, expected) -> None:
    recommender, ids = Recommender.load(path), expected["catalogue"]
    why = recommender.explain(ids[:5], ids[7])
    assert pickle.loads(pickle.dumps(recommender)).explain(ids[:5], ids[7]) == why
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = Recommender.from_session(session).explain(ids[:5], ids[7])
    assert np.allclose(found.contributions, why.contributions, atol=1e-4)
    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(lambda _: recommender.explain(ids[:5], ids[7]), range(20))]
    assert answers == [why] * 20

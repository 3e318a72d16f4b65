"""Files of format 1 answer for ever what their torch models answered when they were made."""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import Recommendations, Recommender
from attnrec.runtime.model_file.format import CALLER_INPUTS, score_tolerance


def assert_answers_like_torch(
    answer: Recommendations, call: dict[str, Any], ids: list[Any]
) -> None:
    """Same items in the same order, except where the model's own scores are nearly equal."""
    score_of = dict(zip(ids, call["score_of_every_item"], strict=True))
    tolerance = score_tolerance(max(map(abs, score_of.values())))
    assert answer.n_known == call["n_known"]
    assert len(answer) == len(call["item_ids"]) == len(set(answer.item_ids))
    for (item_id, score), wanted in zip(answer.pairs(), call["item_ids"], strict=True):
        assert abs(score - score_of[item_id]) <= tolerance
        assert abs(score_of[item_id] - score_of[wanted]) <= 2 * tolerance


def callers_of(questions: list[dict[str, Any]]) -> dict[str, Any]:
    """Who asks, as `recommend_batch` takes it, where the file wants to know."""
    names = {"user": "users", "user_tags": "user_tags"}
    names |= {"timestamps": "timestamps", "request_time": "request_times"}
    return {
        many: [question[one] for question in questions]
        for one, many in names.items()
        if one in questions[0]
    }


def test_all_kinds_of_files_are_kept(path: Path) -> None:
    names = {file.stem for file in path.parent.glob("*.onnx")}
    assert names >= {
        "tiny-string", "tiny-int64", "tiny-markov-chain", "tiny-popularity",
        "tiny-int8", "tiny-int8-blocks", "tiny-users", "tiny-times", "tiny-int4",
        "tiny-top-k-blocks",
    }  # fmt: skip
    assert path.stat().st_size < 150_000


def test_every_call_is_answered_like_the_torch_model(
    recommender: Recommender, expected: dict[str, Any]
) -> None:
    assert len(expected["calls"]) >= 30
    for call in expected["calls"]:
        answer = recommender.recommend(**call["recommend"])
        assert_answers_like_torch(answer, call, expected["catalogue"])


@pytest.mark.parametrize("exclude_seen", [True, False, None])
def test_all_calls_in_one_batch_are_answered_like_the_torch_model(
    exclude_seen: bool | None, recommender: Recommender, expected: dict[str, Any]
) -> None:
    calls = [
        call for call in expected["calls"] if call["recommend"].get("exclude_seen") is exclude_seen
    ]
    questions = [call["recommend"] for call in calls]
    answers = recommender.recommend_batch(
        [question["history"] for question in questions],
        k=1000,
        exclude=[question.get("exclude", []) for question in questions],
        candidates=[question.get("candidates") for question in questions],
        exclude_seen=exclude_seen,
        **callers_of(questions),
    )
    for answer, call in zip(answers, calls, strict=True):
        n = len(call["item_ids"])
        first = Recommendations(answer.item_ids[:n], answer.scores[:n], None, answer.n_known)
        assert_answers_like_torch(first, call, expected["catalogue"])


def test_every_item_scores_like_in_the_torch_model(
    recommender: Recommender, expected: dict[str, Any]
) -> None:
    for call in expected["calls"]:
        truth = call["score_of_every_item"]
        asked = call["recommend"]
        caller = {name: asked[name] for name in CALLER_INPUTS if name in asked}
        scores = recommender.score(asked["history"], expected["catalogue"], **caller)
        tolerance = score_tolerance(max(map(abs, truth)))
        assert all(
            math.isclose(a, b, abs_tol=tolerance) for a, b in zip(scores, truth, strict=True)
        )


def test_titles_belong_to_their_items(recommender: Recommender, expected: dict[str, Any]) -> None:
    answer = recommender.recommend([], k=1000)
    assert sorted(map(str, answer.item_ids)) == sorted(map(str, expected["catalogue"]))
    if expected["titles"] is None:
        assert answer.titles is None and not recommender.info.has_titles
    else:
        title_of = dict(zip(expected["catalogue"], expected["titles"], strict=True))
        assert answer.titles == [title_of[item_id] for item_id in answer.item_ids]
        assert "" in answer.titles, "an item without a title has the title ''"


def test_the_file_says_what_it_is(recommender: Recommender, expected: dict[str, Any]) -> None:
    info = recommender.info
    assert info.format_version == 1
    assert info.n_items == len(expected["catalogue"])
    assert info.max_len == expected["max_len"]
    assert info.repeats is expected["repeats"]
    assert info.id_type == ("int64" if isinstance(expected["catalogue"][0], int) else "string")
    caller = [name for name in CALLER_INPUTS if name in expected["calls"][0]["recommend"]]
    assert info.inputs == ("history", "exclude", "candidates", "k", *caller)
    assert info.parity is not None and info.parity["largest_share_of_tolerance"] <= 1
    assert info.metrics["test"]["n_users"] > 0
    assert info.model in repr(recommender) and str(info.n_items) in repr(recommender)


def test_every_file_passes_its_selftest(recommender: Recommender) -> None:
    assert recommender.selftest() >= 4


def test_the_last_64_bytes_are_the_sha256_of_everything_before_them(path: Path) -> None:
    content = path.read_bytes()
    assert hashlib.sha256(content[:-64]).hexdigest().encode() == content[-64:]

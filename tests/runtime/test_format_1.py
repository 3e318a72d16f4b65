"""Files of format 1 give for ever the answers of their torch models."""

import hashlib
import math
from pathlib import Path
from typing import Any

from attnrec.runtime import Recommendations, Recommender
from attnrec.runtime.model_file.format import (
    BOOST_BY,
    BOUNDS,
    CALLER_INPUTS,
    TAG_INPUTS,
    score_tolerance,
)


def assert_answers_like_torch(
    answer: Recommendations, call: dict[str, Any], ids: list[Any]
) -> None:
    """Same items in the same order, except where the model's own scores are nearly equal."""
    scores = call.get("score_under_rules", call["score_of_every_item"])
    score_of = dict(zip(ids, scores, strict=True))
    tolerance = score_tolerance(max(map(abs, score_of.values())))
    assert answer.n_known == call["n_known"]
    assert answer.n_allowed == call.get("n_allowed")
    assert len(answer) == len(call["item_ids"]) == len(set(answer.item_ids))
    for (item_id, score), wanted in zip(answer.pairs(), call["item_ids"], strict=True):
        assert abs(score - score_of[item_id]) <= tolerance
        assert abs(score_of[item_id] - score_of[wanted]) <= 2 * tolerance


def test_all_kinds_of_files_are_kept(path: Path) -> None:
    names = {file.stem for file in path.parent.glob("*.onnx")}
    assert names >= {
        "tiny-string", "tiny-int64", "tiny-markov-chain", "tiny-popularity",
        "tiny-int8", "tiny-int8-blocks", "tiny-users", "tiny-times", "tiny-int4",
        "tiny-top-k-blocks", "tiny-rules",
    }  # fmt: skip
    assert path.stat().st_size < 150_000


def test_every_call_is_answered_like_the_torch_model(
    recommender: Recommender, expected: dict[str, Any]
) -> None:
    assert len(expected["calls"]) >= 30
    for call in expected["calls"]:
        answer = recommender.recommend(**call["recommend"])
        assert_answers_like_torch(answer, call, expected["catalogue"])


def test_every_item_scores_like_in_the_torch_model(
    recommender: Recommender, expected: dict[str, Any]
) -> None:
    for call in expected["calls"]:
        truth = call["score_of_every_item"]
        request = call["recommend"]
        given = {name: request[name] for name in CALLER_INPUTS if name in request}
        scores = recommender.score(request["history"], expected["catalogue"], **given)
        tolerance = score_tolerance(max(map(abs, truth)))
        assert all(
            math.isclose(a, b, abs_tol=tolerance) for a, b in zip(scores, truth, strict=True)
        )


def test_the_facts_are_those_of_the_run(
    recommender: Recommender, expected: dict[str, Any]
) -> None:
    info = recommender.info
    assert info.format_version == 1
    assert info.n_items == len(expected["catalogue"])
    assert info.max_len == expected["max_len"]
    assert info.repeats is expected["repeats"]
    assert info.id_type == ("int64" if isinstance(expected["catalogue"][0], int) else "string")
    given = [name for name in CALLER_INPUTS if name in expected["calls"][0]["recommend"]]
    tagged = (*TAG_INPUTS, BOOST_BY, *BOUNDS) if "n_allowed" in expected["calls"][0] else ()
    assert info.inputs == ("history", "exclude", "candidates", "k", *given, *tagged)
    assert info.parity is not None and info.parity["largest_share_of_tolerance"] <= 1
    assert info.metrics["test"]["n_users"] > 0
    assert info.model in repr(recommender) and str(info.n_items) in repr(recommender)


def test_every_file_passes_its_selftest(recommender: Recommender) -> None:
    assert recommender.selftest() >= 4


def test_the_last_64_bytes_are_the_sha256_of_everything_before_them(path: Path) -> None:
    content = path.read_bytes()
    assert hashlib.sha256(content[:-64]).hexdigest().encode() == content[-64:]

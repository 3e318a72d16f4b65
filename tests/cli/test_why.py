"""`attnrec-recommend` says why, and shows what is like an item."""

import io
import json
from pathlib import Path

import pytest

from attnrec.runtime import Recommender

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
STRINGS, NUMBERS = FORMAT_1 / "tiny-string.onnx", FORMAT_1 / "tiny-int64.onnx"


def test_below_each_item_stand_the_events_that_speak_for_it(run) -> None:
    arguments = ["--history", "00123,no such item,null,sku-3", "-k", 4]
    outcome = run("recommend", STRINGS, *arguments, "--why")
    assert outcome.code == 0
    answer = json.loads(run("recommend", STRINGS, *arguments, "--why", "--json").out)
    recommender, history, said = Recommender.load(STRINGS), arguments[1].split(","), []
    for item, why in zip(answer["item_ids"], answer["why"], strict=True):
        explanation = recommender.explain(history, item)
        assert why == [
            {"item_id": history[i], "share": share, "title": explanation.titles[i]}
            for i, share in explanation.strongest(3)
        ]
        first = why[0]["title"] or why[0]["item_id"]
        said.append(f"because of {first} ({why[0]['share']:.0%})")
    # Long reasons go on in the next line.
    text, place = " ".join(outcome.out.split()), 0
    for item, words in zip(answer["item_ids"], said, strict=True):
        place = text.index(words, text.index(f" {item} ", place))


def test_without_why_nothing_is_explained(run) -> None:
    answer = json.loads(run("recommend", STRINGS, "--history", "00123", "--json").out)
    assert "why" not in answer
    assert "because" not in run("recommend", STRINGS, "--history", "00123").out


def test_lines_may_ask_why_one_by_one(run, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [
        {"history": [0, 1], "k": 2, "why": True},
        {"history": [0]},
        {"history": [], "why": 1},
    ]
    text = "\n".join(map(json.dumps, questions))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    outcome = run("recommend", NUMBERS)
    first, second, third = map(json.loads, outcome.out.splitlines())
    assert [event["item_id"] for event in first["why"][0]] in ([0], [1], [0, 1], [1, 0])
    assert "title" not in first["why"][0][0]
    assert "why" not in second
    assert "why must be true or false, not 1" in third["error"]


def test_similar_items_instead_of_a_history(run) -> None:
    found = json.loads(run("recommend", NUMBERS, "--similar", "-7", "-k", 3, "--json").out)
    assert found["item_ids"] == Recommender.load(NUMBERS).similar(-7, 3).item_ids
    assert "Title of" in run("recommend", STRINGS, "--similar", "00123").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--similar", "00123", "--history", "123"], "--similar goes without --history"),
        (["--similar", "00123", "--why"], "--similar goes without --history and --why"),
        (["--similar", "no such item"], "'no such item' is none of the items of this file"),
    ],
)
def test_wrong_questions_are_refused_in_words(run, arguments, words) -> None:
    outcome = run("recommend", STRINGS, *arguments)
    assert outcome.code == 2 and words in outcome.err and outcome.out == ""


def test_numbers_are_asked_for_as_numbers(run) -> None:
    outcome = run("recommend", NUMBERS, "--similar", "x")
    assert outcome.code == 2 and "'x' is no number" in outcome.err

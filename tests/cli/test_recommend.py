"""`attnrec recommend`: every option counts or is refused, ids are read as they are written."""

import io
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from attnrec.runtime import Recommender

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
STRINGS, NUMBERS = FORMAT_1 / "tiny-string.onnx", FORMAT_1 / "tiny-int64.onnx"
USERS, TIMES = FORMAT_1 / "tiny-users.onnx", FORMAT_1 / "tiny-times.onnx"


@pytest.fixture
def ask_lines(run, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answers of `attnrec-recommend FILE OPTIONS` to requests on standard input, and the rest."""

    def call(file: Path, requests: list[Any], *options: object) -> tuple[list[Any], Any]:
        text = "\n".join(map(json.dumps, requests))
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        outcome = run("recommend", file, *options)
        return [json.loads(line) for line in outcome.out.splitlines()], outcome

    return call


def answer(recommender: Recommender, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    found = recommender.recommend(*arguments, **options)
    return found.item_ids, found.scores


def test_options_hold_for_every_line_that_does_not_say_otherwise(ask_lines) -> None:
    recommender = Recommender.load(STRINGS)
    options = ["-k", 3, "--exclude", "sku-1, sku-2", "--candidates", "sku-1,sku-3,sku-4,sku-5"]
    lines = [
        {"history": ["NA"]},
        {"history": ["NA"], "exclude": []},
        {"history": ["NA"], "candidates": None, "k": 2},
    ]
    answers, outcome = ask_lines(STRINGS, lines, *options)
    assert (outcome.code, outcome.err) == (0, "")
    gone, among = ["sku-1", "sku-2"], ["sku-1", "sku-3", "sku-4", "sku-5"]
    expected = [
        answer(recommender, ["NA"], 3, exclude=gone, candidates=among),
        answer(recommender, ["NA"], 3, candidates=among),
        answer(recommender, ["NA"], 2, exclude=gone),
    ]
    assert [(one["item_ids"], one["scores"]) for one in answers] == expected


def test_user_and_tags_hold_for_every_line_likewise(ask_lines) -> None:
    recommender = Recommender.load(USERS)
    lines = [{"history": []}, {"history": [], "user": 4}, {"history": [], "user_tags": None}]
    answers, outcome = ask_lines(USERS, lines, "--user", 3, "--user-tags", "gold, a")
    assert outcome.code == 0
    given = {"user": 3, "user_tags": ["gold", "a"]}
    expected = [answer(recommender, [], **given | own) for own in ({}, {"user": 4})]
    expected.append(answer(recommender, [], user=3))
    assert [(one["item_ids"], one["scores"]) for one in answers] == expected


def test_an_option_that_the_file_cannot_follow_is_an_error_of_every_line(ask_lines) -> None:
    (one,), outcome = ask_lines(STRINGS, [{"history": []}], "--user", "ann")
    assert outcome.code == 2 and "does not declare the input 'user'" in one["error"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--timestamps", "1,2"], ["--timestamps goes with --history", '"timestamps": [']),
        (["--request-time", 5], ["--request-time goes with --history", '"request_time": 1']),
        (["--similar", "NA", "--history", "x"], ["--similar goes without --history"]),
        (["--similar", "NA", "--why"], ["--similar goes without --history and --why"]),
        (["--similar", "NA", "--exclude", "x"], ["--similar goes without", "--exclude"]),
        (["--similar", "NA", "--candidates", ""], ["--similar goes without", "--candidates"]),
        (["--similar", "NA", "--user", "u"], ["--similar goes without", "--user"]),
        (["--similar", "NA", "--user-tags", ""], ["--similar goes without", "--user-tags"]),
        (["--similar", "NA", "--timestamps", "1"], ["--similar goes without", "--timestamps"]),
        (["--similar", "NA", "--request-time", 1], ["--similar goes without", "--request-time"]),
    ],
    ids=lambda value: None if isinstance(value[0], int) else str(value[0]),
)
def test_options_without_effect_are_refused_before_the_file_is_loaded(
    ask_lines, options, words
) -> None:
    answers, outcome = ask_lines(Path("no-such-file.onnx"), [{"history": []}], *options)
    assert outcome.code == 2 and answers == []
    assert all(word in outcome.err for word in words), outcome.err


def test_blanks_around_an_id_belong_to_it_only_if_the_file_knows_it_so(run) -> None:
    recommender = Recommender.load(STRINGS)
    for text, ids in (
        ("NA, sku-1 ,\tsku-2,", ["NA", "sku-1", "sku-2"]),
        ("NA, padded ,sku-1", ["NA", " padded ", "sku-1"]),
        (" ", []),
    ):
        found = json.loads(run("recommend", STRINGS, "--history", text, "--json").out)
        assert (found["item_ids"], found["n_known"]) == (
            recommender.recommend(ids).item_ids,
            len(ids),
        )
    left = run("recommend", STRINGS, "--history", "", "--exclude", "NA, sku-1", "-k", 40, "--json")
    assert not {"NA", "sku-1"} & {*json.loads(left.out)["item_ids"]}
    among = run("recommend", STRINGS, "--history", "", "--candidates", "NA, sku-1", "--json")
    assert {*json.loads(among.out)["item_ids"]} == {"NA", "sku-1"}


@pytest.mark.parametrize("option", ["--history", "--exclude", "--candidates"])
def test_an_empty_id_between_commas_is_refused(run, option: str) -> None:
    for text in ("NA,,sku-1", "NA, ,sku-1", ",NA"):
        options = [] if option == "--history" else ["--history", ""]
        outcome = run("recommend", STRINGS, *options, option, text)
        assert (outcome.code, outcome.out) == (2, "")
        assert f"{text!r} has an empty id beside a comma" in outcome.err


def test_it_says_how_many_ids_the_file_knows_and_names_the_others(run) -> None:
    asked = ["--history", "NA, sku-1,no", "--exclude", "sku-2", "--candidates", "sku-3,x,x,y"]
    outcome = run("recommend", STRINGS, *asked)
    assert outcome.err.splitlines() == [
        "--history: the file knows 2 of 3 ids; not 'no'",
        "--exclude: the file knows 1 of 1 id",
        "--candidates: the file knows 1 of 4 ids; not 'x', 'y'",
    ]
    as_json = run("recommend", STRINGS, *asked, "--json")
    assert as_json.err == outcome.err
    assert json.loads(as_json.out)["unknown"] == {"history": ["no"], "candidates": ["x", "y"]}
    known = run("recommend", STRINGS, "--history", "NA,sku-1", "--json")
    assert known.err == "" and "unknown" not in known.out
    assert run("recommend", NUMBERS, "--history", "0, 7777", "-q").err == ""
    assert "knows 1 of 2 ids; not 7777" in run("recommend", NUMBERS, "--history", "0, 7777").err


def test_answers_to_lines_name_ids_that_the_file_does_not_know(ask_lines) -> None:
    lines = [
        {"history": ["NA"]},
        {"history": ["NA", "no"], "exclude": ["sku-1", "gone"]},
        {"history": ["NA"], "candidates": ["sku-1 "]},
    ]
    answers, outcome = ask_lines(STRINGS, lines, "--exclude", "sku-9,typo")
    assert "--exclude: the file knows 1 of 2 ids; not 'typo'" in outcome.err
    assert [one.get("unknown") for one in answers] == [
        {"exclude": ["typo"]},
        {"history": ["no"], "exclude": ["gone"]},
        {"exclude": ["typo"], "candidates": ["sku-1 "]},
    ]


@pytest.mark.parametrize("other", [NUMBERS, None], ids=["replaced", "deleted"])
def test_lines_are_answered_by_the_file_that_was_loaded_whatever_becomes_of_it(
    run, monkeypatch, tmp_path: Path, other: Path | None
) -> None:
    file = tmp_path / "model.onnx"
    shutil.copy(STRINGS, file)
    requests = [{"history": ["NA"]}, {"history": ["NA", "no"], "why": True}, {"history": ["no"]}]

    class Lines(io.StringIO):
        def __iter__(self) -> Iterator[str]:
            yield json.dumps(requests[0])
            file.unlink()
            if other is not None:
                shutil.copy(other, file)
            yield from map(json.dumps, requests[1:])

    monkeypatch.setattr(sys, "stdin", Lines())
    outcome = run("recommend", file)
    assert (outcome.code, outcome.err) == (0, "")
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    recommender = Recommender.load(STRINGS)
    expected = [answer(recommender, request["history"]) for request in requests]
    assert [(one["item_ids"], one["scores"]) for one in answers] == expected
    assert len(answers[1]["why"]) == 10
    assert not any("unknown" in one for one in answers), "the ids are gone with the file"


@pytest.mark.parametrize("file", [STRINGS, NUMBERS])
def test_examples_in_messages_are_items_of_the_file(run, ask_lines, monkeypatch, file) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    outcome = run("recommend", file)
    shown = outcome.err.partition("give ")[2].partition(", or JSON lines")[0]
    found = json.loads(run("recommend", file, *shlex.split(shown), "--json").out)
    assert found["n_known"] >= 1 and "unknown" not in found
    (wrong,), _ = ask_lines(file, ["nothing"])
    line = json.loads(wrong["error"].partition("such as ")[2])
    (right,), _ = ask_lines(file, [line])
    assert right["n_known"] == len(line["history"]) >= 1


def test_a_wrong_number_is_answered_with_a_right_one(run) -> None:
    outcome = run("recommend", NUMBERS, "--history", "A,B")
    example = outcome.err.rpartition("such as ")[2].strip()
    assert outcome.code == 2 and "'A' is no number" in outcome.err
    assert (
        json.loads(run("recommend", NUMBERS, "--history", example, "--json").out)["n_known"] == 1
    )


def test_ids_with_commas_are_asked_for_in_lines(run, ask_lines, tmp_path) -> None:
    rows = [f'{user},"{(user + step) % 7},5 mm",{step}' for user in range(9) for step in range(5)]
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    out = tmp_path / "run"
    assert run("train", log, "--model", "popularity", "--out", out, "--no-report").code == 0
    assert run("export", out).code == 0
    outcome = run("recommend", out / "model.onnx", "--history", "3,5 mm,4,5 mm")
    shown = outcome.err.partition("give ids with commas in JSON lines, such as ")[2].partition(
        "\n"
    )[0]
    (answer,), _ = ask_lines(out / "model.onnx", [json.loads(shown)])
    assert answer["n_known"] == 1 and "unknown" not in answer
    assert "commas" not in run("recommend", out / "model.onnx", "--history", "no such id").err


def test_a_misspelt_field_is_named(ask_lines) -> None:
    (answer,), _ = ask_lines(NUMBERS, [{"historyy": [1]}])
    assert answer["error"].startswith("unknown fields ['historyy']; there are: at_least, ")


# --- users


def test_recommend_takes_a_user_and_tags(run) -> None:
    def ask(*options: str) -> tuple[list[str], list[float]]:
        outcome = run("recommend", USERS, "--history", "", "--json", *options)
        assert outcome.code == 0, outcome.err
        answer = json.loads(outcome.out)
        return answer["item_ids"], answer["scores"]

    recommender = Recommender.load(USERS)
    for options, arguments in (
        ([], {}),
        (["--user", "3"], {"user": 3}),
        (["--user=-1"], {}),
        (["--user", "3", "--user-tags", "gold,a"], {"user": 3, "user_tags": ["gold", "a"]}),
        (["--user-tags", ""], {}),
    ):
        expected = recommender.recommend([], **arguments)
        assert ask(*options) == (expected.item_ids, expected.scores)


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        (USERS, ["--user", "Ann"], ["'Ann' is no number", "user ids of this file are int64"]),
        (STRINGS, ["--user", "3"], ["does not declare the input 'user'"]),
        (USERS, ["--user-tags", "gold,,a"], ["'gold,,a' has an empty tag"]),
        (STRINGS, ["--user-tags", "gold"], ["does not declare the input 'user_tags'"]),
    ],
    ids=["no number", "no users", "empty tag", "no tags"],
)
def test_a_user_that_the_file_cannot_know_is_refused(run, file, options, words) -> None:
    outcome = run("recommend", file, "--history", "", *options)
    assert outcome.code == 2 and outcome.out == ""
    assert all(word in " ".join(outcome.err.split()) for word in words)


def test_a_user_that_the_file_does_not_know_is_named(run, monkeypatch) -> None:
    unknown = run("recommend", USERS, "--history", "", "--user", "9999", "--json")
    assert unknown.code == 0
    assert "--user: the file does not know 9999: the answer is that for no user" in unknown.err
    assert json.loads(unknown.out)["unknown"] == {"user": [9999]}
    assert "9999" in run("recommend", USERS, "--history", "", "--user", "9999").err
    for known in (["--user", "3"], ["--user=-1"]):  # -1 is nobody
        outcome = run("recommend", USERS, "--history", "", *known, "--json")
        assert outcome.err == "" and "unknown" not in json.loads(outcome.out)
    monkeypatch.setattr("sys.stdin", io.StringIO('{"history": [], "user": 9999}\n{"history": []}'))
    first, second = map(json.loads, run("recommend", USERS, "--user", "3").out.splitlines())
    assert first["unknown"] == {"user": [9999]} and "unknown" not in second


def test_from_a_log_with_a_users_table_to_an_answer_for_a_unknown(run, log, tmp_path) -> None:
    people = pd.DataFrame({"user_id": [f"u{n}" for n in range(30)], "kind": ["a", "b", ""] * 10})
    people.to_csv(tmp_path / "people.csv", index=False)
    out = tmp_path / "run"
    options = ["--model", "neumf", "--epochs", 1, "--threads", 1, "--out", out]
    table = ["--users", tmp_path / "people.csv", "--tag-cols", "kind"]
    assert run("train", log, *options, *table).code == 0
    refused = run("export", out)
    assert refused.code == 2 and "30 user ids" in refused.err and "--allow-users" in refused.err
    assert run("export", out, "--allow-users").code == 0
    measured = run("evaluate", out / "model.onnx", "--json")
    assert measured.code == 0 and json.loads(measured.out)["n_users"] == 30
    asked = ["--history", "001", "--user", "nobody", "--user-tags", "b", "--json"]
    answer = json.loads(run("recommend", out / "model.onnx", *asked).out)
    assert len(answer["item_ids"]) == 10 and "001" not in answer["item_ids"]
    assert answer["unknown"] == {"user": ["nobody"]}
    asked[3] = "u7"
    assert "unknown" not in json.loads(run("recommend", out / "model.onnx", *asked).out)


def test_a_user_id_that_means_unknown_is_refused_before_the_training(run, tmp_path) -> None:
    rows = [f"{user},{item},{item}" for user in (-1, 2, 3) for item in range(6)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    words = ["--epochs", 1, "--threads", 1, "--no-report", "--out", tmp_path / "run"]
    outcome = run("train", log, "--model", "neumf", *words)
    assert outcome.code == 2
    assert outcome.err.endswith(
        "there is a user -1, which stands for an unknown user; rename that user\n"
    )
    assert not (tmp_path / "run").exists()
    assert run("train", log, "--model", "sasrec", "--hidden-dim", 8, *words).code == 0


# --- why, and similar items


def test_below_each_item_stand_the_events_that_speak_for_it(run) -> None:
    arguments = ["--history", "00123,no such item,null,sku-3", "-k", 4]
    outcome = run("recommend", STRINGS, *arguments, "--why")
    assert outcome.code == 0
    answer = json.loads(run("recommend", STRINGS, *arguments, "--why", "--json").out)
    recommender, history, shown = Recommender.load(STRINGS), arguments[1].split(","), []
    for item, why in zip(answer["item_ids"], answer["why"], strict=True):
        explanation = recommender.explain(history, item)
        assert why == [
            {"item_id": history[i], "share": share, "title": explanation.titles[i]}
            for i, share in explanation.strongest(3)
        ]
        first = why[0]["title"] or why[0]["item_id"]
        shown.append(f"because of {first} ({why[0]['share']:.0%})")
    # Long reasons go on in the next line.
    text, place = " ".join(outcome.out.split()), 0
    for item, words in zip(answer["item_ids"], shown, strict=True):
        place = text.index(words, text.index(f" {item} ", place))


def test_lines_may_ask_why_one_by_one(run, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [
        {"history": [0, 1], "k": 2, "why": True},
        {"history": [0]},
        {"history": [], "why": 1},
    ]
    text = "\n".join(map(json.dumps, requests))
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
    outcome = run("recommend", STRINGS, "--similar", "no such item")
    assert (outcome.code, outcome.out) == (2, "")
    assert "'no such item' is none of the items of this file" in outcome.err

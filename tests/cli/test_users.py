"""Who asks, on the command line."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from attnrec.runtime import Recommender

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
USERS, STRING = FORMAT_1 / "tiny-users.onnx", FORMAT_1 / "tiny-string.onnx"


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
        (STRING, ["--user", "3"], ["does not declare the input 'user'"]),
        (USERS, ["--user-tags", "gold,,a"], ["'gold,,a' has an empty tag"]),
        (STRING, ["--user-tags", "gold"], ["does not declare the input 'user_tags'"]),
    ],
    ids=["no number", "no users", "empty tag", "no tags"],
)
def test_a_user_that_the_file_cannot_know_is_refused(run, file, options, words) -> None:
    outcome = run("recommend", file, "--history", "", *options)
    assert outcome.code == 2 and outcome.out == ""
    assert all(word in " ".join(outcome.err.split()) for word in words)


def test_lines_may_say_who_asks(run, monkeypatch) -> None:
    lines = ['{"history": [], "user": 3, "user_tags": ["gold"]}', '{"history": [], "user": "Ann"}']
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    outcome = run("recommend", USERS)
    first, second = map(json.loads, outcome.out.splitlines())
    expected = Recommender.load(USERS).recommend([], user=3, user_tags=["gold"])
    assert first["scores"] == expected.scores
    assert second["line"] == 2 and "'Ann'" in second["error"]


def test_a_user_that_the_file_does_not_know_is_named(run, monkeypatch) -> None:
    stranger = run("recommend", USERS, "--history", "", "--user", "9999", "--json")
    assert stranger.code == 0
    assert "--user: the file does not know 9999: it is answered like no user" in stranger.err
    assert json.loads(stranger.out)["unknown"] == {"user": [9999]}
    assert "9999" in run("recommend", USERS, "--history", "", "--user", "9999").err
    for known in (["--user", "3"], ["--user=-1"]):  # -1 is nobody
        outcome = run("recommend", USERS, "--history", "", *known, "--json")
        assert outcome.err == "" and "unknown" not in json.loads(outcome.out)
    monkeypatch.setattr("sys.stdin", io.StringIO('{"history": [], "user": 9999}\n{"history": []}'))
    first, second = map(json.loads, run("recommend", USERS, "--user", "3").out.splitlines())
    assert first["unknown"] == {"user": [9999]} and "unknown" not in second


def test_from_a_log_with_a_users_table_to_an_answer_for_a_stranger(run, log, tmp_path) -> None:
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


def test_a_user_who_stands_for_nobody_is_refused_before_the_training(run, tmp_path) -> None:
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

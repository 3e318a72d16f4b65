"""The example for Node: real node, real files, the answers of Python."""

import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compare_answers import (
    APPS,
    FILES,
    answers_of,
    as_json,
    asked_of_python,
    compare,
    file_of,
    from_json,
    golden_vectors,
)

from attnrec.runtime import Recommender

pytestmark = pytest.mark.examples

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
EVERYTHING = 2**53 - 1  # as many as there are
logger = logging.getLogger(__name__)

Ask = Callable[[Path, list[dict[str, Any]]], list[Any]]


@pytest.fixture(scope="module")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("no node here: apt-get install nodejs npm, then make examples")
    if not (EXAMPLES / "node/node_modules").is_dir():
        pytest.skip("onnxruntime-node is not installed: npm ci --prefix examples/node")
    return path


@pytest.fixture(scope="module")
def ask(node: str) -> Ask:
    """ask(file, questions): what `recommend` of the example returns for each."""

    def call(file: Path, questions: list[dict[str, Any]]) -> list[Any]:
        done = subprocess.run(
            [node, HERE / "ask_node.mjs", file], input=as_json(questions).encode(),
            capture_output=True, check=True,
        )  # fmt: skip
        assert done.stderr == b""
        found: list[Any] = from_json(done.stdout.decode())
        return found

    return call


@pytest.mark.parametrize("name", APPS)
def test_two_hundred_people_get_the_answers_of_python(ask: Ask, name: str) -> None:
    questions, expected = asked_of_python(name)
    likeness = compare(answers_of(ask(file_of(name), questions)), expected)
    assert likeness.overlap >= 0.99
    logger.info("%s: %s", name, likeness)


@pytest.mark.parametrize("name", FILES)
def test_the_golden_vectors_of_every_profile_come_out(ask: Ask, name: str) -> None:
    questions, expected = golden_vectors(file_of(name))
    likeness = compare(answers_of(ask(file_of(name), questions)), expected)
    logger.info("%s: %s", name, likeness)


@pytest.mark.parametrize("name", FILES)
def test_the_answer_to_nothing_with_everything_in_it_is_the_catalogue(ask: Ask, name: str) -> None:
    recommender = Recommender.load(file_of(name))
    n_items = recommender.info.n_items
    expected = recommender.recommend([], n_items)
    (found,) = ask(file_of(name), [{"k": EVERYTHING}])
    titles = {item["id"]: item.get("title") for item in found["items"]}
    assert len(titles) == len(found["items"]) == n_items
    wanted = expected.titles or [None] * n_items
    assert titles == dict(zip(expected.item_ids, wanted, strict=True))


def test_who_is_unknown_is_answered_as_a_newcomer(ask: Ask) -> None:
    unknown = {"history": ["no such thing", ""]}
    newcomer, empty, stranger = ask(file_of("string-int8"), [{}, {"history": []}, unknown])
    assert newcomer == empty == stranger
    assert newcomer["nKnown"] == 0
    assert len(newcomer["items"]) == 10


def test_what_was_seen_does_not_come_back_unless_it_is_asked_for(ask: Ask) -> None:
    history = ["85123A", "22423"]
    left_out, kept = ask(
        file_of("string-int8"),
        [{"history": history, "k": EVERYTHING}, {"history": history, "exclude": [],
                                                 "k": EVERYTHING}],
    )  # fmt: skip
    assert {i["id"] for i in kept["items"]} - {i["id"] for i in left_out["items"]} == set(history)


def test_ids_beyond_the_exact_numbers_of_javascript_stay_exact(ask: Ask) -> None:
    ends = [2**53 + 1, 2**63 - 1, -(2**53) - 1]
    (found,) = ask(file_of("tiny-int64"), [{"history": ends, "exclude": [], "k": EVERYTHING}])
    assert found["nKnown"] == 3
    assert {*ends, 2**53} <= {item["id"] for item in found["items"]}


@pytest.mark.parametrize(
    ("name", "question", "error"),
    [
        ("int64-int8", {"history": ["12"]}, 'history: .* such as 85116n, not the string "12"'),
        ("int64-int8", {"history": [1.5]}, 'history: .* such as 85116n, not the number "1.5"'),
        ("int64-int8", {"history": [2.0**53]}, 'not the number "9007199254740992"'),
        ("int64-int8", {"exclude": [2**63]}, 'exclude: .* not the bigint "9223372036854775808"'),
        ("int64-int8", {"history": [None]}, 'not the object "null"'),
        ("string-int8", {"history": [12]}, 'history: this file wants texts.* not the bigint "12"'),
        ("string-int8", {"candidates": ["22423", ["22423"]]}, "candidates: .* not the object"),
        ("string-int8", {"history": ["22423\0"]}, r"history: this file wants texts, without \\0"),
        ("string-int8", {"request_time": "now"}, 'request_time: .* not the string "now"'),
        ("int64-int8", {"timestamps": [1]}, "no input timestamps in this file: history, exclude"),
        ("int64-int8", {"histroy": []}, "no input histroy in this file: history, exclude, cand"),
    ],
)
def test_a_wrong_question_gets_a_clear_error(
    ask: Ask, name: str, question: dict[str, Any], error: str
) -> None:
    ((answer),) = ask(file_of(name), [question])
    assert answer["error"].startswith("TypeError: ")
    assert re.search(error, answer["error"])


def test_the_command_shows_titles(node: str) -> None:
    file, history = file_of("string-int8"), ["85123A", "22423"]
    command = [node, EXAMPLES / "node/recommend.mjs", file, *history, "no such thing"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = Recommender.load(file).recommend(history, exclude_seen=True)
    rows = zip(answer.scores, answer.item_ids, answer.titles or [], strict=True)
    assert done.stdout.splitlines() == [
        "2 of 3 ids are known. You may also like:",
        *(f"{score:.3f} {item} {title}" for score, item, title in rows),
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["no-such-file.onnx"], "File doesn't exist"),
        ([HERE / "ask.mjs"], "Protobuf parsing failed"),
        ([file_of("int64-int8"), "abc"], "Cannot convert abc to a BigInt"),
    ],
)
def test_the_command_says_what_is_wrong_in_a_line(
    node: str, arguments: list[Any], error: str
) -> None:
    command = [node, EXAMPLES / "node/recommend.mjs", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert error in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_is_kept_to_be_reported(node: str, tmp_path: Path) -> None:
    # onnxruntime would open a data base of its use below the home directory.
    environment = {name: value for name, value in os.environ.items()
                   if name != "ORT_DISABLE_TELEMETRY" and not name.startswith("XDG_")}  # fmt: skip
    environment["HOME"] = str(tmp_path)
    command = [node, EXAMPLES / "node/recommend.mjs", file_of("string-int8")]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["node", "browser"])
def test_an_install_brings_the_packages_of_the_lock_file_and_nothing_else(place: str) -> None:
    settings = (EXAMPLES / place / ".npmrc").read_text().splitlines()
    assert "ignore-scripts=true" in settings
    packages = json.loads((EXAMPLES / place / "package-lock.json").read_text())["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
    assert not any("resolved" in package for package in packages.values())


def test_node_and_the_browser_have_one_function() -> None:
    def function(path: str) -> str:
        text = (EXAMPLES / path).read_text()
        found = re.search(r"/\*\* The k best.*?^};$(?=\n*(?:if \(process|\Z))", text, re.M | re.S)
        assert found is not None
        return found[0]

    assert function("node/recommend.mjs") == function("browser/recommend.js")

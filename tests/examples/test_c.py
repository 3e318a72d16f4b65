"""The example in C answers like Python."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.model_file.format import CALLER_INPUTS, GOLDEN_KEY, score_tolerance
from attnrec.runtime.session import make_session

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[2]
APPS = ROOT / "tests" / "data" / "apps"
FILES = [f"{id_type}-{profile}" for id_type in ("string", "int64") for profile in ("fp32", "int8")]

Answer = list[tuple[str, float]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled example."""
    include = os.environ.get("ONNXRUNTIME_INCLUDE")
    if not include:
        pytest.skip(
            "ONNXRUNTIME_INCLUDE does not name the folder of onnxruntime_c_api.h; "
            "examples/c/README.md says where to get it"
        )
    for tool in ("make", "cc"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here: apt-get install build-essential")
    build = tmp_path_factory.mktemp("c")
    settings = [f"BUILD={build}", f"PYTHON={sys.executable}", f"ONNXRUNTIME_INCLUDE={include}"]
    subprocess.run(["make", "-s", "-C", ROOT / "examples" / "c", *settings], check=True)
    return build / "recommend"


def line_of(question: dict[str, Any]) -> str:
    fields = (question[name] for name in ("history", "exclude", "candidates"))
    return "\t".join(",".join(map(str, ids)) for ids in fields)


def ask(program: Path, file: str, k: int, questions: list[dict[str, Any]]) -> list[Answer]:
    """What the program prints for one question a line; the ids as text."""
    return answers_of(program, APPS / f"{file}.onnx", k, [*map(line_of, questions)])


def answers_of(program: Path, file: Path, k: int, questions: list[str]) -> list[Answer]:
    result = subprocess.run(
        [program, file, str(k)], input="".join(f"{line}\n" for line in questions),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stderr == ""
    answers: list[Answer] = [[]]
    for line in result.stdout.splitlines():
        if line:
            item, _, score = line.partition("\t")
            answers[-1].append((item, float(score)))
        else:
            answers.append([])
    assert answers.pop() == [] and len(answers) == len(questions)
    return answers


def assert_equal(answer: Answer, items: list[Any], scores: list[float]) -> None:
    """The same items with the same scores; only what is nearly equal may change places."""
    tolerance = score_tolerance(max(map(abs, scores), default=0))
    assert len(answer) == len(items)
    wanted = dict(zip(map(str, items), scores, strict=True))
    for (item, score), then in zip(answer, scores, strict=True):
        assert abs(score - then) <= tolerance
        assert abs(wanted.get(item, scores[-1]) - then) <= 2 * tolerance


@pytest.mark.parametrize("file", FILES)
def test_200_users_get_what_python_answers(program, file) -> None:
    id_type, profile = file.split("-")
    stored = json.loads((APPS / "answers.json").read_text())[id_type]
    answers = ask(program, file, 10, stored["questions"])
    assert len(answers) == 200
    for answer, then in zip(answers, stored[profile], strict=True):
        assert_equal(answer, then["item_ids"], then["scores"])


@pytest.mark.parametrize("file", FILES)
def test_golden_vectors_come_out(program, file) -> None:
    """Those that a line of ids can ask."""
    session = make_session((APPS / f"{file}.onnx").read_bytes())
    golden = json.loads(session.get_modelmeta().custom_metadata_map[GOLDEN_KEY])
    vectors = [v for v in golden if not any(name in v for name in CALLER_INPUTS)]
    assert vectors
    for vector in vectors:
        (answer,) = ask(program, file, vector["k"], [vector])
        scores = [score for score in vector["scores"] if score is not None]
        assert_equal(answer, vector["items"][: len(scores)], scores)


def test_rules_follow_the_lists_of_ids(program) -> None:
    file = APPS.parent / "format-1" / "tiny-rules.onnx"
    shop = Recommender.load(file)
    plain = [item for item in shop.items() if str(item).startswith("sku-")]  # no tab, no comma
    rules = [
        [],
        ["kind:mug", "colour:red"],
        ["kind:mug", "kind:a:b", "colour:blue"],
        ["colour:red"],
    ]
    for n, name in enumerate(("require_all", "require_any", "forbid"), start=1):
        tags = [",".join(rules[n]) if place == n else "" for place in (1, 2, 3)]
        lists = ["sku-1", "sku-1", ",".join(plain), *tags]
        (answer,) = answers_of(program, file, 9, ["\t".join(lists)])
        found = shop.recommend(["sku-1"], k=9, candidates=plain, **{name: rules[n]})
        assert found.item_ids
        assert_equal(answer, found.item_ids, found.scores)


def test_a_file_that_is_none_is_an_error_and_not_a_crash(program, tmp_path) -> None:
    result = subprocess.run(
        [program, tmp_path / "no.onnx", "3"], input="", capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and "no.onnx" in result.stderr
    assert subprocess.run([program], capture_output=True).returncode == 2

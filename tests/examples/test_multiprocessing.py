"""examples/multiprocessing_batch.py: a Recommender that is pickled or forked answers the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnrec.runtime import Recommender

pytestmark = pytest.mark.examples

APPS = Path(__file__).parents[1] / "data/apps"
SCRIPT = Path(__file__).parents[2] / "examples/multiprocessing_batch.py"


@pytest.mark.parametrize("start", ["spawn", "fork"])
@pytest.mark.parametrize("file", ["string-fp32", "string-int8", "int64-fp32", "int64-int8"])
def test_a_pool_of_processes_answers_like_recommend_batch(file: str, start: str) -> None:
    stored = json.loads((APPS / "answers.json").read_text())[file.partition("-")[0]]
    # Enough for three tasks, so that both processes get some.
    histories = [question["history"] for question in stored["questions"]] * 13
    model = APPS / f"{file}.onnx"
    done = subprocess.run(
        [sys.executable, SCRIPT, model, start],
        input="".join(json.dumps(history) + "\n" for history in histories),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    answers = Recommender.load(model).recommend_batch(histories, k=10)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        answer.item_ids for answer in answers
    ]

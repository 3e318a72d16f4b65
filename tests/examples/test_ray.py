"""examples/ray_batch.py: answers of recommend_batch, also after it was killed on the way."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.model_file.format import score_tolerance

pytestmark = pytest.mark.examples

APPS = Path(__file__).parents[1] / "data/apps"
SCRIPT = Path(__file__).parents[2] / "examples/ray_batch.py"
MODEL = APPS / "int64-int8.onnx"
K = 10
Answers = list[tuple[list[Any], list[float]]]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The script as a module: what one worker does can be asked without starting Ray."""
    spec = importlib.util.spec_from_file_location("ray_batch", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def questions(id_type: str) -> list[list[Any]]:
    stored = json.loads((APPS / "answers.json").read_text())[id_type]
    return [question["history"] for question in stored["questions"]]


def write(path: Path, user_ids: list[Any], histories: list[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"user_id": user_ids, "history": histories}), path)


def answers_of(model: Path, histories: list[Any]) -> Answers:
    found = Recommender.load(model).recommend_batch(histories, K)
    return [(answer.item_ids, answer.scores) for answer in found]


def answers_in(path: Path) -> Answers:
    columns = pq.read_table(path).to_pydict()
    return list(zip(columns["item_id"], columns["score"], strict=True))


@pytest.fixture
def histories(tmp_path: Path) -> Path:
    """Five small files, and then one that takes a worker seconds."""
    folder, asked = tmp_path / "histories", questions("int64")
    for part in range(5):
        own = asked[part * 30 :]
        write(folder / f"part-{part}.parquet", list(range(len(own))), own)
    write(folder / "part-5.parquet", list(range(200 * 150)), asked * 150)
    return folder


def command(model: Path, histories: Path, answers: Path) -> list[str]:
    places = [str(path) for path in (SCRIPT, model, histories, answers)]
    return [sys.executable, *places, "--workers", "2"]


def run(model: Path, histories: Path, answers: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(model, histories, answers), capture_output=True, text=True, check=False
    )


@contextmanager
def started(histories: Path, answers: Path) -> Iterator[Any]:
    """A run that goes on."""
    # Not above: `make test` reads this file as well, where the extra is not installed.
    import psutil

    with open(os.devnull, "w") as nowhere:
        process = psutil.Popen(
            command(MODEL, histories, answers), stdout=subprocess.PIPE, stderr=nowhere, text=True
        )
        with process.stdout:
            yield process
        process.wait()


def until_it_writes_the_large_file(process: Any, answers: Path) -> None:
    """Wait until the small files are done and the last is begun."""
    while len(list(answers.glob("*.parquet"))) < 5 or not list(answers.glob(".*.part")):
        assert process.poll() is None
        time.sleep(0.01)


def kill_all(processes: list[Any]) -> None:
    import psutil

    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def workers_among(processes: list[Any]) -> list[Any]:
    return [one for one in processes if one.name().startswith("ray::MapWorker")]


def assert_same(found: Answers, wanted: Answers) -> None:
    """Within what may change with the other rows of a call: docs/file-format.md."""
    assert len(found) == len(wanted)
    for (items, scores), (wanted_items, wanted_scores) in zip(found, wanted, strict=True):
        tolerance = score_tolerance(max(map(abs, wanted_scores)))
        assert scores == pytest.approx(wanted_scores, rel=0, abs=tolerance)
        if items != wanted_items:
            score_of = dict(zip(wanted_items, wanted_scores, strict=True))
            for item, score in zip(items, wanted_scores, strict=True):
                assert abs(score_of.get(item, wanted_scores[-1]) - score) < 2 * tolerance


def test_killed_on_the_way_and_started_again_it_ends_as_if_nothing_had_happened(
    histories: Path, tmp_path: Path
) -> None:
    whole, answers = tmp_path / "whole", tmp_path / "answers"
    undisturbed = run(MODEL, histories, whole)
    assert undisturbed.returncode == 0, undisturbed.stderr

    with started(histories, answers) as run_to_kill:
        assert run_to_kill.stdout.readline() == "6 files, 0 of them done before\n"
        until_it_writes_the_large_file(run_to_kill, answers)
        children = run_to_kill.children(recursive=True)
        run_to_kill.kill()
        kill_all(children)  # its workers would still finish their file
    # Of the large file there is a beginning under another name.
    assert list(answers.glob(".*.part"))
    assert not (answers / "part-5.parquet").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in answers.glob("*.parquet")}
    assert len(kept) == 5

    again = run(MODEL, histories, answers)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("6 files, 5 of them done before\n")
    assert {name: (answers / name).stat().st_mtime_ns for name in kept} == kept
    assert (
        sorted(os.listdir(answers)) == sorted(os.listdir(whole)) == sorted(os.listdir(histories))
    )
    for path in whole.iterdir():
        assert (answers / path.name).read_bytes() == path.read_bytes()


def test_a_worker_that_dies_is_replaced_and_its_file_answered_by_another(
    histories: Path, tmp_path: Path
) -> None:
    answers = tmp_path / "answers"
    with started(histories, answers) as process:
        until_it_writes_the_large_file(process, answers)
        workers = workers_among(process.children(recursive=True))
        assert len(workers) == 2
        kill_all(workers)
        assert "part-5.parquet: 30000 users\n" in process.stdout.readlines()
    assert process.returncode == 0
    assert sorted(os.listdir(answers)) == sorted(os.listdir(histories))
    asked = pq.read_table(histories / "part-5.parquet")["history"].to_pylist()
    assert_same(answers_in(answers / "part-5.parquet"), answers_of(MODEL, asked))


@pytest.mark.parametrize("file", ["string-fp32", "string-int8", "int64-fp32", "int64-int8"])
def test_a_worker_writes_what_recommend_batch_answers(
    file: str, example: ModuleType, tmp_path: Path
) -> None:
    model, asked = APPS / f"{file}.onnx", questions(file.partition("-")[0])
    # A newcomer, null for one, and more rows than one call takes.
    asked = [[], None, *asked * 41]
    users = [f"user {i}" for i in range(len(asked))]
    write(tmp_path / "histories/a.parquet", users, asked)
    assert len(asked) > example.ROWS
    found = example.Answer(model, tmp_path)({"path": [str(tmp_path / "histories/a.parquet")]})
    assert found == {"result": ["a.parquet: 8202 users"]}
    assert pq.read_table(tmp_path / "a.parquet")["user_id"].to_pylist() == users
    histories = [history or [] for history in asked]
    assert_same(answers_in(tmp_path / "a.parquet"), answers_of(model, histories))


def test_answers_of_another_model_or_of_other_histories_are_not_taken_for_done(
    example: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "histories/a.parquet"
    write(path, [1, 2], questions("int64")[:2])
    here = example.Answer(MODEL, tmp_path)
    assert not here.is_done(path)
    here.answer(path)
    assert here.is_done(path)
    assert not example.Answer(APPS / "int64-fp32.onnx", tmp_path).is_done(path)
    write(path, [1, 2], questions("int64")[2:4])
    assert not here.is_done(path)


@pytest.mark.parametrize("content", [b"", b"PAR1 and then the power went out"])
def test_a_damaged_file_of_answers_is_not_taken_for_done(
    content: bytes, example: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "histories/a.parquet"
    write(path, [1], questions("int64")[:1])
    (tmp_path / "a.parquet").write_bytes(content)
    assert not example.Answer(MODEL, tmp_path).is_done(path)


def test_files_that_cannot_be_answered_are_named_and_the_others_answered(tmp_path: Path) -> None:
    folder, answers = tmp_path / "histories", tmp_path / "answers"
    write(folder / "good.parquet", [1], questions("int64")[:1])
    write(folder / "strings.parquet", [1], [["85116"]])
    pq.write_table(pa.table({"user": [1]}), folder / "columns.parquet")
    (folder / "text.parquet").write_text("user_id,history")
    done = run(MODEL, folder, answers)
    assert done.returncode == 1
    assert done.stderr.endswith("3 files failed\n")
    head, *lines = done.stdout.splitlines()
    assert head == "4 files, 0 of them done before"
    columns, good, strings, text = sorted(lines)
    assert columns.startswith("columns.parquet FAILED:") and "user_id" in columns
    assert good == "good.parquet: 1 users"
    assert strings == (
        "strings.parquet FAILED: column 'history' holds lists of string, the input 'history' of "
        "this file lists of int64; convert the column first"
    )
    assert text.startswith("text.parquet FAILED:")
    assert os.listdir(answers) == ["good.parquet"]


def test_a_file_that_is_no_model_is_refused_before_ray_is_started(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_text("no model")
    done = run(model, tmp_path, tmp_path / "answers")
    assert (done.returncode, done.stdout) == (1, "")
    assert str(model) in done.stderr and "Traceback" not in done.stderr

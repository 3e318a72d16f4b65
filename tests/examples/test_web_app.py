"""examples/fastapi: real servers of it are asked over HTTP and answer as `Recommender` does."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import Recommender

pytestmark = pytest.mark.examples

APPS = Path(__file__).parents[1] / "data/apps"
EXAMPLE = Path(__file__).parents[2] / "examples/fastapi"
FILES = ["string-fp32", "string-int8", "int64-fp32", "int64-int8"]

# The app as it is, but for a header that tells which process has answered. It asks before the
# fork, as a warm-up would.
WITH_PROCESS = """
import os
from app import app, recommender

recommender.recommend([])

@app.middleware("http")
async def name_the_process(request, call_next):
    response = await call_next(request)
    response.headers["process"] = str(os.getpid())
    return response
"""

Ask = Callable[[bytes], tuple[int, Any, str | None]]


@contextmanager
def served(model: Path, log: Path, *command: str) -> Iterator[Ask]:
    """A server of the example on a free port, which it prints; and a client of it."""
    environment = os.environ | {
        "MODEL": str(model),
        "PYTHONPATH": os.pathsep.join([str(log.parent), str(EXAMPLE)]),
    }
    (log.parent / "app_with_process.py").write_text(WITH_PROCESS)
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stdout=output, stderr=output
        )
    try:
        port = wait_for_port(server, log)

        def ask(body: bytes) -> tuple[int, Any, str | None]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/recommend", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = json.loads(response.read())
            connection.close()
            return response.status, content, response.headers["process"]

        yield ask
    finally:
        server.terminate()
        server.wait(60)


def wait_for_port(server: subprocess.Popen[bytes], log: Path) -> int:
    for _ in range(600):
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def uvicorn(app: str) -> list[str]:
    return ["uvicorn", app, "--port", "0"]


def gunicorn(app: str) -> list[str]:
    worker = ["-k", "uvicorn_worker.UvicornWorker"]
    return ["gunicorn", "--preload", "-w", "2", *worker, "-b", "127.0.0.1:0", app]


def questions(file: str) -> list[list[Any]]:
    stored = json.loads((APPS / "answers.json").read_text())
    return [question["history"] for question in stored[file.partition("-")[0]]["questions"]]


def expected(recommender: Recommender, history: list[Any], k: int) -> dict[str, Any]:
    answer = recommender.recommend(history, k)
    return {"item_ids": answer.item_ids, "scores": answer.scores, "titles": answer.titles}


@pytest.mark.parametrize("file", FILES)
def test_uvicorn_answers_two_hundred_histories_like_the_recommender(
    file: str, tmp_path: Path
) -> None:
    model = APPS / f"{file}.onnx"
    recommender = Recommender.load(model)
    with served(model, tmp_path / "log", *uvicorn("app:app")) as ask:
        for i, history in enumerate([[], *questions(file)]):
            k = 1 + i % 20
            status, answer, _ = ask(json.dumps({"history": history, "k": k}).encode())
            assert (status, answer) == (200, expected(recommender, history, k))


@pytest.mark.parametrize("file", ["string-fp32", "int64-int8"])
def test_both_workers_of_gunicorn_answer_from_a_file_that_was_loaded_before_the_fork(
    file: str, tmp_path: Path
) -> None:
    model, asked = APPS / f"{file}.onnx", questions(file)
    recommender = Recommender.load(model)
    wanted = [(200, expected(recommender, history, 10)) for history in asked]
    bodies = [json.dumps({"history": history}).encode() for history in asked]
    by_process: dict[str | None, set[int]] = {}
    with (
        served(model, tmp_path / "log", *gunicorn("app_with_process:app")) as ask,
        ThreadPoolExecutor(8) as clients,
    ):
        for _ in range(50):  # the system decides which worker gets a connection
            for i, (status, answer, process) in enumerate(clients.map(ask, bodies)):
                assert (status, answer) == wanted[i]
                by_process.setdefault(process, set()).add(i)
            if len(by_process) == 2 and min(map(len, by_process.values())) >= 20:
                break
    assert len(by_process) == 2
    assert min(map(len, by_process.values())) >= 20


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    log = tmp_path_factory.mktemp("server") / "log"
    with served(APPS / "string-fp32.onnx", log, *uvicorn("app:app")) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"history": [85116]}', 422, "history[0] is 85116; item ids of this file are strings"),
        (b'{"history": [null]}', 422, "leave missing ids out"),
        (b'{"history": [NaN]}', 422, "history[0] is nan"),
        (b'{"history": [["85116"]]}', 422, "item ids of this file are strings"),
        (b'{"history": ["\\ud800"]}', 422, "not valid Unicode"),
        (b'{"history": "85116"}', 422, "body.history: Input should be a valid list"),
        (b'{"history": "\\ud800"}', 422, "body.history: Input should be a valid list"),
        (b'{"history": [' + b'"85116",' * 10_000 + b'"85116"]}', 422, "at most 10000 items"),
        (b'{"history": [], "k": 0}', 422, "body.k: Input should be greater than or equal to 1"),
        (b'{"history": [], "k": 101}', 422, "body.k: Input should be less than or equal to 100"),
        (b'{"history": [], "k": NaN}', 422, "body.k: Input should be a valid integer"),
        (b'{"history": [], "k": true}', 422, "body.k: Input should be a valid integer"),
        (b'{"k": 3}', 422, "body.history: Field required"),
        (b"{", 422, "JSON decode error"),
        (b"", 422, "body.history: Field required"),
        (b"\xff", 400, "error parsing the body"),
        (b"[" * 100_000, 400, "error parsing the body"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_wrong_question_gets_a_message_and_no_server_error(
    ask: Ask, body: bytes, status: int, message: str
) -> None:
    found, answer, _ = ask(body)
    assert found == status
    assert message in answer["detail"]
    assert len(answer["detail"]) < 300


def test_after_wrong_questions_the_server_still_answers(ask: Ask) -> None:
    assert ask(b'{"history": ["85116"], "k": 3}')[0] == 200

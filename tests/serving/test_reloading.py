"""Another file while clients ask without pause: nothing is lost, and nothing is mixed up."""

import http.client
import itertools
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from attnrec.runtime import Recommender

TOKEN = "0123456789abcdef-reload"
BEARER = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
QUESTIONS = [
    {"history": history, "k": k}
    for history, k in itertools.product(([], ["sku-1"], ["sku-5", "sku-9", "no such"]), (1, 7, 40))
]


def version_of(path: Path) -> str:
    return Recommender.load(path).info.sha256[:12]


def put(content: bytes, path: Path) -> None:
    """As a deployment does: the whole file at once, under the name of the old one."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, path)


def reload(server) -> tuple[float, float]:
    """SIGHUP, then wait for its end; how many succeeded and failed since the start."""

    def counts() -> tuple[float, float]:
        success, failure = (
            server.metric("attnrec_reloads_total", result=result)
            for result in ("success", "failure")
        )
        return success, failure

    before = counts()
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while (now := counts()) == before:
        assert time.monotonic() < deadline, "no end of a reload"
        time.sleep(0.005)
    return now


class Client(threading.Thread):
    """Asks without pause over one connection, which must never be closed."""

    def __init__(self, server) -> None:
        super().__init__(daemon=True)
        self.connection: http.client.HTTPConnection = server.client()
        self.answers: list[tuple[int, int, dict]] = []
        self.error: Exception | None = None
        self.over = False

    def run(self) -> None:
        try:
            self.connection.connect()
            self.connection.auto_open = 0  # a dropped connection is an error, not a new one
            for n in itertools.cycle(range(len(QUESTIONS))):
                if self.over:
                    return
                body = json.dumps(QUESTIONS[n]).encode()
                headers = {"Content-Type": "application/json"}
                self.connection.request("POST", "/v1/recommend", body, headers)
                response = self.connection.getresponse()
                self.answers.append((n, response.status, json.loads(response.read())))
        except Exception as error:
            self.error = error
        finally:
            self.connection.close()


def assert_answers_are_of_the_file_they_name(clients, files: list[Path]) -> set[str]:
    """Compare with what the runtime says of the same files; returns the versions seen."""
    expected = {}
    for file in files:
        recommender = Recommender.load(file)
        found = [recommender.recommend(**question) for question in QUESTIONS]
        expected[version_of(file)] = [(one.item_ids, one.scores) for one in found]
    seen = set()
    for client in clients:
        assert client.error is None, repr(client.error)
        for n, status, answer in client.answers:
            assert status == 200, answer
            item_ids, scores = expected[answer["model_version"]][n]
            assert [item["id"] for item in answer["items"]] == item_ids
            got = [item["score"] for item in answer["items"]]
            assert got == pytest.approx(scores, abs=1e-5)
            seen.add(answer["model_version"])
    return seen


def test_fifty_swaps_under_load_of_which_ten_are_corrupt_lose_nothing(
    start, data, tmp_path, failing_its_self_test
) -> None:
    files = [data / "tiny-string.onnx", data / "tiny-markov-chain.onnx"]
    good = [file.read_bytes() for file in files]
    altered = bytearray(good[0])
    altered[1000] ^= 1
    corrupt = itertools.cycle([bytes(altered), good[1][:-100], b"", failing_its_self_test])
    path = tmp_path / "model.onnx"
    put(good[0], path)
    server = start(path)
    clients = [Client(server) for _ in range(3)]
    for client in clients:
        client.start()
    expected, serving = (0.0, 0.0), 0
    for swap in range(50):
        if swap % 5 == 4:
            put(next(corrupt), path)
            expected = expected[0], expected[1] + 1
        else:
            serving = 1 - serving
            put(good[serving], path)
            expected = expected[0] + 1, expected[1]
        assert reload(server) == expected
        ready = server.send("GET", "/readyz")
        assert ready.status == 200
        assert ready.json["model_version"] == version_of(files[serving])
        assert ("reload_failed" in ready.json) == (swap % 5 == 4)
    for client in clients:
        client.over = True
    for client in clients:
        client.join(60)
    assert expected == (40, 10)
    versions = assert_answers_are_of_the_file_they_name(clients, files)
    assert len(versions) == 2
    code, errors = server.stop()
    assert (code, "Traceback" in errors) == (0, False)
    assert errors.count("not reloaded") == 10


@pytest.mark.parametrize("kind", ["altered", "truncated", "empty", "no self-test", "missing"])
def test_a_file_that_cannot_be_used_leaves_the_old_one(
    start, data, tmp_path, failing_its_self_test, kind
) -> None:
    path = tmp_path / "model.onnx"
    good = (data / "tiny-string.onnx").read_bytes()
    put(good, path)
    server = start(path)
    before = server.ask(QUESTIONS[2]).json
    altered = bytearray(good)
    altered[-5000] ^= 0x10
    if kind == "missing":
        path.unlink()
    else:
        bad = {"altered": bytes(altered), "truncated": good[:-1], "empty": b""}
        put(bad.get(kind, failing_its_self_test), path)
    assert reload(server) == (0, 1)
    assert server.ask(QUESTIONS[2]).json == before
    ready = server.send("GET", "/readyz")
    assert (ready.status, ready.json["model_version"]) == (200, before["model_version"])
    assert ready.json["reload_failed"]
    put(good, path)
    assert reload(server) == (1, 1)
    assert "reload_failed" not in server.send("GET", "/readyz").json
    code, errors = server.stop()
    assert code == 0
    assert f"still serving {before['model_version']}" in errors


def test_reloading_over_http_needs_the_token(start, data, tmp_path) -> None:
    path, token = tmp_path / "model.onnx", tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    put((data / "tiny-string.onnx").read_bytes(), path)
    server = start(path, "--token-file", token)
    first = version_of(path)
    put((data / "tiny-markov-chain.onnx").read_bytes(), path)
    wrong = {"Authorization": "Bearer " + "x" * 20}
    for headers in ({}, wrong):
        server.send("POST", "/v1/reload", b"", headers).problem(401)
    assert server.send("GET", "/v1/model", None, BEARER).json["sha256"].startswith(first)
    reply = server.send("POST", "/v1/reload", b"", BEARER)
    assert reply.json == {"model_version": version_of(path), "previous_version": first}
    put(b"", path)
    problem = server.send("POST", "/v1/reload", b"", BEARER).problem(409)
    assert "still serving" in problem["detail"]
    server.send("GET", "/v1/reload", None, BEARER).problem(405)


def test_without_a_token_nobody_reloads_over_http(strings) -> None:
    reply = strings.send("POST", "/v1/reload", b"")
    assert "--token-file" in reply.problem(403)["detail"]
    assert strings.metric("attnrec_reloads_total", result="success") == 0


@pytest.mark.parametrize(
    ("name", "unknown"), [("tiny-string", "no such item"), ("tiny-int64", "-77")]
)
def test_unavailable_items_are_read_again(start, data, tmp_path, name, unknown) -> None:
    recommender = Recommender.load(data / f"{name}.onnx")
    first, second = recommender.recommend([], 2, exclude_seen=False).item_ids
    if "\n" in str(first):  # no line of a list can name such an item
        first = recommender.recommend([], 3, exclude_seen=False).item_ids[2]
    gone = tmp_path / "gone.txt"
    gone.write_text(f"{first}\r\n\n{unknown}\n", "utf-8", newline="")
    server = start(name, "--unavailable", gone)

    def found() -> list:
        return [item["id"] for item in server.ask({"history": [], "k": 40}).json["items"]]

    assert first not in found() and second in found()
    gone.write_text(f"{second}\n", "utf-8")
    assert reload(server) == (1, 0)
    assert first in found() and second not in found()
    gone.write_bytes(b"\xff\xfe")
    assert reload(server) == (1, 1)
    assert "gone.txt" in server.send("GET", "/readyz").json["reload_failed"]
    assert first in found() and second not in found()
    gone.unlink()
    assert reload(server) == (1, 2)
    assert second not in found()


def test_a_list_that_does_not_fit_the_file_keeps_the_old_list(start, tmp_path) -> None:
    gone = tmp_path / "gone.txt"
    gone.write_text("112\n")
    server = start("tiny-int64", "--unavailable", gone)
    gone.write_text("112\nabc\n")
    assert reload(server) == (0, 1)
    assert "whole numbers" in server.send("GET", "/readyz").json["reload_failed"]
    gone.write_text(f"{2**70}\n")  # no item of this file has such an id
    reload(server)
    assert server.ask({"history": []}).status == 200
    assert server.send("GET", "/readyz").status == 200


def test_a_file_with_ids_of_another_type_takes_over_whole(start, data, tmp_path) -> None:
    path = tmp_path / "model.onnx"
    put((data / "tiny-string.onnx").read_bytes(), path)
    server = start(path)
    assert server.ask({"history": ["sku-1"]}).status == 200
    put((data / "tiny-int64.onnx").read_bytes(), path)
    assert reload(server) == (1, 0)
    assert server.ask({"history": [112]}).status == 200
    assert server.ask({"history": ["sku-1"]}).problem(422)["field"] == "history[0]"
    document = server.send("GET", "/openapi.json").json
    question = document["components"]["schemas"]["SimilarQuestion"]["properties"]["item"]
    assert question["type"] == "integer"
    found = server.send("GET", "/v1/items?q=112").json["items"]
    assert {"id": 112} in found

"""Another file while clients ask without pause: nothing is lost, and nothing is mixed up."""

import http.client
import itertools
import json
import threading
from pathlib import Path

import pytest

from attnrec.runtime import Recommender

QUESTIONS = [
    {"history": history, "k": k}
    for history, k in itertools.product(([], ["sku-1"], ["sku-5", "sku-9", "no such"]), (1, 7, 40))
]


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
        expected[recommender.info.sha256[:12]] = [(one.item_ids, one.scores) for one in found]
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
    start, put, version_of, data, tmp_path, failing_its_self_test
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
        assert server.reload() == expected
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

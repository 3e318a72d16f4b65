"""Real server processes (`attnrec-serve`) on the committed files, and real clients."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.model_file import format as names

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
COMMAND = str(Path(sys.executable).with_name("attnrec-serve"))
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int) -> dict[str, Any]:
        """The problem document, which must be one of RFC 9457 with this status."""
        assert (self.status, self.headers["content-type"]) == (status, "application/problem+json")
        problem: dict[str, Any] = self.json
        assert problem["status"] == status
        assert problem["type"] == "about:blank"
        assert problem["title"] and problem["detail"]
        return problem


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    port: int

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def send(self, method: str, path: str, body: Any = None, headers: Any = JSON) -> Reply:
        """One request over a connection of its own; a body that is no bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = self.client()
        try:
            connection.request(method, path, body, headers)
            return reply_of(connection)
        finally:
            connection.close()

    def ask(self, question: Any) -> Reply:
        return self.send("POST", "/v1/recommend", question)

    def raw(self, sent: bytes) -> socket.socket:
        """A connection on which these bytes were sent and nothing else."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(sent)
        return connection

    def metric(self, name: str, headers: Any = JSON, **labels: str) -> float:
        """The value of one line of /metrics."""
        pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
        start = f"{name}{{{pairs}}} " if pairs else f"{name} "
        lines = self.send("GET", "/metrics", None, headers).body.decode().splitlines()
        return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))

    def reload(self, headers: Any = JSON) -> tuple[float, float]:
        """SIGHUP, then wait for its end; how many succeeded and failed since the start."""

        def counts() -> tuple[float, float]:
            name = "attnrec_reloads_total"
            success = self.metric(name, headers, result="success")
            return success, self.metric(name, headers, result="failure")

        before = counts()
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while (now := counts()) == before:
            assert time.monotonic() < deadline, "no end of a reload"
            time.sleep(0.005)
        return now

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit code and what stood on standard error since the start."""
        self.process.terminate()
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


def reply_of(connection: http.client.HTTPConnection) -> Reply:
    response = connection.getresponse()
    return Reply(response.status, response.headers, response.read())


def first_line(process: subprocess.Popen[str]) -> str:
    """Of standard error. Not by readline: what that reads ahead, `communicate` never sees."""
    assert process.stderr is not None
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(process.stderr.fileno(), 1)):
        line += byte
    return line.decode()


Start = Callable[..., Server]


@pytest.fixture(scope="session")
def data() -> Path:
    """The committed files of format 1."""
    return FORMAT_1


@pytest.fixture(scope="session")
def resealed() -> Callable[[Callable[[list[Any]], object]], bytes]:
    """tiny-string, sealed again after its golden vectors were changed in place."""

    def call(change: Callable[[list[Any]], object]) -> bytes:
        content = (FORMAT_1 / "tiny-string.onnx").read_bytes()
        text = Recommender.load(FORMAT_1 / "tiny-string.onnx")._golden
        wrong = json.loads(text)
        change(wrong)
        old, new = (names.metadata_entry(names.GOLDEN_KEY, t) for t in (text, json.dumps(wrong)))
        seal = names.metadata_entry(names.SEAL_KEY, "0" * names.SEAL_LENGTH)
        assert content.count(old) == 1
        return names.seal(content.replace(old, new)[: -len(seal)])

    return call


@pytest.fixture(scope="session")
def failing_its_self_test(resealed: Callable[[Callable[[list[Any]], object]], bytes]) -> bytes:
    """tiny-string, sealed with a golden vector that it does not reproduce."""
    return resealed(lambda vectors: vectors[0].update(n_known=vectors[0]["n_known"] + 1))


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Start a server on a free port: start("tiny-string", "--queue", 1).

    prefix: a command before that of the server; how: further arguments of Popen.
    """
    processes: list[subprocess.Popen[str]] = []

    def call(
        file: str | Path,
        *options: object,
        prefix: Sequence[str] = (),
        **how: Any,
    ) -> Server:
        path = FORMAT_1 / f"{file}.onnx" if isinstance(file, str) else file
        process = subprocess.Popen(
            [*prefix, COMMAND, str(path), "--port", "0", *map(str, options)],
            stdout=how.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, text=True,
            **how,
        )  # fmt: skip
        processes.append(process)
        said, address = "", None
        while address is None:  # warnings come before it
            line = first_line(process)
            said, address = said + line, re.search(r"http://[\d.]+:(\d+)", line)
            assert line, said
        return Server(process, int(address[1]))

    yield call
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def put() -> Callable[[bytes, Path], None]:
    """Replace a file as a deployment does: the whole file at once, under the name of the old."""

    def call(content: bytes, path: Path) -> None:
        beside = path.with_suffix(".new")
        beside.write_bytes(content)
        os.replace(beside, path)

    return call


@pytest.fixture(scope="session")
def version_of() -> Callable[[Path], str]:
    """The model_version of a file."""
    return lambda path: Recommender.load(path).info.sha256[:12]


@pytest.fixture(scope="session")
def strings(start: Start) -> Server:
    """String ids, titles, policy no-repeats."""
    return start("tiny-string")


@pytest.fixture(scope="session")
def numbers(start: Start) -> Server:
    """int64 ids, no titles, policy repeats."""
    return start("tiny-int64")

"""Two ways to a committed file: the ASGI application in this process, and `attnrec-serve`."""

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.model_file import format as names
from attnrec.runtime.serving.access_log import AccessLog
from attnrec.runtime.serving.authorization import AllowedHosts, Authorization
from attnrec.runtime.serving.errors import ARRIVED
from attnrec.runtime.serving.limits import ServerLimits
from attnrec.runtime.serving.reloading import ModelSource
from attnrec.runtime.serving.server import prepare

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


class Client:
    """Requests to one server; `headers` of every request can be replaced in each."""

    headers: dict[str, str] = JSON

    def exchange(self, method: str, path: str, body: bytes | None, headers: Any) -> Reply:
        raise NotImplementedError

    def send(self, method: str, path: str, body: Any = None, headers: Any = None) -> Reply:
        """One request; a body that is no bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.exchange(method, path, body, self.headers if headers is None else headers)

    def get(self, path: str, headers: Any = None) -> Reply:
        return self.send("GET", path, None, headers)

    def post(self, request: Any, path: str = "/v1/recommend") -> Reply:
        return self.send("POST", path, request)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one line of /metrics."""
        pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
        start = f"{name}{{{pairs}}} " if pairs else f"{name} "
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))

    def reloads(self) -> tuple[float, float]:
        """How many succeeded and failed since the start."""
        success, failure = (
            self.metric("attnrec_reloads_total", result=result)
            for result in ("success", "failure")
        )
        return success, failure


class App(Client):
    """The application itself, without a socket."""

    def __init__(self, service: Any, reloading: Any) -> None:
        self.service, self.reloading = service, reloading

    def exchange(self, method: str, path: str, body: bytes | None, headers: Any) -> Reply:
        return asyncio.run(self._exchange(method, path, body or b"", {"Host": "x", **headers}))

    async def _exchange(self, method: str, path: str, body: bytes, headers: Any) -> Reply:
        path, _, query = path.partition("?")
        sent = [(name.lower(), value) for name, value in headers.items()]
        sent.append(("content-length", str(len(body))))
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": urllib.parse.unquote(path),
            "query_string": query.encode(),
            "headers": [
                (name.encode(), value if isinstance(value, bytes) else value.encode())
                for name, value in sent
            ],
            "state": {ARRIVED: time.perf_counter()},
        }
        answer, whole = http.client.HTTPMessage(), b""
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, whole
            status = message.get("status", status)
            whole += message.get("body", b"")
            for name, value in message.get("headers", ()):
                answer[name.decode()] = value.decode()

        await self.service(scope, receive, send)
        return Reply(status, answer, whole)

    def reload(self) -> tuple[float, float]:
        asyncio.run(self.reloading.reload())
        return self.reloads()


@dataclass
class Server(Client):
    """A process of `attnrec-serve`."""

    process: subprocess.Popen[str]
    port: int

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def exchange(self, method: str, path: str, body: bytes | None, headers: Any) -> Reply:
        connection = self.client()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def raw(self, sent: bytes) -> socket.socket:
        """A connection on which these bytes were sent and nothing else."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(sent)
        return connection

    def everything(self, sent: bytes | socket.socket) -> bytes:
        """What comes on a connection until the server closes it, in good order or not."""
        connection = self.raw(sent) if isinstance(sent, bytes) else sent
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:  # it closed while there was more of ours to read
            pass
        connection.close()
        return received

    def statuses(self, sent: bytes | socket.socket) -> list[int]:
        """Of all answers until the server closes the connection."""
        return [int(part[:3]) for part in self.everything(sent).split(b"HTTP/1.1 ")[1:]]

    def reload(self) -> tuple[float, float]:
        """SIGHUP, then wait for its end."""
        before = self.reloads()
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while (now := self.reloads()) == before:
            assert time.monotonic() < deadline, "no end of a reload"
            time.sleep(0.005)
        return now

    def memory(self) -> float:
        """Resident bytes."""
        return self.metric("process_resident_memory_bytes")

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit code and the whole standard error after the address."""
        self.process.terminate()
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


def first_line(process: subprocess.Popen[str]) -> str:
    """Of standard error. Not by readline: what that reads ahead, `communicate` never sees."""
    assert process.stderr is not None
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(process.stderr.fileno(), 1)):
        line += byte
    return line.decode()


Start = Callable[..., Server]
MakeApp = Callable[..., App]


@pytest.fixture(scope="session")
def data() -> Path:
    """The committed files of format 1."""
    return FORMAT_1


def path_of(file: str | Path) -> Path:
    return FORMAT_1 / f"{file}.onnx" if isinstance(file, str) else file


@pytest.fixture(scope="session")
def app() -> MakeApp:
    """The application in this process: app("tiny-string", max_body=100)."""

    def call(
        file: str | Path,
        unavailable: Path | None = None,
        *,
        token: str | None = None,
        hosts: AllowedHosts | None = None,
        log: AccessLog | None = None,
        allow_change: bool = False,
        **limits: Any,
    ) -> App:
        source = ModelSource(path_of(file), unavailable, allow_change)
        return App(*prepare(source, ServerLimits(**limits), Authorization(token, hosts), log))

    return call


@pytest.fixture(scope="session")
def strings(app: MakeApp) -> App:
    """String ids, titles, policy no-repeats."""
    return app("tiny-string")


@pytest.fixture(scope="session")
def numbers(app: MakeApp) -> App:
    """int64 ids, no titles, policy repeats."""
    return app("tiny-int64")


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Start a server on a free port: start("tiny-string", "--queue", 1).

    prefix: a command before that of the server; how: further arguments of Popen.
    """
    processes: list[subprocess.Popen[str]] = []

    def call(file: str | Path, *options: object, prefix: Sequence[str] = (), **how: Any) -> Server:
        process = subprocess.Popen(
            [*prefix, COMMAND, str(path_of(file)), "--port", "0", *map(str, options)],
            stdout=how.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, text=True,
            **how,
        )  # fmt: skip
        processes.append(process)
        lines, address = "", None
        while address is None:  # warnings come before it
            line = first_line(process)
            lines, address = lines + line, re.search(r"http://[\d.]+:(\d+)", line)
            assert line, lines
        return Server(process, int(address[1]))

    yield call
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def server(start: Start) -> Server:
    """A process with tiny-string."""
    return start("tiny-string")


@pytest.fixture
def refused(data: Path) -> Callable[..., str]:
    """Run the command, which must end at once; returns its message, with plain blanks."""

    def call(*options: object, file: Path = data / "tiny-string.onnx") -> str:
        command = [COMMAND, str(file), "--port", "0", *map(str, options)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stdout) == (2, ""), options
        assert "Traceback" not in result.stderr
        return " ".join(result.stderr.split())

    return call


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with the token "0123456789abcdef-token"."""
    path = tmp_path / "token"
    path.write_text("0123456789abcdef-token\n")
    path.chmod(0o600)
    return path


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
def put() -> Callable[[bytes, Path], None]:
    """Replace a file as a deployment does: the whole file at once, under the name of the old."""

    def call(content: bytes, path: Path) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(content)
        os.replace(new, path)

    return call


@pytest.fixture(scope="session")
def version_of() -> Callable[[Path], str]:
    """The model_version of a file."""
    return lambda path: Recommender.load(path).info.sha256[:12]

"""Requests sent before the answers to earlier ones: answered in their order, in bounded memory."""

import os
import socket
import threading
import time
from contextlib import suppress

import pytest

from attnrec.runtime.serving.http_protocol import READ_SECONDS

MB = 2**20
TOKEN = "0123456789abcdef-pipelining"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
SHOW = b"Host: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
RELOAD = b"POST /v1/reload HTTP/1.1\r\n" + SHOW + b"Content-Length: 0\r\n\r\n"
BODY = b'{"history":[]}'
POST = b"POST /v1/recommend HTTP/1.1\r\n" + SHOW + b"Content-Type: application/json\r\n"

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe holds a reload back"),
    pytest.mark.usefixtures("unread"),
]


@pytest.fixture(scope="module")
def held(start, tmp_path_factory):
    """A server whose reloads have no end until `release()`: their list of ids is a pipe."""
    directory = tmp_path_factory.mktemp("held")
    path, token = directory / "unavailable", directory / "token"
    path.touch()
    token.write_text(TOKEN)
    token.chmod(0o600)
    server = start("tiny-string", "--unavailable", path, "--token-file", token)
    server.headers = SHOWN
    path.unlink()
    os.mkfifo(path)

    def release() -> None:
        before, deadline = server.reloads(), time.monotonic() + 30
        while server.reloads() == before:
            assert time.monotonic() < deadline
            with suppress(OSError):  # the reload has not come to its list
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            time.sleep(0.01)

    return server, release


def test_a_head_without_end_behind_an_unfinished_request_takes_no_memory(held) -> None:
    server, release = held
    before = server.memory()
    connection = server.raw(RELOAD + HEALTH[:-2])
    connection.settimeout(1)
    with pytest.raises(TimeoutError):  # the server does not read it
        for _ in range(64 * 16):
            connection.sendall(b"X: " + b"x" * 65536 + b"\r\n")
    assert server.memory() - before < 8 * MB
    release()
    assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    connection.close()


def test_requests_without_end_take_no_memory_while_their_answers_are_read(start) -> None:
    server = start("tiny-string")
    before = server.memory()
    connection = server.raw(b"")

    def send() -> None:
        for _ in range(1000):
            connection.sendall(HEALTH * 7000)

    def read() -> None:
        while connection.recv(MB):
            pass

    def until_closed(call) -> None:
        with suppress(OSError):
            call()

    threads = [threading.Thread(target=until_closed, args=(call,)) for call in (send, read)]
    for thread in threads:
        thread.start()
    grown = []
    for _ in range(30):
        grown.append(server.memory() - before)
        time.sleep(0.1)
    connection.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    connection.close()
    assert max(grown) < 16 * MB


def test_many_requests_behind_an_unfinished_one_are_kept_as_they_came(held) -> None:
    server, release = held
    before = server.memory()
    connections = [server.raw(RELOAD) for _ in range(10)]
    for connection in connections:
        connection.settimeout(1)
        connection.send(b"GET / HTTP/1.1\r\n\r\n" * 14_000)  # 250 kB, and 30 MB when taken apart
    time.sleep(1)
    assert server.memory() - before < 16 * MB
    for connection in connections:
        connection.close()
        release()


def test_pipelined_requests_are_answered_in_their_order(server) -> None:
    head = POST.replace(SHOW, b"Host: x\r\n")
    whole, wrong = (head + b"Content-Length: %d\r\n\r\n" % len(b) + b for b in (BODY, b"{}"))
    last = b"GET /no HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    statuses = server.statuses((whole + wrong + HEALTH) * 20 + last)
    assert statuses == [200, 422, 200] * 20 + [404]


LARGE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: 1\r\n" * 300 + b"\r\n"
LONG = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("behind", "statuses"),
    [
        (LARGE, [431]),
        (LONG, [431]),
        (HEALTH * 3 + LARGE, [200, 200, 200, 431]),
        (LARGE + HEALTH, [431]),
        (POST + b"X: 1\r\n" * 300 + b"Content-Length: 14\r\n\r\n" + BODY, [431]),
        (b"no http\r\n\r\n", [400]),
        (HEALTH + b"no http\r\n\r\n", [200, 400]),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", [400]),
        (HEALTH + POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", [200, 400]),
    ],
    ids=range(9),
)  # fmt: skip
def test_a_refusal_is_written_behind_the_answers_of_earlier_requests(
    held, behind, statuses
) -> None:
    server, release = held
    connection = server.raw(RELOAD + behind)
    assert server.send("GET", "/healthz").status == 200  # what was sent before is parsed now
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    release()
    assert server.statuses(connection) == [200, *statuses]


def test_a_body_behind_an_unfinished_request_is_not_late(held) -> None:
    server, release = held
    last = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    whole = POST + b"Content-Length: 30000\r\n\r\n" + BODY.ljust(30_000)
    connection = server.raw(RELOAD + whole * 2 + last)
    time.sleep(READ_SECONDS + 1)
    release()
    assert server.statuses(connection) == [200, 200, 200, 200]

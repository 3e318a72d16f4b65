"""Clients that send or read slowly, or not at all: bounded in time, bytes and connections."""

import http.client
import json
import resource
import socket
import struct
import sys
import time

import pytest

from attnrec.runtime.serving.connections import MOST_UNREAD, WRITE_SECONDS
from attnrec.runtime.serving.http_protocol import READ_SECONDS
from attnrec.runtime.serving.limits import ServerLimits

HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = HEALTH[:-2] + b"Connection: close\r\n\r\n"
NOT_JSON = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
ROWS = json.dumps([{"history": [], "k": 32}] * 256).encode()  # about 600 kB of answer
MANY = HEAD + b"Content-Length: %d\r\n\r\n" % len(ROWS) + ROWS

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits files"),
    pytest.mark.usefixtures("unread"),
]


def test_slow_senders_are_sent_away_and_others_are_answered(server) -> None:
    begun = time.monotonic()
    half_head, after_a_line, after_an_answer = map(server.raw, (HEAD, b"\r\n", HEALTH))
    assert b" 200 OK" in after_an_answer.recv(65536)
    after_an_answer.sendall(HEALTH[:20])
    half_body = server.raw(HEAD + b"Content-Length: 100\r\n\r\n{")
    dripping = server.raw(HEAD + b"Content-Length: 1000\r\n\r\n{")
    dripping.settimeout(0.5)
    received = b""
    while not received and time.monotonic() - begun < 60:
        dripping.sendall(b" ")
        try:
            received = dripping.recv(65536)
        except TimeoutError:
            continue
    dripping.close()
    assert server.post({"history": []}).status == 200
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in received.lower()
    assert server.statuses(half_body) == [408]
    for connection in (half_head, after_a_line, after_an_answer):
        assert server.everything(connection) == b""
    assert READ_SECONDS - 1 < time.monotonic() - begun < READ_SECONDS + 20


def test_idle_connections_are_kept_longer_than_by_proxies_or_as_long_as_given(start) -> None:
    assert ServerLimits.keep_alive > 60
    server = start("tiny-string", "--keep-alive", 1)
    unused, used = server.raw(b""), server.raw(HEALTH)
    refused = []
    for length, body in ((10, b"0123456789"), (100_000, b"a part")):
        refused.append(server.raw(NOT_JSON + b"Content-Length: %d\r\n\r\n" % length))
        assert b" 415 " in refused[-1].recv(65536)
        refused[-1].sendall(body)
    assert server.everything(unused) == b""
    assert server.statuses(used) == [200]
    assert [server.everything(connection) for connection in refused] == [b"", b""]


def test_the_rest_of_a_refused_body_is_passed_over_however_long_it_is(server) -> None:
    connection = server.raw(NOT_JSON + b"Content-Length: 200000\r\n\r\n")
    assert b" 415 " in connection.recv(65536)
    for _ in range(4):
        connection.sendall(b"x" * 50_000)
        time.sleep(0.05)
    connection.sendall(LAST)
    assert server.statuses(connection) == [200]


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


def test_connections_that_are_idle_for_5_seconds_make_room_for_others(start) -> None:
    server = start("tiny-string", preexec_fn=few_files)  # 36 connections
    idle = [server.raw(HEALTH if n % 2 else b"") for n in range(36)]
    deadline = time.monotonic() + 60
    status = 0
    while status != 200:
        assert time.monotonic() < deadline
        try:
            status = server.get("/healthz").status
        except http.client.HTTPException:
            time.sleep(0.2)
        assert status in (200, 503)
        time.sleep(0.2)
    used = server.client()
    for _ in range(60):  # more than there are idle ones
        assert server.get("/healthz").status == 200
        used.request("GET", "/healthz")
        assert used.getresponse().read()
    for connection in (used, *idle):
        connection.close()
    assert server.stop() == (0, "")


def test_connections_that_are_reset_leave_nothing_behind(start) -> None:
    server = start("tiny-string")
    headers = b"".join(b"x%d: %s\r\n" % (n, b"y" * 200) for n in range(240))
    before = server.memory()
    for _ in range(300):  # 15 MB of heads, and as much again in what is made of them
        connection = server.raw(HEALTH[:-2] + headers + b"\r\n")
        reset = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        connection.recv(65536)
        connection.close()
    assert server.memory() - before < 10 * 2**20


def test_a_large_answer_that_is_read_slowly_is_whole(server) -> None:
    connection = server.raw(MANY * 3 + LAST)
    received = b""
    while part := connection.recv(50_000):
        received += part
        time.sleep(0.01)
    connection.close()
    answers = received.split(b"HTTP/1.1 200 OK")[1:]
    assert len(answers) == 4 and b"alive" in answers[3]
    for answer in answers[:3]:
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])) == 256


def test_clients_that_do_not_read_take_little_memory_and_are_sent_away(unread) -> None:
    unread.join(WRITE_SECONDS + 90)
    assert unread.error is None
    assert MOST_UNREAD / 2 < max(unread.unread) <= MOST_UNREAD
    assert max(unread.grown) < 2.5 * MOST_UNREAD
    assert unread.n_refused > 0

"""Connections on which nothing is asked: kept longer than by proxies, but never in the way."""

import http.client
import resource
import socket
import struct
import time
from pathlib import Path

import pytest

from attnrec.runtime.serving.limits import ServerLimits

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


def test_they_are_kept_longer_than_the_60_seconds_of_proxies() -> None:
    assert ServerLimits.keep_alive > 60


def test_used_and_unused_ones_are_closed_after_the_time_that_was_given(start) -> None:
    server = start("tiny-string", "--keep-alive", 1)
    for sent in (b"", HEALTH):
        connection = server.raw(sent)
        received = b""
        while part := connection.recv(65536):  # until it is closed
            received += part
        connection.close()
        assert received.count(b" 200 OK") == bool(sent)


def test_they_make_room_for_others_when_they_are_idle_for_5_seconds(start) -> None:
    server = start("tiny-string", preexec_fn=few_files)  # 36 connections
    idle = [server.raw(HEALTH if n % 2 else b"") for n in range(36)]
    deadline = time.monotonic() + 60
    status = 0
    while status != 200:
        assert time.monotonic() < deadline
        try:
            status = server.send("GET", "/healthz").status
        except http.client.HTTPException:
            time.sleep(0.2)
        assert status in (200, 503)
        time.sleep(0.2)
    used = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(60):  # more than there are idle ones
        assert server.send("GET", "/healthz").status == 200
        used.request("GET", "/healthz")
        assert used.getresponse().read()
    used.close()
    for connection in idle:
        connection.close()
    assert server.stop() == (0, "")


def test_a_part_of_a_head_is_waited_for_5_seconds_only(start) -> None:
    server = start("tiny-string")
    begun = time.monotonic()
    connection = server.raw(HEALTH)
    connection.recv(65536)
    connection.sendall(HEALTH[:20])
    assert connection.recv(65536) == b""
    connection.close()
    assert time.monotonic() - begun < ServerLimits.keep_alive - 30


REFUSED = (
    b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n"
)


def test_a_connection_whose_body_was_refused_is_closed_like_any_other(start) -> None:
    server = start("tiny-string", "--keep-alive", 1)
    for length, body in ((10, b"0123456789"), (100_000, b"a part")):
        connection = server.raw(REFUSED % length)
        assert b" 415 " in connection.recv(65536)
        connection.sendall(body)
        assert connection.recv(65536) == b""
        connection.close()


def test_the_rest_of_a_refused_body_is_passed_over_however_long_it_is(start) -> None:
    server = start("tiny-string")
    connection = server.raw(REFUSED % 200_000)
    assert b" 415 " in connection.recv(65536)
    for _ in range(4):
        connection.sendall(b"x" * 50_000)
        time.sleep(0.05)
    connection.sendall(HEALTH)
    assert b" 200 OK" in connection.recv(65536)
    connection.close()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_connections_that_are_reset_leave_nothing_behind(start) -> None:
    server = start("tiny-string")
    headers = b"".join(b"x%d: %s\r\n" % (n, b"y" * 200) for n in range(240))
    request = HEALTH[:-2] + headers + b"\r\n"
    before = server.metric("process_resident_memory_bytes")
    for _ in range(300):  # 15 MB of heads, and as much again in what is made of them
        connection = server.raw(request)
        reset = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        connection.recv(65536)
        connection.close()
    assert server.metric("process_resident_memory_bytes") - before < 10 * 2**20


def test_refusals_of_heads_and_connections_are_counted_and_logged(start, tmp_path) -> None:
    log = tmp_path / "log"
    server = start("tiny-string", "--access-log", log, preexec_fn=few_files)
    connection = server.raw(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n")
    while connection.recv(65536):
        pass
    connection.close()
    kept = [server.raw(HEALTH) for _ in range(36)]
    for connection in kept:
        assert connection.recv(65536)
    refused = server.raw(b"")
    assert b" 503 " in refused.recv(65536)
    for connection in (*kept, refused):
        connection.close()
    deadline = time.monotonic() + 30
    while server.send("GET", "/healthz").status != 200:
        assert time.monotonic() < deadline
    lines = log.read_text().splitlines()
    for status in (431, 503):
        assert server.metric("attnrec_requests_total", route="other", status=str(status)) >= 1
        assert any('"method":"-"' in line and f'"status":{status}' in line for line in lines)

"""Large, slow and many requests: bounded, and the others are answered meanwhile."""

import json
import threading
import time

import pytest

from attnrec.runtime.serving.http_protocol import READ_SECONDS

HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def everything_from(connection) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    connection.close()
    return received


def assert_refused(received: bytes, status: int) -> dict:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received[:300]
    assert b"connection: close" in head.lower()
    assert b"content-type: application/problem+json" in head.lower()
    problem = json.loads(body)
    assert problem["status"] == status
    return problem


def test_a_declared_large_body_is_refused_before_it_is_sent(strings) -> None:
    connection = strings.raw(HEAD + b"Content-Length: 67108864\r\n\r\n{")
    assert assert_refused(everything_from(connection), 413)["limit"] == 65536


def test_a_client_that_waits_for_leave_to_send_a_large_body_does_not_get_it(strings) -> None:
    head = HEAD + b"Content-Length: 67108864\r\nExpect: 100-continue\r\n\r\n"
    assert_refused(everything_from(strings.raw(head)), 413)


def test_a_large_body_without_a_length_is_refused_at_the_limit(strings) -> None:
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"  # 16 KiB
    connection = strings.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5)
    assert assert_refused(everything_from(connection), 413)["limit"] == 65536


def test_a_body_of_exactly_the_limit_is_answered(strings) -> None:
    body = b'{"history":[]}'.ljust(65536)
    assert strings.send("POST", "/v1/recommend", body).status == 200
    strings.send("POST", "/v1/recommend", body + b" ").problem(413)


def test_slow_clients_are_sent_away_and_others_are_answered(strings) -> None:
    begun = time.monotonic()
    half_head, after_a_line = strings.raw(HEAD), strings.raw(b"\r\n")
    half_body = strings.raw(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert strings.ask({"history": []}).status == 200
    assert everything_from(half_head) == everything_from(after_a_line) == b""
    assert_refused(everything_from(half_body), 408)
    assert READ_SECONDS - 1 < time.monotonic() - begun < READ_SECONDS + 20


def test_a_body_that_drips_is_not_waited_for(strings) -> None:
    begun = time.monotonic()
    connection = strings.raw(HEAD + b"Content-Length: 1000\r\n\r\n{")
    connection.settimeout(0.5)
    received = b""
    while not received and time.monotonic() - begun < 60:
        connection.sendall(b" ")
        try:
            received = connection.recv(65536)
        except TimeoutError:
            continue
    assert received.startswith(b"HTTP/1.1 408 ")
    assert READ_SECONDS - 1 < time.monotonic() - begun < READ_SECONDS + 20
    connection.close()


def test_a_head_without_end_is_refused(strings) -> None:
    # In parts: asyncio reads up to 256 KiB at once, of which a whole head may be a part.
    connection = strings.raw(HEAD + b"X: ")
    with pytest.raises((ConnectionError, TimeoutError)):
        for _ in range(200):
            connection.sendall(b"x" * 65536)
            time.sleep(0.01)
    connection.close()
    assert strings.ask({"history": []}).status == 200


def test_what_is_not_http_is_refused_and_the_connection_closed(strings) -> None:
    both = HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    negative = HEAD + b"Content-Length: -5\r\n\r\n"
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", negative, both):
        assert everything_from(strings.raw(garbage)).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_goes_away_is_no_error(start) -> None:
    server = start("tiny-string")
    for sent in (HEAD + b"Content-Length: 100\r\n\r\n{", HEAD, b""):
        server.raw(sent).close()
    assert server.ask({"history": []}).status == 200
    assert server.stop() == (0, "")


def test_a_full_queue_refuses_at_once_while_health_is_answered(start) -> None:
    server = start("tiny-int64", "--queue", 1, "--max-body", 100_000_000)
    heavy = json.dumps([{"history": [1] * 100_000, "k": 1}] * 16).encode()  # about half a second
    replies = []

    def ask() -> None:
        replies.append(server.send("POST", "/v1/recommend", heavy))

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    alive = 0
    while any(client.is_alive() for client in clients):
        alive += server.send("GET", "/healthz").status == 200
    assert alive > 2
    refused = [reply for reply in replies if reply.status != 200]
    assert 0 < len(refused) < len(replies) == 6
    for reply in refused:
        assert reply.problem(503)["limit"] == 1
        assert int(reply.headers["retry-after"]) >= 1
    assert server.ask({"history": []}).status == 200

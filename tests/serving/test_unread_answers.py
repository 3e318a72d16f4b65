"""Clients that do not read their answers: bounded in items, in bytes and in time."""

import json
import socket
import time

import pytest

from attnrec.runtime.serving.connections import MOST_UNREAD, WRITE_SECONDS
from attnrec.runtime.serving.errors import Refused
from attnrec.runtime.serving.schemas import MOST_ANSWERED, check_size

MB = 2**20
HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_rows_and_items_are_bounded_together() -> None:
    check_size(MOST_ANSWERED)
    with pytest.raises(Refused, match="fewer rows, or a smaller k") as refused:
        check_size(MOST_ANSWERED + 1)
    assert (refused.value.status_code, refused.value.members) == (422, {"limit": MOST_ANSWERED})


def test_clients_that_do_not_read_take_little_memory_and_are_sent_away(start) -> None:
    server = start("tiny-string", "--queue", 500)
    row = {"history": [], "k": 32}
    body = json.dumps([row] * 256).encode()  # about 600 kB of answer
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    before = server.metric("process_resident_memory_bytes")
    clients = []
    for _ in range(100):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(whole * 3)
        clients.append(client)
    answered = 0.0
    deadline = time.monotonic() + WRITE_SECONDS + 60
    unread, grown = [], []
    while answered < 100 or unread[-1]:
        assert time.monotonic() < deadline
        assert server.ask({"history": []}).status == 200
        unread.append(server.metric("attnrec_unread_bytes"))
        grown.append(server.metric("process_resident_memory_bytes") - before)
        answered = sum(
            server.metric("attnrec_requests_total", route="/v1/recommend", status=status)
            for status in ("200", "503")
        ) - len(unread)
        time.sleep(0.1)
    assert MOST_UNREAD / 2 < max(unread) <= MOST_UNREAD
    assert max(grown) < 2.5 * MOST_UNREAD
    assert server.metric("attnrec_requests_total", route="/v1/recommend", status="503") > 0
    for client in clients:
        client.close()


def test_a_large_answer_that_is_read_slowly_is_whole(strings) -> None:
    body = json.dumps([{"history": [], "k": 32}] * 256).encode()
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    client = strings.raw(whole * 3 + last)
    received = b""
    while part := client.recv(50_000):
        received += part
        time.sleep(0.01)
    client.close()
    answers = received.split(b"HTTP/1.1 200 OK")[1:]
    assert len(answers) == 4 and b"alive" in answers[3]
    for answer in answers[:3]:
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])) == 256

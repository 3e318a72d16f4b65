"""Clients that break the rules of HTTP, hold connections or leave: the others do not notice."""

import json
import resource
import socket
import threading
import time

import pytest

HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
QUESTION = b'{"history": []}'
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(QUESTION) + QUESTION


def everything_from(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection, be it in good order or not."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:  # it closed while there was more of ours to read
        pass
    connection.close()
    return received


def one_answer_of(connection: socket.socket) -> tuple[int, bytes, bytes]:
    """Status, head and body of the next answer on a connection that stays open."""
    stream = connection.makefile("rb")
    head = b"".join(iter(stream.readline, b"\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(head.split()[1]), head, stream.read(length)


def assert_problem(received: bytes, status: int) -> dict:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received[:200]
    assert b"content-type: application/problem+json" in head.lower()
    problem: dict = json.loads(body)
    assert problem["status"] == status
    return problem


@pytest.mark.parametrize("part", [200_100, 65_536, 1_000], ids=lambda n: f"in parts of {n}")
def test_a_head_of_200_kb_is_refused(strings, part) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 200_000 + b"\r\n\r\n"
    connection = strings.raw(b"")
    try:
        for start in range(0, len(head), part):
            connection.sendall(head[start : start + part])
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before all of it was sent
    received = everything_from(connection)
    if received or part > len(head):  # else the system threw the refusal away with the rest
        assert assert_problem(received, 431)["limit"] == 65536
    assert strings.ask({"history": []}).status == 200


def test_many_headers_are_as_large_as_their_sum(strings) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-A: 1\r\n" * 9_000 + b"\r\n"
    assert_problem(everything_from(strings.raw(head)), 431)


def test_a_long_path_is_refused(strings) -> None:
    for size, status in ((60_000, 404), (70_000, 431)):
        line = b"GET /" + b"a" * size + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert_problem(everything_from(strings.raw(line)), status)


def test_64_mb_sent_in_spite_of_the_refusal_do_not_hold_the_server(strings) -> None:
    before = strings.metric("process_resident_memory_bytes")
    connection = strings.raw(HEAD + b"Content-Length: 67108864\r\n\r\n")
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(64):
            connection.sendall(b" " * 2**20)
            assert strings.send("GET", "/healthz").status == 200
    connection.close()
    assert strings.metric("process_resident_memory_bytes") - before < 8 * 2**20


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 15\r\n\r\n" + QUESTION,
        b"Content-Length: 15\r\nContent-Length: 16\r\n\r\n" + QUESTION,
        b"Content-Length: +15\r\n\r\n" + QUESTION,
        b"Content-Length: 0x0f\r\n\r\n" + QUESTION,
        b"Content-Length: " + b"9" * 40 + b"\r\n\r\n" + QUESTION,
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + QUESTION,
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + QUESTION,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n" + QUESTION,
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + QUESTION,
        b"X\x00Y: 1\r\n\r\n",
        b": no name\r\n\r\n",
    ],
)  # fmt: skip
def test_a_length_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed(
    strings, sent
) -> None:
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    received = everything_from(strings.raw(HEAD + sent + smuggled))
    assert received.startswith(b"HTTP/1.1 400 "), received[:200]
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"alive" not in received


def test_a_body_in_chunks_is_answered(strings) -> None:
    parts = b"".join(b"1\r\n%c\r\n" % byte for byte in QUESTION) + b"0\r\n\r\n"
    connection = strings.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + parts)
    assert one_answer_of(connection)[0] == 200
    connection.close()


def test_pipelined_requests_are_answered_in_their_order(strings) -> None:
    wrong = HEAD + b"Content-Length: 2\r\n\r\n{}"
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /no HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    received = everything_from(strings.raw((WHOLE + wrong + health) * 20 + last))
    statuses = [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 422, 200] * 20 + [404]


def test_idle_connections_do_not_keep_others_from_being_answered(start) -> None:
    server = start("tiny-string")
    half = [server.raw(HEAD) for _ in range(100)]
    idle = [server.raw(b"") for _ in range(100)]
    for connection in idle:
        connection.sendall(WHOLE)
        assert one_answer_of(connection)[0] == 200
    for _ in range(20):
        assert server.ask({"history": []}).status == 200
    assert server.metric("process_open_fds") > 200
    for connection in half + idle:
        connection.close()
    assert server.stop() == (0, "")


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


def test_more_connections_than_allowed_are_refused_and_the_others_kept(start) -> None:
    server = start("tiny-string", preexec_fn=few_files)
    kept = [server.raw(b"") for _ in range(30)]
    for connection in kept:
        connection.sendall(WHOLE)
        assert one_answer_of(connection)[0] == 200
    more = [server.raw(b"") for _ in range(200)]
    received = everything_from(more[100])
    problem = assert_problem(received, 503)
    assert "connections" in problem["detail"]
    assert b"retry-after: 1\r\n" in received.lower()
    for connection in kept:  # they still are in use, be there ever so many others
        connection.sendall(WHOLE)
        assert one_answer_of(connection)[0] == 200
    for connection in kept + more:
        connection.close()
    deadline = time.monotonic() + 30
    while server.ask({"history": []}).status != 200:  # the system still says who is gone
        assert time.monotonic() < deadline
    code, errors = server.stop()
    assert (code, errors) == (0, "")


def test_http_1_0_is_answered_and_the_connection_closed(strings) -> None:
    received = everything_from(strings.raw(b"GET /healthz HTTP/1.0\r\n\r\n"))
    assert received.startswith(b"HTTP/1.1 200 ") and b'"alive"' in received
    head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
    received = everything_from(strings.raw(head + b"Content-Length: 15\r\n\r\n" + QUESTION))
    assert received.startswith(b"HTTP/1.1 200 ") and b'"items"' in received


def test_head_is_get_without_the_body(strings) -> None:
    for path in ("/", "/healthz", "/readyz", "/metrics", "/v1/model", "/openapi.json"):
        asked = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        received = everything_from(strings.raw(asked))
        assert received.startswith(b"HTTP/1.1 200 ") and received.endswith(b"\r\n\r\n"), path
        assert received.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "DELETE", "PATCH", "BREW"])
def test_other_methods_are_refused(strings, method) -> None:
    for path in ("/healthz", "/v1/recommend", "/v1/items", "/nowhere"):
        sent = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        received = everything_from(strings.raw(sent))
        assert received.split()[1] in (b"400", b"404", b"405"), (method, path, received)
        assert b"secret" not in received


def test_no_other_origin_is_ever_allowed(strings) -> None:
    origin = {"Origin": "https://evil.example", "Content-Type": "application/json"}
    preflight = origin | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    paths = ("/", "/healthz", "/metrics", "/v1/recommend", "/v1/items", "/v2", "/no")
    for path in paths:
        for method, headers in (("GET", origin), ("POST", origin), ("OPTIONS", preflight)):
            reply = strings.send(method, path, QUESTION if method == "POST" else None, headers)
            assert not [name for name in reply.headers if name.startswith("access-control")]
            assert method != "OPTIONS" or reply.status in (404, 405)


@pytest.mark.parametrize(
    "host", ["evil.example", "a:b:c", "x" * 5000, "127.0.0.1@evil.example", "<script>", ""]
)
def test_the_host_that_a_client_names_comes_back_nowhere(strings, host) -> None:
    for path in ("/", "/healthz/", "/v1/recommend/", "//evil.example", "/openapi.json"):
        sent = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        received = everything_from(strings.raw(sent))
        assert received.split()[1] in (b"200", b"404", b"421"), (path, received[:200])
        assert b"evil" not in received and b"location:" not in received.lower()


def test_a_client_that_leaves_while_it_waits_is_not_computed(start, tmp_path) -> None:
    log = tmp_path / "log"
    options = ("--max-body", 100_000_000, "--access-log", log)
    server = start("tiny-int64", *options)
    heavy = json.dumps([{"history": [1] * 100_000, "k": 1}] * 24).encode()
    first = threading.Thread(target=server.send, args=("POST", "/v1/recommend", heavy))
    first.start()
    while server.metric("attnrec_requests_waiting") < 1:
        time.sleep(0.005)
    gone = [server.raw(WHOLE) for _ in range(5)]
    while first.is_alive() and server.metric("attnrec_requests_waiting") < 6:
        time.sleep(0.005)
    assert first.is_alive(), "the heavy request was over before the others waited"
    for connection in gone:
        connection.close()
    first.join()
    deadline = time.monotonic() + 30
    while server.metric("attnrec_requests_waiting") and time.monotonic() < deadline:
        time.sleep(0.01)
    statuses = [json.loads(line)["status"] for line in log.read_text().splitlines()]
    assert statuses.count(499) == 5
    assert server.metric("attnrec_requests_total", route="/v1/recommend", status="499") == 5
    assert server.stop() == (0, "")

"""Clients that break the rules of HTTP or send too much: refused, and the others do not notice."""

import json
import resource
import shutil
import socket
import subprocess
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LINE = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = b'{"history": ["sku-1"], "k": 2}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
WHOLE = LINE + LENGTH + b"\r\n" + BODY
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
LAST = GET + b"Connection: close\r\n\r\n"
LARGE = 67_108_864


def one_answer_of(connection: socket.socket) -> int:
    """Status of the next answer on a connection that stays open."""
    stream = connection.makefile("rb")
    head = b"".join(iter(stream.readline, b"\r\n")).lower()
    stream.read(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
    return int(head.split()[1])


def assert_problem(received: bytes, status: int) -> dict:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received[:200]
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    problem: dict = json.loads(body)
    assert problem["status"] == status
    return problem


CHUNK = b"4000\r\n" + b" " * 0x4000 + b"\r\n"  # 16 KiB


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: %d\r\n\r\n{" % LARGE,
        b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % LARGE,
        b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 5,
    ],
    ids=["declared", "waits for leave", "without a length"],
)
def test_a_large_body_is_refused_before_it_is_sent_or_at_the_limit(server, sent) -> None:
    assert assert_problem(server.everything(LINE + sent), 413)["limit"] == 65536


def test_64_mb_sent_in_spite_of_the_refusal_do_not_hold_the_server(server) -> None:
    before = server.memory()
    connection = server.raw(LINE + b"Content-Length: %d\r\n\r\n" % LARGE)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(64):
            connection.sendall(b" " * 2**20)
            assert server.get("/healthz").status == 200
    connection.close()
    assert server.memory() - before < 8 * 2**20


@pytest.mark.parametrize("part", [200_100, 65_536, 1_000], ids=lambda n: f"in parts of {n}")
def test_a_head_of_200_kb_is_refused(server, part) -> None:
    head = GET + b"X-Large: " + b"x" * 200_000 + b"\r\n\r\n"
    connection = server.raw(b"")
    try:
        for start in range(0, len(head), part):
            connection.sendall(head[start : start + part])
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before all of it was sent
    received = server.everything(connection)
    if received or part > len(head):  # else the system threw the refusal away with the rest
        assert assert_problem(received, 431)["limit"] == 65536


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", 404),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", 431),
        (LAST[:-2] + b"a:\r\n" * 200, 200),
        (LAST[:-2] + b"a:\r\n" * 300, 431),
        (GET + b"X-A: 1\r\n" * 9_000, 431),
        (GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\nX: " + b"x" * 70_000 + b"\r\n", 431),
    ],
    ids=["path", "long path", "headers", "many headers", "their sum", "an offer"],
)
def test_path_and_headers_are_bounded_in_size_and_number(server, head, status) -> None:
    assert server.statuses(head + b"\r\n") == [status]


def test_a_head_without_end_is_refused(server) -> None:
    # In parts: asyncio reads up to 256 KiB at once, of which a whole head may be a part.
    connection = server.raw(LINE + b"X: ")
    with pytest.raises((ConnectionError, TimeoutError)):
        for _ in range(200):
            connection.sendall(b"x" * 65536)
            time.sleep(0.01)
    connection.close()
    assert server.post({"history": []}).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\n\r\n",
        LINE + b"Content-Length: -5\r\n\r\n",
        LINE + b"Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n" + BODY,
        LINE + b"Content-Length: 30\r\nContent-Length: 31\r\n\r\n" + BODY,
        LINE + b"Content-Length: +30\r\n\r\n" + BODY,
        LINE + b"Content-Length: 0x1e\r\n\r\n" + BODY,
        LINE + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n" + BODY,
        LINE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY,
        LINE + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + BODY,
        LINE + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n" + BODY,
        LINE + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + BODY,
        LINE + b"X\x00Y: 1\r\n\r\n",
        LINE + b": no name\r\n\r\n",
    ],
    ids=range(17),
)
def test_what_is_not_http_or_can_be_read_in_two_ways_is_refused_and_the_connection_closed(
    server, sent
) -> None:
    assert server.statuses(sent + GET + b"\r\n") == [400]


def test_a_body_in_chunks_is_answered(server) -> None:
    parts = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    sent = LINE + b"Transfer-Encoding: chunked\r\n\r\n" + parts
    assert server.statuses(sent + LAST) == [200, 200]


def test_http_1_0_is_answered_and_the_connection_closed(server) -> None:
    assert server.statuses(GET.replace(b"1.1", b"1.0") + b"\r\n") == [200]
    assert server.statuses(WHOLE.replace(b"1.1", b"1.0")) == [200]


def test_head_is_get_without_the_body_while_the_connection_stays_open(server) -> None:
    paths = ("/", "/healthz", "/readyz", "/metrics", "/v1/model", "/openapi.json")
    sent = b"".join(b"HEAD %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() for path in paths)
    received = server.everything(sent + LAST)
    answers = received.split(b"HTTP/1.1 200 OK")[1:]
    assert len(answers) == len(paths) + 1
    assert all(answer.endswith(b"\r\n\r\n") for answer in answers[:-1])
    client = server.client()
    for path in (*paths, "/v1/recommend", "/no"):
        client.request("HEAD", path)
        assert client.getresponse().read() == b""
        client.sock.getpeername()  # still connected
    client.close()


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "DELETE", "PATCH", "BREW"])
def test_other_methods_are_refused(server, method) -> None:
    for path in ("/healthz", "/v1/recommend", "/v1/items", "/nowhere"):
        sent = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        assert server.statuses(sent)[0] in (400, 404, 405), (method, path)


def test_no_other_origin_is_ever_allowed(strings) -> None:
    origin = {"Origin": "https://evil.example", "Content-Type": "application/json"}
    preflight = origin | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    for path in ("/", "/healthz", "/metrics", "/v1/recommend", "/v1/items", "/v2", "/no"):
        for method, headers in (("GET", origin), ("POST", origin), ("OPTIONS", preflight)):
            reply = strings.send(method, path, BODY if method == "POST" else None, headers)
            assert not [n for n in reply.headers if n.lower().startswith("access-control")]
            assert method != "OPTIONS" or reply.status in (404, 405)


@pytest.mark.parametrize(
    "host", ["evil.example", "a:b:c", "x" * 5000, "127.0.0.1@evil.example", "<script>", ""]
)
def test_the_host_that_a_client_names_comes_back_nowhere(server, host) -> None:
    for path in ("/", "/healthz/", "/v1/recommend/", "//evil.example", "/openapi.json"):
        sent = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        received = server.everything(sent)
        assert received.split()[1] in (b"200", b"404", b"421"), (path, received[:200])
        assert b"evil" not in received and b"location:" not in received.lower()


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
WEBSOCKET = (
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("cut", [0, 1, 60, 300, 340])
def test_an_offer_of_another_protocol_is_passed_over_and_the_body_is_read(
    server, offer, cut
) -> None:
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    with_length, with_chunks = LINE + offer + LENGTH + b"\r\n" + BODY, LINE + offer + chunks
    sent = with_length + with_chunks + GET + offer + b"\r\n" + WHOLE + LAST
    connection = server.raw(sent[:cut])
    for start in range(cut, len(sent), cut or len(sent)):
        connection.sendall(sent[start : start + (cut or len(sent))])
    assert server.statuses(connection) == [200] * 5


def test_a_body_behind_an_offer_is_no_request_of_its_own(server) -> None:
    body = b"GET /v1/model HTTP/1.1\r\nHost: x\r\n\r\n"
    sent = LINE + H2C + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert server.statuses(sent + LAST) == [400, 200]


def test_many_offers_in_one_piece_are_answered_one_by_one(server) -> None:
    assert server.statuses((GET + H2C + b"\r\n") * 2000 + LAST) == [200] * 2001


def test_curl_with_http_2_is_answered(server) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    url = f"http://127.0.0.1:{server.port}/v1/recommend"
    command = ["curl", "-s", "--http2", "-H", "Content-Type: application/json", "-d", BODY, url]
    result = subprocess.run(command, capture_output=True, timeout=60)
    assert len(json.loads(result.stdout)["items"]) == 2


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


def test_more_connections_than_allowed_are_refused_and_the_others_kept(start, tmp_path) -> None:
    log = tmp_path / "log"
    server = start("tiny-string", "--access-log", log, preexec_fn=few_files)  # 36 connections
    assert server.statuses(GET + b"X: " + b"x" * 70_000 + b"\r\n\r\n") == [431]
    kept = [server.raw(b"") for _ in range(30)]
    for connection in kept:
        connection.sendall(WHOLE)
        assert one_answer_of(connection) == 200
    more = [server.raw(b"") for _ in range(200)]
    received = server.everything(more[100])
    assert "connections" in assert_problem(received, 503)["detail"]
    assert b"retry-after: 1\r\n" in received.lower()
    for connection in kept:  # they still are in use, however many others there are
        connection.sendall(WHOLE)
        assert one_answer_of(connection) == 200
    for connection in kept + more:
        connection.close()
    deadline = time.monotonic() + 30
    while server.post({"history": []}).status != 200:  # the system has yet to report who is gone
        assert time.monotonic() < deadline
    lines = log.read_text().splitlines()
    for status in (431, 503):  # refused before a request was read, but counted and logged
        assert server.metric("attnrec_requests_total", route="other", status=str(status)) >= 1
        assert any('"method":"-"' in line and f'"status":{status}' in line for line in lines)
    assert server.stop() == (0, "")


def test_idle_connections_and_clients_that_leave_keep_no_others_from_being_answered(start) -> None:
    server = start("tiny-string")
    for sent in (LINE + b"Content-Length: 100\r\n\r\n{", LINE, b""):
        server.raw(sent).close()
    half = [server.raw(LINE) for _ in range(100)]
    idle = [server.raw(b"") for _ in range(100)]
    for connection in idle:
        connection.sendall(WHOLE)
        assert one_answer_of(connection) == 200
    for _ in range(20):
        assert server.post({"history": []}).status == 200
    assert server.metric("process_open_fds") > 200
    for connection in half + idle:
        connection.close()
    assert server.stop() == (0, "")


ALLOWED = {100, 200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 431, 503}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    head=st.binary(max_size=200)
    | st.tuples(
        st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT"]),
        st.sampled_from([b"/", b"/v1/recommend", b"/v1/items?q=", b"/v2/models/"]),
        st.binary(max_size=40),
        st.binary(max_size=60),
    ).map(lambda part: b"%s %s%s HTTP/1.1\r\nHost: x\r\n%s\r\n" % part)
)
def test_any_bytes_on_a_connection_are_answered_or_it_is_closed(server, head) -> None:
    connection = server.raw(head + b"\r\n\r\nGET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    connection.settimeout(20)  # on the slowest of machines
    assert set(server.statuses(connection)) <= ALLOWED, head

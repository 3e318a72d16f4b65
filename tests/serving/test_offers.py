"""HEAD, OPTIONS, and offers of other protocols get a right answer, at once and whole."""

import http.client
import json
import shutil
import subprocess

import pytest

BODY = b'{"history": ["sku-1"], "k": 2}'
LINE = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
WEBSOCKET = (
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def statuses_on(connection) -> list[int]:
    """Of all answers until the server closes."""
    received = b""
    while part := connection.recv(65536):
        received += part
    connection.close()
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def test_head_is_answered_while_the_connection_stays_open(strings) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", strings.port, timeout=30)  # below 75
    for path in ("/healthz", "/v1/model", "/", "/v1/recommend", "/no"):
        connection.request("HEAD", path)
        response = connection.getresponse()
        assert response.read() == b""
        connection.sock.getpeername()  # still connected
    connection.close()
    head = b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert statuses_on(strings.raw(head * 3 + LAST)) == [200] * 4


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("cut", [0, 1, 60, 300, 340])
def test_an_offer_is_passed_over_and_the_body_is_read(strings, offer, cut) -> None:
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    get = b"GET /v1/model HTTP/1.1\r\nHost: x\r\n" + offer + b"\r\n"
    sent = b"".join(
        (LINE + offer + LENGTH + b"\r\n" + BODY, LINE + offer + chunks, get, LINE + LENGTH)
    )
    sent += b"\r\n" + BODY + LAST
    connection = strings.raw(sent[:cut])
    for start in range(cut, len(sent), cut or len(sent)):
        connection.sendall(sent[start : start + (cut or len(sent))])
    assert statuses_on(connection) == [200] * 5


def test_a_body_behind_an_offer_is_no_request_of_its_own(strings) -> None:
    body = b"GET /v1/model HTTP/1.1\r\nHost: x\r\n\r\n"
    sent = LINE + H2C + b"Content-Length: %d\r\n\r\n" % len(body) + body
    connection = strings.raw(sent + LAST)
    assert statuses_on(connection) == [400, 200]


def test_many_offers_in_one_piece_are_answered_one_by_one(strings) -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + H2C + b"\r\n"
    assert statuses_on(strings.raw(get * 2000 + LAST)) == [200] * 2001


def test_a_large_head_with_an_offer_is_refused(strings) -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + H2C + b"X: " + b"x" * 70_000 + b"\r\n\r\n"
    assert statuses_on(strings.raw(get)) == [431]


def test_many_small_headers_are_refused(strings) -> None:
    for n, status in ((200, 200), (300, 431)):
        head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"a:\r\n" * n
        assert statuses_on(strings.raw(head + b"\r\n")) == [status]


@pytest.mark.parametrize(
    "sent", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT a:80 HTTP/1.1\r\n\r\n"]
)
def test_what_cannot_be_passed_over_is_refused(strings, sent) -> None:
    assert statuses_on(strings.raw(sent)) == [400]


def test_options_says_which_methods_there_are(strings) -> None:
    for path, allow in (("/v1/recommend", {"POST"}), ("/v1/model", {"GET", "HEAD"})):
        reply = strings.send("OPTIONS", path)
        reply.problem(405)
        assert set(reply.headers["allow"].split(", ")) == allow


def test_curl_with_http_2_is_answered(strings) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    url = f"http://127.0.0.1:{strings.port}/v1/recommend"
    command = ["curl", "-s", "--http2", "-H", "Content-Type: application/json", "-d", BODY, url]
    result = subprocess.run(command, capture_output=True, timeout=60)
    assert len(json.loads(result.stdout)["items"]) == 2

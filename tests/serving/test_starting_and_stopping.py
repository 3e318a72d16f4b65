"""The process: where it listens, what it refuses to start with, how it stops."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("attnrec-serve"))
HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture
def refused(data):
    """Assert that the command ends at once with these words."""

    def check(*arguments: object, words: tuple[str, ...]) -> None:
        result = subprocess.run(
            [COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 2, arguments
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        for word in words:
            assert word in result.stderr, (arguments, result.stderr)

    return check


def test_a_file_that_cannot_be_served_is_named(refused, data, tmp_path) -> None:
    altered = tmp_path / "altered.onnx"
    content = bytearray((data / "tiny-string.onnx").read_bytes())
    content[1000] ^= 1
    altered.write_bytes(content)
    refused(altered, words=("altered.onnx", "sha256"))
    refused(tmp_path / "none.onnx", words=("none.onnx", "attnrec-export"))


def test_only_this_machine_is_served_unless_told_otherwise(refused, start, data) -> None:
    for host in ("0.0.0.0", "::"):
        words = (f"{host}:0", "authentication", "--insecure")
        refused(data / "tiny-string.onnx", "--host", host, "--port", 0, words=words)
    server = start("tiny-string", "--host", "0.0.0.0", "--insecure")
    assert server.ask({"history": []}).status == 200


def test_an_address_that_cannot_be_had_is_named(refused, strings, data) -> None:
    file = data / "tiny-string.onnx"
    refused(file, "--port", strings.port, words=(f"127.0.0.1:{strings.port}", "in use", "--port"))
    # 192.0.2.0/24 is for documentation: no machine has such an address.
    elsewhere = ("--host", "192.0.2.1", "--insecure")
    refused(file, *elsewhere, words=("192.0.2.1:8000", "assign", "--host"))
    refused(file, "--port", 99999, words=("--port", "65535"))


def test_a_file_that_fails_its_self_test_is_never_ready_and_says_why(
    start, failing_its_self_test, tmp_path
) -> None:
    (tmp_path / "wrong.onnx").write_bytes(failing_its_self_test)
    server = start(tmp_path / "wrong.onnx")
    assert server.send("GET", "/healthz").status == 200
    for _ in range(2):
        assert "golden vector 1" in server.send("GET", "/readyz").problem(503)["detail"]
    assert "golden vector 1" in server.ask({"history": []}).problem(503)["detail"]
    code, errors = server.stop()
    assert code == 0
    assert "golden vector 1" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_answered_before_the_end(start, number) -> None:
    server = start("tiny-int64", "--queue", 0, "--max-body", 100_000_000)
    heavy = json.dumps([{"history": [1] * 100_000, "k": 1}] * 16).encode()
    replies = []

    def ask() -> None:
        while (reply := server.send("POST", "/v1/recommend", heavy)).status == 503:
            pass  # one of the small ones below had the only place
        replies.append(reply)

    client = threading.Thread(target=ask)
    client.start()
    while server.ask({"history": []}).status != 503:  # until the heavy one has the place
        assert not replies, "the heavy request was over before it was seen"
        time.sleep(0.05)
    server.process.send_signal(number)
    code, errors = server.process.wait(30), server.process.stderr.read()
    client.join()
    assert (replies[0].status, len(replies[0].json)) == (200, 16)
    assert (code, errors) == (0, "")
    with pytest.raises(ConnectionRefusedError):
        server.raw(b"")


def test_stalled_clients_do_not_hold_the_end_beyond_the_grace_time(start) -> None:
    server = start("tiny-string", "--grace", 1)
    idle = server.client()
    idle.request("GET", "/healthz")
    assert idle.getresponse().read()
    half_head = server.raw(HEAD)
    half_body = server.raw(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert server.ask({"history": []}).status == 200
    begun = time.monotonic()
    code, _ = server.stop()
    assert code == 0
    assert time.monotonic() - begun < 4  # less than the time in which a body has to arrive
    assert b" 503 " in half_body.recv(1000)
    half_head.close()
    half_body.close()
    idle.close()


def test_a_long_computation_does_not_hold_the_end_beyond_the_grace_time(start) -> None:
    server = start("tiny-int64", "--queue", 0, "--max-body", 100_000_000, "--grace", 0)
    heavy = json.dumps([{"history": [1] * 100_000, "k": 1}] * 120).encode()
    begun = time.monotonic()
    assert server.send("POST", "/v1/recommend", heavy).status == 200
    whole = time.monotonic() - begun
    cut_off = []

    def ask() -> None:
        while "stops" not in str((reply := server.send("POST", "/v1/recommend", heavy)).body):
            pass
        cut_off.append(reply.status)

    client = threading.Thread(target=ask)
    client.start()
    while server.ask({"history": []}).status != 503:  # until the heavy one has the place
        assert client.is_alive()
        time.sleep(0.05)
    begun = time.monotonic()
    code, errors = server.stop()
    assert time.monotonic() - begun < whole / 2
    client.join()
    assert (code, cut_off) == (0, [503])
    assert "Traceback" not in errors


@pytest.mark.parametrize("options", [(), ("--verbose",)])
def test_requests_leave_no_trace_in_the_output(start, options) -> None:
    server = start("tiny-string", *options)
    for question in ({"history": ["sku-1", "secret-id"]}, {"history": ["secret-id", 5]}):
        server.ask(question)
    server.send("GET", "/secret-path")
    server.raw(b"garbage secret-id\r\n\r\n").close()
    server.process.terminate()
    out, errors = server.process.communicate(timeout=30)
    assert out == ""
    assert "secret" not in errors if options else errors == ""


def test_a_server_on_ipv6_loopback_prints_its_address(data) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    process = subprocess.Popen(
        [COMMAND, str(data / "tiny-string.onnx"), "--host", "::1", "--port", "0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    line = process.stderr.readline()
    process.terminate()
    process.communicate(timeout=30)
    assert "http://[::1]:" in line
    assert process.returncode == 0

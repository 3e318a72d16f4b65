"""The process: where it listens, what it refuses to start with, what it touches, how it stops."""

import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("attnrec-serve"))
JSON = {"Content-Type": "application/json"}
HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HEAVY = [{"history": [1] * 100_000, "k": 1}] * 16  # about half a second
UNIT = Path(__file__).parents[2] / "docs" / "attnrec-serve.service"


def test_a_file_that_cannot_be_served_is_named(refused, data, tmp_path) -> None:
    altered, missing = tmp_path / "altered.onnx", tmp_path / "none.onnx"
    content = bytearray((data / "tiny-string.onnx").read_bytes())
    content[1000] ^= 1
    altered.write_bytes(content)
    for file, word in ((altered, "sha256"), (missing, "attnrec-export")):
        message = refused(file=file)
        assert file.name in message and word in message


def test_an_address_that_cannot_be_had_is_named(refused, server) -> None:
    message = refused("--port", server.port)
    assert all(w in message for w in (f"127.0.0.1:{server.port}", "in use", "--port"))
    # 192.0.2.0/24 is for documentation: no machine has such an address.
    message = refused("--host", "192.0.2.1", "--insecure")
    assert all(w in message for w in ("192.0.2.1:0", "assign", "--host"))
    message = refused("--port", 99999)
    assert "--port" in message and "65535" in message


def test_a_server_on_ipv6_loopback_prints_its_address(data) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    command = [COMMAND, str(data / "tiny-string.onnx"), "--host", "::1", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    process.terminate()
    process.communicate(timeout=30)
    assert "http://[::1]:" in line
    assert process.returncode == 0


def in_flight(server, body) -> tuple[threading.Thread, list]:
    """A heavy request that has the only place of a server, and where its reply will be."""
    replies: list = []

    def send() -> None:
        while (reply := server.post(body)).status == 503 and b"stops" not in reply.body:
            pass  # one of the small ones below had the only place
        replies.append(reply)

    client = threading.Thread(target=send)
    client.start()
    while server.post({"history": []}).status != 503:
        assert not replies, "the heavy request was over before it was seen"
        time.sleep(0.02)
    return client, replies


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_answered_before_the_end(start, number) -> None:
    server = start("tiny-int64", "--queue", 0, "--max-body", 100_000_000)
    client, replies = in_flight(server, HEAVY)
    server.process.send_signal(number)
    code, errors = server.process.wait(30), server.process.stderr.read()
    client.join()
    assert (replies[0].status, len(replies[0].json)) == (200, 16)
    assert (code, errors) == (0, "")
    with pytest.raises(ConnectionRefusedError):
        server.raw(b"")


def test_a_long_computation_does_not_hold_the_end_beyond_the_grace_time(start) -> None:
    server = start("tiny-int64", "--queue", 0, "--max-body", 100_000_000, "--grace", 0)
    begun = time.monotonic()
    assert server.post(HEAVY * 4).status == 200
    whole = time.monotonic() - begun
    client, replies = in_flight(server, HEAVY * 4)
    begun = time.monotonic()
    code, errors = server.stop()
    assert time.monotonic() - begun < whole / 2
    client.join()
    assert (code, replies[0].status) == (0, 503)
    assert "Traceback" not in errors


def test_stalled_clients_do_not_hold_the_end_beyond_the_grace_time(start) -> None:
    server = start("tiny-string", "--grace", 1)
    idle = server.client()
    idle.request("GET", "/healthz")
    assert idle.getresponse().read()
    half_head = server.raw(HEAD)
    half_body = server.raw(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert server.post({"history": []}).status == 200
    begun = time.monotonic()
    assert server.stop()[0] == 0
    assert time.monotonic() - begun < 4  # less than the time in which a body has to arrive
    assert b" 503 " in half_body.recv(1000)
    for connection in (half_head, half_body, idle):
        connection.close()


# No byte of an answer. A broken pipe: closed between the head and the body, which are two writes.
NOT_TAKEN = (
    BrokenPipeError,
    ConnectionRefusedError,
    ConnectionResetError,
    http.client.RemoteDisconnected,
)


def test_twenty_clients_sending_in_loops_lose_nothing_at_the_end(start) -> None:
    server = start("tiny-string", "--queue", 100)
    body = json.dumps({"history": ["sku-1"], "k": 5}).encode()
    faults, answered, begun = [], [], threading.Barrier(21)

    def send() -> None:
        begun.wait()
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            try:
                connection.connect()
                connection.request("POST", "/v1/recommend", body, JSON)
                response = connection.getresponse()
                content = json.loads(response.read())  # IncompleteRead if it was cut
                if response.status == 200 and len(content["items"]) == 5:
                    answered.append(1)
                elif response.status != 503:
                    faults.append((response.status, content))
            except NOT_TAKEN:
                return
            except Exception as error:
                faults.append(error)
                return
            finally:
                connection.close()

    clients = [threading.Thread(target=send) for _ in range(20)]
    for client in clients:
        client.start()
    begun.wait()
    while len(answered) < 100:
        assert not faults
        time.sleep(0.01)
    code, errors = server.stop()
    for client in clients:
        client.join(60)
    assert not any(client.is_alive() for client in clients)
    assert (faults, code, errors) == ([], 0, "")


@pytest.mark.parametrize("options", [(), ("--verbose",)])
def test_requests_leave_no_trace_in_the_output(start, options) -> None:
    server = start("tiny-string", *options)
    for row in ({"history": ["sku-1", "secret-id"]}, {"history": ["secret-id", 5]}):
        server.post(row)
    server.get("/secret-path")
    server.raw(b"garbage secret-id\r\n\r\n").close()
    server.process.terminate()
    out, errors = server.process.communicate(timeout=30)
    assert out == ""
    assert "secret" not in errors if options else errors == ""


# Runs the command with every such event written to standard output.
AUDITED = """
import os, sys
def note(event, arguments):
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (
        os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    if writes or event in EVENTS:
        os.write(1, ascii((event, arguments[:2])).encode() + b"\\n")
EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.rename",
    "os.remove", "os.mkdir", "socket.bind"}
sys.argv = sys.argv[1:]
sys.addaudithook(note)
from attnrec.cli.main import serve
serve()
"""


def test_it_connects_to_nothing_and_writes_nothing(start) -> None:
    server = start("tiny-string", prefix=[sys.executable, "-B", "-c", AUDITED])
    for path in ("/", "/healthz", "/readyz", "/metrics", "/v1/model", "/openapi.json"):
        assert server.get(path).status == 200
    for path, body in (
        ("recommend", {"history": ["sku-1"]}),
        ("score", {"history": [], "items": ["sku-1"]}),
        ("similar", {"item": "sku-1"}),
        ("explain", {"history": ["sku-1"], "item": "sku-2"}),
    ):
        assert server.post(body, f"/v1/{path}").status == 200
    assert server.reload() == (1, 0)
    server.process.terminate()
    out, errors = server.process.communicate(timeout=30)
    events = out.splitlines()
    assert any("socket.bind" in event for event in events)  # the hook was there
    assert [e for e in events if "socket.bind" not in e and "127.0.0.1" not in e] == []
    assert not [event for event in events if "socket.connect" in event]
    assert server.process.returncode == 0, errors


def test_without_any_network_but_loopback_it_starts_answers_and_stops(start) -> None:
    inside = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        allowed = subprocess.run([*inside, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("network namespaces are not permitted here")
    server = start("tiny-string", prefix=inside)
    url = f"http://127.0.0.1:{server.port}/readyz"
    program = f"import urllib.request as u; print(u.urlopen({url!r}).read().decode())"
    command = ["nsenter", "-t", str(server.process.pid), "-U", "-n", "--preserve-credentials"]
    command += ["python3", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert '"ready"' in result.stdout, result.stderr
    assert server.stop() == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_user_nobody_can_run_it_on_a_read_only_system_without_a_home(start, data) -> None:
    inside = [
        "unshare", "-m", "sh", "-c",
        'mount -o remount,ro,bind / && exec "$@"', "sh",
        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
    ]  # fmt: skip
    if not shutil.which("setpriv") or not shutil.which("unshare"):
        pytest.skip("setpriv and unshare are not here: apt-get install util-linux")
    # The user nobody needs the command, with all that it imports, and the model file.
    needed = [[COMMAND, "--version"], ["test", "-r", data / "tiny-string.onnx"]]
    probes = [subprocess.run([*inside, *words], cwd="/", capture_output=True) for words in needed]
    if any(probe.returncode for probe in probes):
        pytest.skip(
            "this system does not permit it, or nobody may not read this checkout: "
            "put it where everybody may read"
        )
    server = start("tiny-string", prefix=inside, cwd="/", env={"PATH": os.environ["PATH"]})
    assert os.stat(f"/proc/{server.process.pid}").st_uid == 65534
    assert server.post({"history": ["sku-1"]}).status == 200
    assert server.reload() == (1, 0)
    code, errors = server.stop()
    assert code == 0 and "Traceback" not in errors


def unit_settings() -> dict[str, str]:
    """Of the systemd unit that operators copy."""
    lines = [line for line in UNIT.read_text().splitlines() if line[:1].isalpha()]
    return dict(line.split("=", 1) for line in lines)


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: apt-get install systemd")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/attnrec/bin/attnrec-serve", COMMAND))
    command = ["systemd-analyze", "verify", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_the_command_line_of_the_unit_is_one_that_the_server_takes(start) -> None:
    command, file, *options = unit_settings()["ExecStart"].split()
    assert command.endswith("/attnrec-serve") and file.endswith(".onnx")
    at = options.index("--port")
    server = start("tiny-string", *options[:at], *options[at + 2 :])
    assert server.post({"history": []}).status == 200
    grace = int(options[options.index("--grace") + 1])
    assert int(unit_settings()["TimeoutStopSec"]) > grace


def test_the_server_needs_no_memory_that_is_written_and_executed(start) -> None:
    no_new_privileges, mdwe = 38, 65

    def restrict() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(no_new_privileges, 1, 0, 0, 0)
        if libc.prctl(mdwe, 1, 0, 0, 0):
            raise OSError("no PR_SET_MDWE")

    probe = f"import ctypes; exit(ctypes.CDLL(None).prctl({mdwe}, 1, 0, 0, 0) != 0)"
    if subprocess.run([sys.executable, "-c", probe]).returncode:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    server = start("tiny-int8", preexec_fn=restrict)
    assert server.post({"history": []}).status == 200
    assert server.get("/readyz").status == 200

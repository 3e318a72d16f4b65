"""Who may ask: this machine, those who have the token, or anybody if the operator says so."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from attnrec.runtime.serving import authorization
from attnrec.runtime.serving.authorization import token_of

COMMAND = str(Path(sys.executable).with_name("attnrec-serve"))
TOKEN = "tok-5e9c1f-0123456789abcdef"
OPEN = ["/", "/healthz", "/readyz"]
GUARDED = [
    ("GET", "/v1/model"), ("GET", "/v1/items?q=a"), ("GET", "/metrics"), ("GET", "/openapi.json"),
    ("GET", "/v2"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/attnrec"), ("GET", "/v2/models/attnrec/ready"),
    ("POST", "/v1/recommend"), ("POST", "/v1/score"), ("POST", "/v1/similar"),
    ("POST", "/v1/explain"), ("POST", "/v2/models/attnrec/infer"), ("POST", "/v1/reload"),
    ("GET", "/nowhere"), ("OPTIONS", "/v1/recommend"), ("GET", "//"),
    ("GET", "/healthz/../metrics"), ("GET", "/healthz/"), ("GET", "/%2e/healthz"),
]  # fmt: skip


def token_file(directory: Path, content: bytes = TOKEN.encode(), mode: int = 0o600) -> Path:
    path = directory / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.fixture(scope="module")
def guarded(start, tmp_path_factory):
    return start("tiny-string", "--token-file", token_file(tmp_path_factory.mktemp("token")))


@pytest.mark.parametrize(
    "shown",
    [
        None, "", "Bearer", "Bearer ", "Bearer wrong-token-0123456789", f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}", f"bearer  {TOKEN}", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN},",
        f"Bearer {TOKEN.upper()}", "Bearer " + "é" * 20, "Bearer " + "x" * 5000,
    ],
    ids=range(14),
)  # fmt: skip
def test_without_the_token_nothing_of_the_file_is_told(guarded, shown) -> None:
    headers = {"Content-Type": "application/json"}
    if shown is not None:
        headers["Authorization"] = shown.encode("latin-1")
    for method, path in GUARDED:
        reply = guarded.send(method, path, {"history": []} if method == "POST" else None, headers)
        assert reply.status == 401, (method, path)
        assert reply.headers["www-authenticate"] == "Bearer"
        assert b"sku" not in reply.body and TOKEN.encode() not in reply.body
        if not path.startswith("/v2"):
            assert "Authorization: Bearer" in reply.problem(401)["detail"]
    for path in OPEN:
        reply = guarded.send("GET", path, None, headers)
        assert reply.status == 200
        assert b"sku" not in reply.body


def test_with_the_token_everything_is_answered(guarded) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    for method, path in GUARDED:
        reply = guarded.send(method, path, {"history": []} if method == "POST" else None, headers)
        assert reply.status != 401 and TOKEN.encode() not in reply.body, path
    assert guarded.send("POST", "/v1/recommend", {"history": []}, headers).status == 200
    for path in OPEN:
        assert guarded.send("GET", path, None, headers).status == 200


def test_two_tokens_in_one_request_are_the_last_one(guarded) -> None:
    line = "GET /v1/model HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    right, wrong = (f"Authorization: Bearer {token}\r\n" for token in (TOKEN, "x" * 20))
    connection = guarded.raw((line + right + wrong + "\r\n").encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
    connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("has_token", [False, True], ids=["no token", "token"])
@pytest.mark.parametrize("insecure", [False, True], ids=["", "insecure"])
def test_where_others_may_ask_there_is_a_token_or_a_decision(
    start, data, tmp_path, host, has_token, insecure
) -> None:
    options = ["--host", host]
    options += ["--token-file", str(token_file(tmp_path))] if has_token else []
    options += ["--insecure"] if insecure else []
    if has_token != insecure or (host == "127.0.0.1" and not has_token):
        server = start("tiny-string", *options)
        assert server.ask({"history": []}).status == (401 if has_token else 200)
        code, errors = server.stop()
        assert code == 0 and TOKEN not in errors
        return
    file = data / "tiny-string.onnx"
    command = [COMMAND, str(file), "--port", "0", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "--token-file" in result.stderr and "--insecure" in result.stderr
    assert ("leave --insecure out" in " ".join(result.stderr.split())) == has_token


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 characters"),
        (b" \n", "0 characters"),
        (TOKEN[:15].encode(), "at least 16"),
        (TOKEN.encode() + b"\nsecond line", "on one line"),
        ("ключ-ключ-ключ-ключ".encode(), "ASCII"),
        (b"\xff\xfe" + TOKEN.encode(), "cannot be read"),
        (None, "cannot be read"),
    ],
    ids=["empty", "blank", "short", "lines", "letters", "bytes", "missing"],
)
def test_a_token_file_that_is_no_use_is_refused(data, tmp_path, content, words) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    command = [COMMAND, str(data / "tiny-string.onnx"), "--port", "0", "--token-file", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    message = " ".join(result.stderr.split())
    assert words in message and "token" in message
    assert "Traceback" not in message and TOKEN[:15] not in message


def test_a_token_that_others_can_read_is_warned_of(data, tmp_path) -> None:
    for mode, is_warned in ((0o644, True), (0o640, True), (0o600, False)):
        command = [COMMAND, str(data / "tiny-string.onnx"), "--port", "0"]
        command += ["--token-file", str(token_file(tmp_path, mode=mode))]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        first = process.stderr.readline()
        process.terminate()
        rest = process.stderr.read()
        process.communicate(timeout=30)
        assert ("can be read by others" in first + rest) == is_warned
        assert TOKEN not in first + rest


def test_tokens_are_compared_in_constant_time() -> None:
    tree = ast.parse(Path(authorization.__file__).read_text("utf-8"))
    users = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "_token"
    ]  # fmt: skip
    calls = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hmac.compare_digest"
    ]  # fmt: skip
    assert len(calls) == 1 and "_token" in ast.unparse(calls[0])
    compared = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and "_token" in ast.unparse(node)
    ]  # fmt: skip
    assert [ast.unparse(node) for node in compared] == ["self._token is None"]
    assert users


def test_a_byte_order_mark_is_no_part_of_a_token(tmp_path) -> None:
    file = token_file(tmp_path, b"\xef\xbb\xbf" + TOKEN.encode() + b"\r\n")
    assert token_of(file) == TOKEN

"""Which requests are answered: of this machine, or with the token, or as the operator decides."""

import ast
import inspect
import socket

import pytest
from starlette.exceptions import HTTPException

from attnrec.runtime.serving import authorization
from attnrec.runtime.serving.authorization import AllowedHosts, token_of
from attnrec.runtime.serving.errors import TARGET
from attnrec.runtime.serving.server import listen

TOKEN = "tok-5e9c1f-0123456789abcdef"
BEARER = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
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


@pytest.fixture(scope="module")
def guarded(app):
    return app("tiny-string", token=TOKEN)


@pytest.mark.parametrize(
    "sent",
    [
        None, "", "Bearer", "Bearer ", "Bearer wrong-token-0123456789", f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}", f"bearer  {TOKEN}", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN},",
        f"Bearer {TOKEN.upper()}", "Bearer " + "é" * 20, "Bearer " + "x" * 5000,
    ],
    ids=range(14),
)  # fmt: skip
def test_without_the_token_nothing_of_the_file_is_answered(guarded, sent) -> None:
    headers = {"Content-Type": "application/json"}
    if sent is not None:
        headers["Authorization"] = sent.encode("latin-1")
    for method, path in GUARDED:
        reply = guarded.send(method, path, {"history": []} if method == "POST" else None, headers)
        assert reply.status == 401, (method, path)
        assert reply.headers["www-authenticate"] == "Bearer"
        assert b"sku" not in reply.body and TOKEN.encode() not in reply.body
        if not path.startswith("/v2"):
            assert "Authorization: Bearer" in reply.problem(401)["detail"]
    for path in OPEN:
        reply = guarded.get(path, headers)
        assert reply.status == 200 and b"sku" not in reply.body


def test_with_the_token_everything_is_answered_under_any_host(guarded) -> None:
    for host in ("localhost", "evil.example"):
        headers = BEARER | {"Host": host, "Authorization": f"bearer {TOKEN}"}
        for method, path in GUARDED:
            body = {"history": []} if method == "POST" else None
            reply = guarded.send(method, path, body, headers)
            assert reply.status not in (401, 421) and TOKEN.encode() not in reply.body, path
        assert guarded.send("POST", "/v1/recommend", {"history": []}, headers).status == 200


def test_two_tokens_in_one_request_are_the_last_one(start, token_file) -> None:
    server = start("tiny-string", "--token-file", token_file)
    line = b"GET /v1/model HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    right, wrong = b"Authorization: Bearer 0123456789abcdef-token\r\n", b"Authorization: x\r\n"
    assert server.statuses(line + right + wrong + b"\r\n") == [401]
    assert server.statuses(line + wrong + right + b"\r\n") == [200]


def test_tokens_are_compared_in_constant_time() -> None:
    tree = ast.parse(inspect.getsource(authorization.Authorization))
    uses = [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Call | ast.Compare)]
    uses = [use for use in uses if "self._token" in use]
    assert uses == ["self._token is None", "hmac.compare_digest(token, self._token)"]


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
def test_a_token_file_that_is_no_use_is_refused(tmp_path, content, words) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        token_of(path)
    message = str(error.value)
    assert words in message and str(path) in message and TOKEN[:15] not in message


@pytest.mark.parametrize(("mode", "is_warned"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_token_that_other_users_can_read_is_warned_of(tmp_path, caplog, mode, is_warned) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"\xef\xbb\xbf" + TOKEN.encode() + b"\r\n")  # a byte order mark is no part
    path.chmod(mode)
    assert token_of(path) == TOKEN
    assert ("can be read by others" in caplog.text) == is_warned
    assert TOKEN not in caplog.text


def test_another_machine_reaches_a_server_with_a_token_or_insecure_alone(
    refused, start, token_file
) -> None:
    for host in ("0.0.0.0", "::"):
        with pytest.raises(ValueError) as error:
            listen(host, 0)
        words = (f"{host}:0", "no authentication", "--token-file", "--insecure")
        assert all(word in str(error.value) for word in words)
    assert "no authentication" in refused("--host", "0.0.0.0")
    everywhere = ("--host", "0.0.0.0")
    assert start("tiny-string", *everywhere, "--token-file", token_file).get("/v2").status == 401
    assert start("tiny-string", *everywhere, "--insecure").get("/v2").status == 200
    for options, words in (
        (("--insecure",), "leave --insecure out"),
        (("--allowed-hosts", "a.example"), "leave --allowed-hosts out"),
    ):
        assert words in refused("--token-file", token_file, *options)
    with pytest.raises(ValueError, match="without scheme"):
        authorization.hosts_in("http://a.example")


def test_an_answer_is_not_held_back_until_the_client_confirms_its_head() -> None:
    # asyncio sends at once only on sockets whose protocol is TCP.
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


EVIL = ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example")
WRONG = (
    *EVIL,
    "10.0.0.5",
    "[fe80::1]",
    "0.0.0.0",
    "",
    ":80",
    "a:b:c",
    "u@localhost",
    "[::1",
    "x.",
)
HERE = (
    "localhost", "LocalHost:8000", "localhost.", "127.0.0.1", "127.8.9.10:1", "[::1]", "[::1]:80",
    "[0:0:0:0:0:0:0:1]", "attnrec", "attnrec:8000",
)  # fmt: skip


def is_answered(
    hosts: AllowedHosts, *named: str, version: str = "1.1", target: str | None = None
) -> bool:
    state = {} if target is None else {TARGET: [target.encode()]}
    headers = [(b"host", name.encode()) for name in named]
    try:
        hosts.check({"headers": headers, "http_version": version, "state": state})
    except HTTPException as error:
        assert error.status_code in (400, 421)
        return False
    return True


def test_names_of_this_machine_and_names_without_a_dot_are_answered_and_no_others() -> None:
    assert [host for host in HERE if not is_answered(AllowedHosts(), host)] == []
    assert [host for host in WRONG if is_answered(AllowedHosts(), host)] == []


def test_allowed_hosts_are_answered_in_any_spelling_and_at_any_port() -> None:
    hosts = AllowedHosts(["Shop.example", "10.0.0.5", "fe80::1"])
    for host in ("shop.example", "SHOP.example.:443", "10.0.0.5:80", "[fe80:0::1]", "localhost"):
        assert is_answered(hosts, host)
    assert not is_answered(hosts, "a.shop.example")
    assert not is_answered(hosts, "10.0.0.6")
    hosts = AllowedHosts(authorization.hosts_in("shop.example, 10.0.0.5"))
    assert is_answered(hosts, "shop.example") and is_answered(hosts, "10.0.0.5")


def test_an_insecure_server_is_answered_under_any_address_and_not_under_any_name() -> None:
    hosts = AllowedHosts(["0.0.0.0"], any_address=True)
    assert is_answered(hosts, "192.168.1.7:8000") and is_answered(hosts, "[2001:db8::1]")
    assert not is_answered(hosts, "evil.example")


def test_http_1_1_names_one_host_and_what_the_first_line_names_counts_as_well(server) -> None:
    hosts = AllowedHosts()
    assert is_answered(hosts, version="1.0")
    assert not is_answered(hosts)
    assert not is_answered(hosts, "localhost", "localhost")
    assert is_answered(hosts, "localhost", target="127.0.0.1:8000")
    assert not is_answered(hosts, "localhost", target="evil.example")
    assert not is_answered(hosts, "evil.example", target="localhost")
    for target, status in (("http://evil.example", 421), ("http://localhost", 200)):
        assert server.get(f"{target}/v1/model", {"Host": "localhost"}).status == status


@pytest.mark.parametrize("host", EVIL)
def test_a_page_of_another_site_gets_nothing(strings, host) -> None:
    headers = {"Host": host, "Content-Type": "application/json"}
    for method, path in [("GET", "/"), *GUARDED]:
        reply = strings.send(method, path, {"history": []} if method == "POST" else None, headers)
        assert reply.status == 421 and b"sku" not in reply.body, path
    detail = strings.get("/v1/model", headers).problem(421)["detail"]
    assert "--allowed-hosts" in detail and "evil" not in detail
    for path in ("/healthz", "/readyz"):
        assert strings.get(path, headers).status == 200
    forwarded = {"X-Forwarded-Host": host, "Forwarded": f"host={host}"}
    assert strings.get("/v1/model", forwarded).status == 200  # of a proxy, unused


def test_causes_of_failures_are_in_answers_to_allowed_requests_and_in_the_log(
    app, put, tmp_path, failing_its_self_test, caplog
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(failing_its_self_test)
    client = app(path, token=TOKEN)
    hidden = client.get("/readyz").problem(503)["detail"]
    assert "self-test" in hidden and "sku" not in hidden and "golden" not in hidden
    assert "golden vector" in client.get("/readyz", BEARER).problem(503)["detail"]
    put(b"", path)
    client.headers = BEARER
    client.reload()
    assert str(tmp_path) not in client.get("/readyz", {}).body.decode()
    assert str(path) in caplog.text


def test_a_failed_reload_is_reported_without_its_path_under_another_name(
    app, put, data, tmp_path
) -> None:
    path = tmp_path / "model.onnx"
    put((data / "tiny-string.onnx").read_bytes(), path)
    client = app(path)
    put(b"", path)
    client.reload()
    hidden = client.get("/readyz", {"Host": "evil.example"}).json
    assert hidden["reload_failed"] and str(tmp_path) not in hidden["reload_failed"]
    assert str(path) in client.get("/readyz").json["reload_failed"]

"""DNS rebinding: without a token only names of this machine are answered, but to probes."""

import pytest
from starlette.exceptions import HTTPException

from attnrec.runtime.serving.authorization import AllowedHosts
from attnrec.runtime.serving.errors import TARGET

TOKEN = "0123456789abcdef-hosts"
PATHS = ("/", "/openapi.json", "/metrics", "/v1/model", "/v1/items", "/v2", "/no")
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


@pytest.mark.parametrize("host", HERE)
def test_names_of_this_machine_and_names_without_a_dot_are_answered(host) -> None:
    assert is_answered(AllowedHosts(), host)


@pytest.mark.parametrize("host", WRONG)
def test_other_names_and_addresses_are_not(host) -> None:
    assert not is_answered(AllowedHosts(), host)


def test_allowed_hosts_are_answered_in_any_spelling_and_at_any_port() -> None:
    hosts = AllowedHosts(["Shop.example", "10.0.0.5", "fe80::1"])
    for host in ("shop.example", "SHOP.example.:443", "10.0.0.5:80", "[fe80:0::1]", "localhost"):
        assert is_answered(hosts, host)
    assert not is_answered(hosts, "a.shop.example")
    assert not is_answered(hosts, "10.0.0.6")


def test_a_server_for_others_is_asked_by_any_address_and_not_by_any_name() -> None:
    hosts = AllowedHosts(["0.0.0.0"], any_address=True)
    assert is_answered(hosts, "192.168.1.7:8000") and is_answered(hosts, "[2001:db8::1]")
    assert not is_answered(hosts, "evil.example")


def test_insecure_lets_a_server_of_this_machine_be_asked_by_any_address(strings, start) -> None:
    server = start("tiny-string", "--insecure")  # behind a forwarded port, say
    for host, status in (("10.0.0.5", 200), ("evil.example", 421)):
        assert server.send("GET", "/v1/model", None, {"Host": host}).status == status
        assert strings.send("GET", "/v1/model", None, {"Host": host}).status == 421


def test_http_1_1_names_one_host_and_what_the_first_line_names_counts_as_well() -> None:
    hosts = AllowedHosts()
    assert is_answered(hosts, version="1.0")
    assert not is_answered(hosts)
    assert not is_answered(hosts, "localhost", "localhost")
    assert is_answered(hosts, "localhost", target="127.0.0.1:8000")
    assert not is_answered(hosts, "localhost", target="evil.example")
    assert not is_answered(hosts, "evil.example", target="localhost")


@pytest.mark.parametrize("host", EVIL)
def test_a_page_of_another_site_is_told_nothing(strings, host) -> None:
    headers = {"Host": host, "Content-Type": "application/json"}
    for path in PATHS:
        reply = strings.send("GET", path, None, headers)
        assert reply.status == 421 and b"sku" not in reply.body, path
    for path in (
        "/v1/recommend",
        "/v1/similar",
        "/v1/explain",
        "/v1/reload",
        "/v2/models/attnrec/infer",
    ):
        assert strings.send("POST", path, {"history": []}, headers).status == 421, path
    detail = strings.send("GET", "/v1/model", None, headers).problem(421)["detail"]
    assert "--allowed-hosts" in detail and "evil" not in detail
    forwarded = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    assert strings.send("GET", "/v1/model", None, forwarded).status == 200  # of a proxy, unused
    for path in ("/healthz", "/readyz"):
        assert strings.send("GET", path, None, headers).status == 200


def test_a_whole_address_in_the_first_line_counts(strings) -> None:
    for target, status in (("http://evil.example", 421), ("http://localhost", 200)):
        reply = strings.send("GET", f"{target}/v1/model", None, {"Host": "localhost"})
        assert reply.status == status


def test_allowed_hosts_are_given_with_commas_and_a_token_makes_them_needless(
    start, tmp_path
) -> None:
    server = start("tiny-string", "--allowed-hosts", "shop.example, 10.0.0.5")
    for host, status in (("shop.example:80", 200), ("10.0.0.5", 200), ("evil.example", 421)):
        assert server.send("GET", "/v1/model", None, {"Host": host}).status == status
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    server = start("tiny-string", "--token-file", token)
    headers = {"Host": "evil.example", "Authorization": f"bearer {TOKEN}"}
    assert server.send("GET", "/v1/model", None, headers).status == 200
    for options, words in (
        (("--token-file", token, "--allowed-hosts", "a.example"), "leave --allowed-hosts out"),
        (("--allowed-hosts", "http://a.example"), "without scheme"),
    ):
        with pytest.raises(AssertionError, match=words):
            start("tiny-string", *options)


def test_causes_are_told_to_those_who_may_ask_and_are_in_the_log(
    start, put, tmp_path, failing_its_self_test
) -> None:
    path, token = tmp_path / "model.onnx", tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    path.write_bytes(failing_its_self_test)
    server = start(path, "--token-file", token)
    shown = {"Authorization": f"Bearer {TOKEN}"}
    hidden = server.send("GET", "/readyz").problem(503)["detail"]
    assert "self-test" in hidden and "sku" not in hidden and "golden" not in hidden
    assert "golden vector" in server.send("GET", "/readyz", None, shown).problem(503)["detail"]
    put(b"", path)
    server.reload(shown)
    assert str(tmp_path) not in server.send("GET", "/readyz").body.decode()
    errors = server.stop()[1]
    assert "golden vector" in errors and str(path) in errors


def test_a_failed_reload_is_told_without_its_path_under_another_name(
    start, put, data, tmp_path
) -> None:
    path = tmp_path / "model.onnx"
    put((data / "tiny-string.onnx").read_bytes(), path)
    server = start(path)
    put(b"", path)
    server.reload()
    hidden = server.send("GET", "/readyz", None, {"Host": "evil.example"}).json
    assert hidden["reload_failed"] and str(tmp_path) not in hidden["reload_failed"]
    assert str(path) in server.send("GET", "/readyz").json["reload_failed"]

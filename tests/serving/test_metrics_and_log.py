"""Figures for Prometheus, and the access log: right, bounded, and silent about who asked what."""

import json
import os
import signal
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from attnrec.runtime.serving.access_log import AccessLog
from attnrec.runtime.serving.metrics import BOUNDS

MARK = "Marker-7f3a"
TOKEN = f"token-{MARK}-0123456789"
FIELDS = {
    "time", "method", "route", "status", "seconds", "bytes_in", "bytes_out", "model_version",
}  # fmt: skip


def families(server, headers=None) -> dict:
    text = server.send("GET", "/metrics", None, headers or {}).body.decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def counts(found: dict) -> dict[tuple[str, str], float]:
    samples = found["attnrec_requests"].samples
    return {(s.labels["route"], s.labels["status"]): s.value for s in samples}


def ask_for_everything(server, headers: dict[str, str]) -> None:
    json_too = headers | {"Content-Type": "application/json"}
    for _ in range(7):
        server.send("POST", "/v1/recommend", {"history": [MARK]}, json_too)
    server.send("POST", "/v1/recommend", {"history": [MARK, 5]}, json_too)
    server.send("POST", "/v1/recommend", {MARK: 1}, json_too)
    server.send("POST", "/v1/score", {"history": [], "items": [MARK]}, json_too)
    server.send("POST", "/v1/similar", {"item": MARK}, json_too)
    server.send("GET", f"/v1/items?q={MARK}&{MARK}={MARK}", None, headers)
    server.send("GET", f"/v2/models/{MARK}/ready", None, headers)
    for n in range(50):
        server.send("GET", f"/{MARK}/{n}", None, headers | {f"X-{MARK}": MARK, "Host": MARK})


EXPECTED = {
    ("/v1/recommend", "200"): 7, ("/v1/recommend", "422"): 2, ("/v1/score", "200"): 1,
    ("/v1/similar", "422"): 1, ("/v1/items", "200"): 1, ("/v2/models/{name}/ready", "404"): 1,
    ("other", "404"): 50,
}  # fmt: skip


def test_counts_add_up_and_prometheus_can_read_them(start) -> None:
    server = start("tiny-string")
    ask_for_everything(server, {})
    assert counts(families(server)) == EXPECTED
    found = families(server)  # has seen the request for the figures before it
    assert counts(found) == EXPECTED | {("/metrics", "200"): 1}
    by_route: dict[str, list[tuple[float, float]]] = {}
    totals = {}
    for sample in found["attnrec_request_seconds"].samples:
        route = sample.labels["route"]
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            by_route.setdefault(route, []).append((bound, sample.value))
        elif sample.name.endswith("_count"):
            totals[route] = sample.value
    for route, buckets in by_route.items():
        assert [bound for bound, _ in buckets] == [*BOUNDS, float("inf")]
        inside = [n for _, n in buckets]
        assert inside == sorted(inside) and inside[-1] == totals[route]
        assert totals[route] == sum(n for (r, _), n in counts(found).items() if r == route)
    kinds = {family.name: family.type for family in found.values()}
    assert kinds["attnrec_requests"] == kinds["process_cpu_seconds"] == "counter"
    assert kinds["attnrec_request_seconds"] == "histogram"
    (info,) = found["attnrec_model_info"].samples
    version = server.send("GET", "/readyz").json["model_version"]
    assert info.labels == {"version": version, "model": "sasrec", "profile": "fp32"}
    assert found["process_resident_memory_bytes"].samples[0].value > 2**20
    assert found["attnrec_ready"].samples[0].value == 1


def test_paths_and_methods_that_clients_make_up_are_no_labels(start) -> None:
    server = start("tiny-string")
    n_lines = []
    for _ in range(2):
        for n in range(60):
            path = f"/v2/models/m{n}/versions/{n}/ready?x={n}"
            server.send(f"M{n}" if n % 2 else "GET", f"/v1/p{n}", None, {})
            server.send("GET", path, None, {})
            server.send("POST", f"/v2/models/m{n}/infer", b"{}")
        n_lines.append(len(server.send("GET", "/metrics").body.splitlines()))
    assert n_lines[1] - n_lines[0] <= len(BOUNDS) + 4  # those of /metrics itself


def test_a_line_says_what_a_request_was_like_and_nothing_of_what_was_in_it(
    start, tmp_path
) -> None:
    log, token = tmp_path / "access.log", tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    server = start("tiny-string", "--token-file", token, "--access-log", log, "--verbose")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    ask_for_everything(server, bearer)
    ask_for_everything(server, {"Authorization": f"Bearer {MARK}"})
    server.raw(f"{MARK} {MARK}\r\n\r\n".encode()).close()
    figures = server.send("GET", "/metrics", None, bearer).body.decode()
    server.process.terminate()
    out, errors = server.process.communicate(timeout=30)
    text = log.read_text()
    for output in (out, errors, text, figures):
        assert "Marker" not in output and "0123456789" not in output
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 2 * sum(EXPECTED.values()) + 1
    seen: dict[tuple[str, str], int] = {}
    for line in lines:
        assert set(line) == FIELDS
        assert abs(line["time"] - time.time()) < 300 and 0 <= line["seconds"] < 60
        if line["status"] != 401:
            key = line["route"], str(line["status"])
            seen[key] = seen.get(key, 0) + 1
    assert seen == EXPECTED | {("/metrics", "200"): 1}
    assert lines[0]["bytes_in"] == len(json.dumps({"history": [MARK]}))
    assert lines[0]["method"] == "POST" and lines[0]["bytes_out"] > 100


def test_a_log_that_was_moved_away_is_begun_anew(start, tmp_path) -> None:
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    server = start("tiny-string", "--access-log", log)
    server.ask({"history": []})
    log.rename(old)
    server.ask({"history": []})
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    n_old = len(old.read_text().splitlines())
    assert n_old == 2
    server.ask({"history": []})
    while not log.read_text().endswith("\n"):
        assert time.monotonic() < deadline
    assert len(log.read_text().splitlines()) == 1
    assert len(old.read_text().splitlines()) == n_old
    assert log.stat().st_mode & 0o007 == 0


def test_lines_are_added_to_an_older_log_and_to_nothing_else(tmp_path) -> None:
    older, events = tmp_path / "access.log", tmp_path / "events.csv"
    older.write_text('{"time":1}\n')
    AccessLog(str(older)).write("GET", "/", 200, 0.1, (0, 0), "v")
    assert len(older.read_text().splitlines()) == 2
    events.write_text("user_id,item_id\n")
    with pytest.raises(ValueError, match=r"--access-log .*events\.csv holds something else"):
        AccessLog(str(events))
    assert events.read_text() == "user_id,item_id\n"


def test_a_log_that_nobody_reads_does_not_stop_the_server(start) -> None:
    server = start("tiny-string", "--access-log", "-", stdout=subprocess.PIPE)
    client = server.client()
    body = json.dumps({"history": []}).encode()
    for _ in range(1000):  # 170 bytes each, and a pipe holds 64 KiB
        client.request("POST", "/v1/recommend", body, {"Content-Type": "application/json"})
        response = client.getresponse()
        assert response.status == 200 and response.read()
    client.close()
    dropped = server.metric("attnrec_log_lines_dropped_total")
    assert dropped > 0
    server.process.terminate()
    out, _ = server.process.communicate(timeout=30)
    lines = out.splitlines()
    assert all(set(json.loads(line)) == FIELDS for line in lines)  # no line was cut
    assert len(lines) + dropped == 1001 or len(lines) + dropped == 1000


def test_a_full_disk_does_not_stop_the_server(start) -> None:
    assert os.path.exists("/dev/full")
    server = start("tiny-string", "--access-log", "/dev/full")
    for _ in range(3):
        assert server.ask({"history": []}).status == 200
    assert server.metric("attnrec_log_lines_dropped_total") >= 3

"""Figures for Prometheus, and the access log: right, bounded, and silent about what was sent."""

import json
import signal
import subprocess
import sys
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


def families(client) -> dict:
    text = client.get("/metrics").body.decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def counts(found: dict) -> dict[tuple[str, str], float]:
    samples = found["attnrec_requests"].samples
    return {(s.labels["route"], s.labels["status"]): s.value for s in samples}


def use_everything(client, headers: dict[str, str]) -> None:
    headers = headers | {"Content-Type": "application/json"}
    for body in [{"history": [MARK]}] * 7 + [{"history": [MARK, 5]}, {MARK: 1}]:
        client.send("POST", "/v1/recommend", body, headers)
    client.send("POST", "/v1/score", {"history": [], "items": [MARK]}, headers)
    client.send("POST", "/v1/similar", {"item": MARK}, headers)
    client.get(f"/v1/items?q={MARK}&{MARK}={MARK}", headers)
    client.get(f"/v2/models/{MARK}/ready", headers)
    for n in range(50):
        client.get(f"/{MARK}/{n}", headers | {f"X-{MARK}": MARK, "Host": MARK})


EXPECTED = {
    ("/v1/recommend", "200"): 7, ("/v1/recommend", "422"): 2, ("/v1/score", "200"): 1,
    ("/v1/similar", "422"): 1, ("/v1/items", "200"): 1, ("/v2/models/{name}/ready", "404"): 1,
    ("other", "404"): 50,
}  # fmt: skip
# What dashboards and alarms are made of: these names stay.
NAMES = {
    "attnrec_requests", "attnrec_request_seconds", "attnrec_reloads", "attnrec_model_info",
    "attnrec_model_loaded_seconds", "attnrec_ready", "attnrec_requests_waiting",
    "attnrec_queue_limit", "attnrec_unread_bytes", "attnrec_unavailable_items",
    "attnrec_unavailable_ids_unknown", "attnrec_log_lines_dropped", "process_start_time_seconds",
    "process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds",
}  # fmt: skip


def test_counts_add_up_and_prometheus_can_read_them(app) -> None:
    client = app("tiny-string")
    use_everything(client, {})
    assert counts(families(client)) == EXPECTED
    found = families(client)  # has counted the request for the figures before it
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
    assert found.keys() >= NAMES
    assert not [name for name in found if name.endswith("_created")]
    kinds = {family.name: family.type for family in found.values()}
    for name in ("requests", "reloads", "log_lines_dropped"):
        assert kinds[f"attnrec_{name}"] == "counter"
    assert kinds["attnrec_request_seconds"] == "histogram"
    (info,) = found["attnrec_model_info"].samples
    version = client.get("/readyz").json["model_version"]
    assert info.labels == {"version": version, "model": "sasrec", "profile": "fp32"}
    assert found["process_resident_memory_bytes"].samples[0].value > 2**20
    assert found["attnrec_ready"].samples[0].value == 1
    reloads = {s.labels["result"]: s.value for s in found["attnrec_reloads"].samples}
    assert reloads == {"success": 0, "failure": 0}


def test_paths_and_methods_that_clients_invent_are_no_labels(app) -> None:
    client = app("tiny-string")
    n_lines = []
    for _ in range(2):
        for n in range(60):
            client.send(f"M{n}" if n % 2 else "GET", f"/v1/p{n}")
            client.get(f"/v2/models/m{n}/versions/{n}/ready?x={n}")
            client.post(b"{}", f"/v2/models/m{n}/infer")
        n_lines.append(len(client.get("/metrics").body.splitlines()))
    assert n_lines[1] - n_lines[0] <= len(BOUNDS) + 4  # those of /metrics itself


def test_a_line_describes_a_request_without_any_of_its_content(start, tmp_path) -> None:
    log, token = tmp_path / "access.log", tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    server = start("tiny-string", "--token-file", token, "--access-log", log, "--verbose")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    use_everything(server, bearer)
    use_everything(server, {"Authorization": f"Bearer {MARK}"})
    server.raw(f"{MARK} {MARK}\r\n\r\n".encode()).close()
    figures = server.get("/metrics", bearer).body.decode()
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


def test_a_line_has_the_bytes_of_a_body_that_the_inference_protocol_takes(start, tmp_path) -> None:
    log, body = tmp_path / "access.log", b'{"inputs": []}'
    server = start("tiny-string", "--access-log", log)
    server.post(body, "/v2/models/attnrec/infer")
    server.process.terminate()
    server.process.wait(timeout=30)
    assert json.loads(log.read_text().splitlines()[-1])["bytes_in"] == len(body)


def test_a_log_that_was_moved_away_is_begun_anew(start, tmp_path) -> None:
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    server = start("tiny-string", "--access-log", log)
    server.post({"history": []})
    log.rename(old)
    server.post({"history": []})
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(old.read_text().splitlines()) == 2
    server.post({"history": []})
    while not log.read_text().endswith("\n"):
        assert time.monotonic() < deadline
    assert (len(log.read_text().splitlines()), len(old.read_text().splitlines())) == (1, 2)
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


def test_several_processes_write_whole_lines_to_one_log(tmp_path) -> None:
    log = tmp_path / "access.log"
    program = (
        "import sys; from attnrec.runtime.serving.access_log import AccessLog\n"
        "log = AccessLog(sys.argv[1])\n"
        "for n in range(2000): log.write('POST', '/' + 'x' * (n % 300), 200, 0.1, (n, n), 'v')"
    )
    command = [sys.executable, "-c", program, str(log)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 6000 and all(set(line) == FIELDS for line in lines)


def test_a_log_that_is_not_read_does_not_stop_the_server(start) -> None:
    server = start("tiny-string", "--access-log", "-", stdout=subprocess.PIPE)
    client = server.client()
    for _ in range(1000):  # 170 bytes each, and a pipe holds 64 KiB
        client.request("GET", "/healthz")
        assert client.getresponse().read()
    client.close()
    dropped = server.metric("attnrec_log_lines_dropped_total")
    assert dropped > 0
    server.process.terminate()
    out, _ = server.process.communicate(timeout=30)
    lines = out.splitlines()
    assert all(set(json.loads(line)) == FIELDS for line in lines)  # no line was cut
    assert len(lines) + dropped in (1000, 1001)


def test_a_full_disk_does_not_stop_the_server(app) -> None:
    client = app("tiny-string", log=AccessLog("/dev/full"))
    for _ in range(3):
        assert client.post({"history": []}).status == 200
    assert client.metric("attnrec_log_lines_dropped_total") >= 3

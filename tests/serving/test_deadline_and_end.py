"""Long computations are given up; when the server stops, nothing it has taken is lost."""

import http.client
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("attnrec-serve"))
HEAVY = json.dumps([{"history": [1] * 100_000, "k": 1}] * 40).encode()
# No byte of an answer. A broken pipe: closed between the head and the body, which are two writes.
NOT_TAKEN = (
    BrokenPipeError,
    ConnectionRefusedError,
    ConnectionResetError,
    http.client.RemoteDisconnected,
)
JSON = {"Content-Type": "application/json"}


def test_a_request_over_its_deadline_gets_503_and_the_next_is_answered(start) -> None:
    server = start("tiny-int64", "--deadline", 0.05, "--max-body", 100_000_000)
    over, alive = threading.Event(), []

    def watch() -> None:
        while not over.is_set():
            alive.append(server.send("GET", "/healthz").status)

    watcher = threading.Thread(target=watch)
    watcher.start()
    reply = server.send("POST", "/v1/recommend", HEAVY)
    over.set()
    watcher.join()
    assert "seconds" in reply.problem(503)["detail"]
    assert int(reply.headers["retry-after"]) >= 1
    assert set(alive) == {200}
    assert server.ask({"history": []}).status == 200


@pytest.mark.parametrize(
    ("seconds", "limit"),
    [("86401", "86400"), ("inf", "86400"), ("nan", "86400"), ("0", "0.01"), ("-1", "0.01")],
)
def test_a_deadline_beyond_a_day_or_of_no_time_is_refused(data, seconds, limit) -> None:
    command = [COMMAND, str(data / "tiny-int64.onnx"), "--port", "0", "--deadline", seconds]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "--deadline" in result.stderr and limit in result.stderr


def test_twenty_clients_asking_in_loops_lose_nothing_at_the_end(start) -> None:
    server = start("tiny-string", "--queue", 100)
    body = json.dumps({"history": ["sku-1"], "k": 5}).encode()
    faults, answered, begun = [], [], threading.Barrier(21)

    def ask() -> None:
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

    clients = [threading.Thread(target=ask) for _ in range(20)]
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
    result = subprocess.run(
        [*command, "python3", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert '"ready"' in result.stdout, result.stderr
    assert server.stop() == (0, "")

"""`make soak`: minutes of load near and far beyond capacity, and 10,000 requests of a fuzzer."""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

LOAD = Path(__file__).with_name("load.py")


def load(server, *phases: tuple[float, float], connections: int = 64) -> list[dict]:
    """Send from another process: at each rate for so many seconds, without a pause between."""
    numbers = [number for phase in phases for number in phase]
    command = [sys.executable, LOAD, server.port, *numbers, "--connections", connections]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    figures: list[dict] = json.loads(result.stdout)
    return figures


class Memory(threading.Thread):
    """Resident megabytes of a process, every second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.status = Path(f"/proc/{pid}/status")
        self.samples: list[tuple[float, float]] = []
        self.over = False

    def run(self) -> None:
        while not self.over:
            resident = int(self.status.read_text().partition("VmRSS:")[2].split()[0]) / 1024
            self.samples.append((time.monotonic(), resident))
            time.sleep(1)

    def slope(self, seconds: float) -> float:
        """Megabytes a minute over the last seconds, least squares."""
        last = [(t, mb) for t, mb in self.samples if t > self.samples[-1][0] - seconds]
        minutes, megabytes = np.array(last).T
        return float(np.polyfit(minutes / 60, megabytes, 1)[0])


def capacity_of(server) -> float:
    """Answers a second when more requests come than can be answered."""
    (figures,) = load(server, (20_000, 5), connections=32)  # 32: never a full queue
    return figures["answered_a_second"]


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_five_minutes_near_capacity_and_then_far_beyond_it(start, capsys) -> None:
    server = start("tiny-int64")
    capacity = capacity_of(server)
    time.sleep(1)
    memory = Memory(server.process.pid)
    memory.start()
    (steady,) = load(server, (0.8 * capacity, 300))
    memory.over = True
    memory.join()
    beyond, after = load(server, (5 * capacity, 20), (0.2 * capacity, 5), connections=400)
    slope = memory.slope(240)
    with capsys.disabled():
        sys.stdout.write(
            f"\ncapacity {capacity:.0f} a second; memory {slope:+.2f} MB a minute\n"
            f"  at 80 %, 300 s: {steady}\n  at 500 %, 20 s: {beyond}\n  at 20 % then: {after}\n"
        )
    assert set(steady["statuses"]) == {"200"}
    assert steady["lost"] == 0
    assert steady["unsent"] <= 64  # due in the last moment
    assert slope < 1
    assert set(beyond["statuses"]) == {"200", "503"}
    assert (beyond["lost"], beyond["without_retry_after"]) == (0, 0)
    assert beyond["sent_a_second"] > 2 * capacity, "the client was too slow to send too much"
    assert beyond["answered_a_second"] > capacity / 4
    # One second after the flood there is nothing left of it.
    assert (set(after["settled_statuses"]), after["lost"]) == ({"200"}, 0)
    assert after["p50_ms"] < 65 / capacity * 1e3  # a queue that is still full would take longer
    assert server.stop()[0] == 0


TOOL = Path("build/schemathesis")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,negative_data_rejection"
)


@pytest.fixture(scope="module")
def schemathesis() -> str:
    """The command, in an environment of its own: it brings 28 packages that nothing else needs."""
    if not (TOOL / "bin" / "st").exists():
        subprocess.run([sys.executable, "-m", "venv", str(TOOL)], check=True)
        pip = [str(TOOL / "bin" / "pip"), "install", "-q", "schemathesis==4.32.5"]
        subprocess.run(pip, check=True)
    return str((TOOL / "bin" / "st").resolve())


@pytest.mark.soak
@pytest.mark.parametrize("file", ["tiny-string", "tiny-int64", "tiny-users", "tiny-times"])
def test_requests_of_any_kind_get_what_the_document_describes(
    start, schemathesis, file, tmp_path
) -> None:
    # Bodies beyond --max-body get 413, which the tool does not count as refusing bad data.
    server = start(file, "--max-body", 1_000_000)
    result = subprocess.run(
        [
            schemathesis, "run", f"http://127.0.0.1:{server.port}/openapi.json",
            "--checks", CHECKS, "--max-examples", "500", "--max-response-time", "10",
            "--phases", "examples,coverage,fuzzing", "--seed", "1", "--continue-on-failure",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    generated = re.search(r"([\d,]+) generated", result.stdout)
    assert generated is not None, result.stdout[-2000:]
    assert int(generated[1].replace(",", "")) > 3500  # of each of the files
    assert server.get("/readyz").status == 200

"""What serving costs: requests a second, latency, processor time, memory, beside other ways.

    python benchmarks/serving.py RUN RUN/model.onnx

RUN is a directory of attnrec-train with string ids and titles (`make demo` leaves demo-run). Takes
turns between attnrec-serve, a bare echo on the same stack, the same file behind FastAPI, and the
torch model behind FastAPI, each on core 0, asked by wrk on core 1 with a history of 50 ids.
FastAPI is installed into build/bench-serving. Linux with wrk (apt install wrk) only.
"""

import argparse
import atexit
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from attnrec.runtime import Recommender

PEERS = Path(__file__).parent / "serving_peers"
_LUA = """
wrk.method, wrk.body = "POST", [[%s]]
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{"n":%%d,"us":%%d,"p50":%%d,"p99":%%d,"errors":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
_CONNECTIONS = (1, 8, 64)


class Server:
    """A server process on core 0 and its figures from /proc."""

    def __init__(self, command: list[str], port: int, **variables: str) -> None:
        self.name, self.port = " ".join(command), port
        if self._answers():
            raise SystemExit(f"something answers at port {port} already; stop it first")
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", *command],
            stderr=subprocess.PIPE, text=True, env={**os.environ, **variables},
        )  # fmt: skip
        atexit.register(self.process.terminate)
        for _ in range(600):
            if self._answers():
                break
            if self.process.poll() is not None:
                raise SystemExit(f"{command} did not start:\n{self.process.stderr.read()}")
            time.sleep(0.1)
        self.idle_mb = self._memory("VmRSS")

    def _answers(self) -> bool:
        command = ["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{self.port}/"]
        return subprocess.run(command).returncode == 0

    def _memory(self, field: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """Of the process, with threads that have ended; in hundredths of a second."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def model_seconds(self) -> float:
        """Of the model alone, where the server counts it."""
        self.process.send_signal(signal.SIGUSR1)
        return float(self.process.stderr.readline().split()[1])

    def load(self, script: Path, connections: int, seconds: float) -> dict[str, float]:
        """Figures of wrk, and processor time a request."""
        command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s"]
        command += ["-s", str(script), f"http://127.0.0.1:{self.port}/v1/recommend"]
        before = self.cpu_seconds()
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(output.strip().splitlines()[-1])
        time.sleep(1)  # requests that wrk has left behind are still computed, beside the next one
        if found["errors"]:
            raise SystemExit(f"{self.name}: {found['errors']} errors at {connections} connections")
        return {
            "requests_a_second": found["n"] / found["us"] * 1e6,
            "p50_us": found["p50"],
            "p99_us": found["p99"],
            "cpu_us": (self.cpu_seconds() - before) / found["n"] * 1e6,
            "n": found["n"],
        }


def peer_python() -> str:
    """An interpreter that has FastAPI, and borrows everything else."""
    folder = Path("build/bench-serving")
    if not (folder / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        (site,) = folder.glob("lib/python3*/site-packages")
        own = next(path for path in sys.path if path.endswith("site-packages"))
        # site.addsitedir also reads the .pth files there, such as that of an editable install.
        (site / "borrowed.pth").write_text(f"import site; site.addsitedir({own!r})\n")
        subprocess.run([str(folder / "bin/pip"), "install", "-q", "fastapi"], check=True)
    return str(folder / "bin/python")


def servers(run: str, file: str, log: bool) -> dict[str, Server]:
    """Everybody, started one after the other."""
    python, here = peer_python(), str(PEERS)

    def uvicorn(interpreter: str, app: str, port: int, *options: str) -> Server:
        command = [interpreter, "-m", "uvicorn", "--app-dir", here, f"{app}:app"]
        command += ["--port", str(port), "--no-access-log", "--log-level", "error", *options]
        return Server(command, port, MODEL=file, RUN=run, OMP_NUM_THREADS="1")

    counted = [sys.executable, str(PEERS / "attnrec_counted.py"), file, "--port", "8201", "-q"]
    counted += ["--access-log", "/dev/null"] if log else []
    return {
        "attnrec-serve": Server(counted, 8201),
        "echo": uvicorn(sys.executable, "echo", 8202, "--http", "httptools", "--loop", "asyncio"),
        "FastAPI + onnxruntime": uvicorn(python, "fastapi_onnxruntime", 8203),
        "FastAPI + torch": uvicorn(python, "fastapi_torch", 8204),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="directory of attnrec-train")
    parser.add_argument("file", help="model file of that run")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each turn")
    parser.add_argument("--access-log", action="store_true", help="attnrec-serve writes one")
    parser.add_argument("--json", action="store_true")
    show(measure(arguments := parser.parse_args()), as_json=arguments.json)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of all turns, by server and number of connections."""
    for tool in ("wrk", "taskset", "curl"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed: apt install wrk util-linux curl")
    history = Recommender.load(arguments.file).recommend([], 50, exclude_seen=False).item_ids
    script = Path("build/bench-serving.lua")
    script.parent.mkdir(exist_ok=True)
    script.write_text(_LUA % json.dumps({"history": history, "k": 10}))
    everybody = servers(arguments.run, arguments.file, arguments.access_log)
    turns: dict[str, dict[int, list[dict[str, float]]]] = {
        name: {n: [] for n in _CONNECTIONS} for name in everybody
    }
    ours = everybody["attnrec-serve"]
    outside: list[float] = []
    for server in everybody.values():
        server.load(script, 8, 1)
    for _ in range(arguments.turns):
        for connections in _CONNECTIONS:
            for name, server in everybody.items():
                model = ours.model_seconds() if server is ours else 0.0
                figures = server.load(script, connections, arguments.seconds)
                if server is ours:
                    model = (ours.model_seconds() - model) / figures["n"] * 1e6
                    figures["model_us"] = model
                turns[name][connections].append(figures)
        last = {name: turns[name][1][-1] for name in everybody}
        mine = last["attnrec-serve"]
        outside.append((mine["cpu_us"] - mine["model_us"]) / last["echo"]["cpu_us"])
    result: dict[str, Any] = {
        name: {
            "idle_mb": everybody[name].idle_mb,
            **{
                str(n): {key: statistics.median(t[key] for t in found) for key in found[0]}
                for n, found in per.items()
            },
        }
        for name, per in turns.items()
    }
    result["outside_over_echo"] = statistics.median(outside)
    return result


def show(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    ratio = result.pop("outside_over_echo")
    for name, row in result.items():
        print(f"{name}: {row.pop('idle_mb'):.1f} MB when it has started")
        for n, figures in row.items():
            shown = "  ".join(f"{key} {value:,.0f}" for key, value in figures.items())
            print(f"  {n:>2} connections: {shown}")
    print(f"processor time outside the model / echo, one connection: {ratio:.2f}")


if __name__ == "__main__":
    main()

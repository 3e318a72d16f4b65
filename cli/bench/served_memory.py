"""How much memory `attnrec-serve` takes with a file: a server is started and measured.

It listens on this machine alone, at a free port, for about a second. Without the extra [serve] a
fresh process does what a server does with a file: it loads it, tests it and asks it, twice.
"""

import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from threading import Timer

from attnrec.runtime import Recommender
from attnrec.runtime.memory import release_free_memory, resident_mb

_SECONDS = 120  # for all of it: a reload of the largest file takes 10
_MIB = 2**20 / 1e6
_SERVE = "from attnrec.cli.main import serve; serve()"
_RELOADED = re.compile(rb'^attnrec_reloads_total\{result="\w+"\} [1-9]', re.MULTILINE)


def served_memory(file: Path) -> dict[str, float] | None:
    """Resident MB (1e6 bytes): "served" at rest, "reloading" at the peak of a reload.

    "with_server": whether a server was measured, or without [serve] the file alone. None where
    the system has no such figures, or a process failed.
    """
    with_server = importlib.util.find_spec("uvicorn") is not None
    code = ["-c", _SERVE] if with_server else ["-m", __name__]
    options = ["--port", "0"] if with_server else []
    command = [sys.executable, "-P", *code, str(file), *options]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        limit = Timer(_SECONDS, process.kill)
        limit.start()
        try:
            served, peak = _of_server(process) if with_server else _of_file(process)
        except (OSError, ValueError, HTTPException):
            return None
        finally:
            limit.cancel()
            process.kill()
    return {"served": _MIB * served, "reloading": _MIB * peak, "with_server": with_server}


def _of_server(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """At rest after two requests, and at the peak of a reload.

    `OSError` or `ValueError` where that cannot be measured.
    """
    assert process.stderr is not None
    url = re.search(r"http://\S+", process.stderr.readline())
    if url is None:
        raise ValueError("no server")
    request: dict[str, object] = {"history": [], "k": 50, "exclude_seen": False}
    popular = json.loads(_send(f"{url[0]}/v1/recommend", request))
    _send(f"{url[0]}/v1/recommend", {"history": [item["id"] for item in popular["items"]]})
    served = _status(process.pid, "VmRSS")
    process.send_signal(signal.SIGHUP)
    while not _RELOADED.search(_send(f"{url[0]}/metrics")):
        time.sleep(0.01)
    return served, _status(process.pid, "VmHWM")


def _of_file(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """What `main` writes; `ValueError` where it wrote nothing, or the system has no figures."""
    served, peak = json.loads(process.communicate()[0])
    if served is None or peak is None:
        raise ValueError("no figures")
    return served, peak


def _status(pid: int, kind: str) -> float:
    """A figure of a process, in MB of 2^20 bytes. `OSError` where the system has none."""
    rows = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) / 1024 for row in rows if row.startswith(kind))


def _send(url: str, content: dict[str, object] | None = None) -> bytes:
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    # No proxy: the server is on this machine.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        answered: bytes = answer.read()
    return answered


def main() -> None:
    """Without a server: write the figures as JSON."""
    kept = [_tested(sys.argv[1])]
    served = resident_mb()
    kept.append(_tested(sys.argv[1]))
    sys.stdout.write(json.dumps([served, resident_mb("VmHWM") or resident_mb()]))


def _tested(file: str) -> Recommender:
    recommender = Recommender.load(file)
    recommender.selftest()
    history = recommender.recommend([], 50, exclude_seen=False).item_ids
    recommender.recommend(history)
    release_free_memory()
    return recommender


if __name__ == "__main__":
    main()

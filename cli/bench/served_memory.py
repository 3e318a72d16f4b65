"""How much memory `attnrec-serve` takes with a file: a server is started and measured.

It listens on this machine alone, at a free port, for about a second.
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

_SECONDS = 120  # for all of it: a reload of the largest file takes 10
_SERVE = "from attnrec.cli.main import serve; serve()"
_RELOADED = re.compile(rb'^attnrec_reloads_total\{result="\w+"\} [1-9]', re.MULTILINE)


def served_memory(file: Path) -> dict[str, float] | None:
    """Resident MB (1e6 bytes): "served" at rest, "reloading" at the peak of a reload.

    None without the extra [serve], where the system has no such figures, or where it fails.
    """
    if importlib.util.find_spec("uvicorn") is None:
        return None
    command = [sys.executable, "-P", "-c", _SERVE, str(file), "--port", "0"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        limit = Timer(_SECONDS, process.kill)
        limit.start()
        try:
            return _measured(process)
        except (OSError, ValueError, HTTPException):
            return None
        finally:
            limit.cancel()
            process.kill()


def _measured(process: "subprocess.Popen[str]") -> dict[str, float]:
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
    served = _resident_mb(process.pid, "VmRSS")
    process.send_signal(signal.SIGHUP)
    while not _RELOADED.search(_send(f"{url[0]}/metrics")):
        time.sleep(0.01)
    peak = _resident_mb(process.pid, "VmHWM")
    return {"served": served, "reloading": peak, "with_server": True}


def _resident_mb(pid: int, kind: str) -> float:
    """A figure of a process. `OSError` where the system has none."""
    rows = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) * 1024e-6 for row in rows if row.startswith(kind))


def _send(url: str, content: dict[str, object] | None = None) -> bytes:
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    # No proxy: the server is on this machine.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        answered: bytes = answer.read()
    return answered

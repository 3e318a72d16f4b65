"""Start a server for a model file, ask it over HTTP what a customer may like, and stop it.

python ask_server.py model.onnx < customers.jsonl

The client part needs nothing but the standard library.
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def start(file: str) -> tuple[subprocess.Popen[str], str]:
    """A server on a free port, and its address, which it prints first."""
    command = str(Path(sys.executable).with_name("attnrec-serve"))
    server = subprocess.Popen([command, file, "--port", "0"], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    line = server.stderr.readline().strip()
    print(f"attnrec-serve: {line}")
    if "http://" not in line:
        raise SystemExit(server.wait() or 1)
    return server, line.split()[-1]


def wait_until_ready(address: str) -> None:
    """Ask /readyz until the file has reproduced its golden vectors."""
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{address}/readyz").close()
            return
        except urllib.error.HTTPError as error:
            print(f"not ready: {json.load(error)['detail']}")
            time.sleep(0.1)
    raise SystemExit(1)


def recommend(address: str, history: list[Any], k: int) -> dict[str, Any]:
    """POST /v1/recommend."""
    question = json.dumps({"history": history, "k": k}).encode()
    request = urllib.request.Request(
        f"{address}/v1/recommend", question, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


server, address = start(sys.argv[1])
try:
    wait_until_ready(address)
    customer = json.loads(sys.stdin.readline())
    answer = recommend(address, customer["history"], k=5)
    print(f"POST /v1/recommend: {answer['n_known']} known events, try")
    for place, item in enumerate(answer["items"], start=1):
        print(f"  {place}. {item.get('title') or item['id']:<40} {item['score']:6.2f}")
finally:
    server.terminate()
    print(f"stopped, exit code {server.wait()}")

"""What HTTP costs over `Recommender.recommend`: a real server process, one keep-alive client.

    python benchmarks/serving.py attnrec-run/model.onnx

Beside it stand a bare echo on the same stack (uvicorn, httptools) and the plain call, in turns in
one run. Processor time is the server process's own, the client's is not in it. Linux only.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from attnrec.runtime import Recommender

_ECHO = """
import socket, sys, uvicorn
async def app(scope, receive, send):
    body = (await receive())["body"]
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})
listener = socket.create_server(("127.0.0.1", 0))
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP,
                         fileno=listener.detach())
print("at http://127.0.0.1:%d" % listener.getsockname()[1], file=sys.stderr, flush=True)
config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None,
                        access_log=False, proxy_headers=False)
uvicorn.Server(config).run(sockets=[listener])
"""


class Server:
    """A server process and its figures from /proc."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if address is None:
            raise SystemExit(f"{command[0]} did not start: {line}{self.process.stderr.read()}")
        self.port = int(address[1])

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def ask(self, body: bytes, n: int) -> list[float]:
        """Seconds of each of n requests over one connection."""
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        seconds = []
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(n):
                start = time.perf_counter()
                connection.sendall(head + body)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += connection.recv(65536)
                top, _, rest = answer.partition(b"\r\n\r\n")
                assert b" 200 " in top[:20], answer
                length = int(re.search(rb"(?i)content-length: (\d+)", top)[1])
                while len(rest) < length:
                    rest += connection.recv(65536)
                seconds.append(time.perf_counter() - start)
        return seconds

    def measure(self, body: bytes, n: int, clients: int = 1) -> dict[str, float]:
        """Median latency, processor time a request and requests a second."""
        self.ask(body, 50)
        results: list[list[float]] = []
        cpu, start = self.cpu_seconds(), time.perf_counter()
        threads = [
            threading.Thread(target=lambda: results.append(self.ask(body, n // clients)))
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall = time.perf_counter() - start
        seconds = [second for result in results for second in result]
        return {
            "latency_us": statistics.median(seconds) * 1e6,
            "cpu_us": (self.cpu_seconds() - cpu) / len(seconds) * 1e6,
            "requests_a_second": len(seconds) / wall,
        }


def measure_plain(recommender: Recommender, history: list[int | str], n: int) -> dict[str, float]:
    """The same figures of the call without HTTP."""
    for _ in range(50):
        recommender.recommend(history, 10)
    seconds, cpu = [], time.process_time()
    for _ in range(n):
        start = time.perf_counter()
        recommender.recommend(history, 10)
        seconds.append(time.perf_counter() - start)
    cpu_us = (time.process_time() - cpu) / n * 1e6
    median = statistics.median(seconds)
    return {"latency_us": median * 1e6, "cpu_us": cpu_us, "requests_a_second": 1 / median}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="model file from attnrec-export")
    parser.add_argument("--requests", type=int, default=1000, help="of each turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the server")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    recommender = Recommender.load(arguments.file)
    history = recommender.recommend([], 50, exclude_seen=False).item_ids
    body = json.dumps({"history": history, "k": 10}).encode()
    serve = str(Path(sys.executable).with_name("attnrec-serve"))
    options = ("--port", "0", "--threads", str(arguments.threads))
    server, echo = Server(serve, arguments.file, *options), Server(sys.executable, "-c", _ECHO)
    idle = server.rss_mb()
    turns: dict[str, list[dict[str, float]]] = {"recommend": [], "echo": [], "attnrec-serve": []}
    n, clients = arguments.requests, arguments.clients
    for _ in range(arguments.turns):
        turns["recommend"].append(measure_plain(recommender, history, n))
        turns["echo"].append(echo.measure(body, n, clients))
        turns["attnrec-serve"].append(server.measure(body, n, clients))
    figures = {
        name: {key: statistics.median(turn[key] for turn in found) for key in found[0]}
        for name, found in turns.items()
    }
    memory = {"idle_rss_mb": idle, "rss_mb": server.rss_mb()}
    for process in (server.process, echo.process):
        process.terminate()
        process.wait()
    if arguments.json:
        print(json.dumps({**figures, **memory}))
        return
    for name, row in figures.items():
        print(f"{name:14}" + "".join(f"  {key} {value:8.0f}" for key, value in row.items()))
    print("  ".join(f"{key} {value:.1f}" for key, value in memory.items()))


if __name__ == "__main__":
    main()

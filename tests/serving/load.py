"""Requests at a given rate whether or not they are answered, from a process of its own.

    python load.py PORT RATE SECONDS [--connections N]

Prints one line of JSON: how many were sent and answered, by status, errors, and the latency of
answers with 200, counted from when the request was due. Bounded in time and connections.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, deque

BODY = json.dumps({"history": [1, 120, -2], "k": 10}).encode()
REQUEST = (
    b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
) + BODY


class Load:
    """What is due, who is idle, and what came of it."""

    def __init__(self) -> None:
        self.idle: deque[Connection] = deque()
        self.due: deque[float] = deque()
        self.statuses: Counter[str] = Counter()
        self.without_retry_after = 0
        self.latencies: list[tuple[float, float]] = []  # when due, seconds
        self.n_sent = self.n_lost = 0

    def send(self) -> None:
        while self.due and self.idle:
            self.n_sent += 1
            self.idle.popleft().ask(self.due.popleft())


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.asked: float | None = None
        self.received = b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.load.idle.append(self)

    def ask(self, due: float) -> None:
        self.asked = due
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        status = head[9:12].decode()
        self.load.statuses[status] += 1
        if status == "200":
            self.load.latencies.append((self.asked, time.perf_counter() - self.asked))
        elif b"retry-after:" not in head.lower():
            self.load.without_retry_after += 1
        self.received, self.asked = b"", None
        self.load.idle.append(self)
        self.load.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.asked is not None:
            self.load.n_lost += 1
        elif self in self.load.idle:  # idle for longer than a server keeps it
            self.load.idle.remove(self)


async def run(port: int, rate: float, seconds: float, n_connections: int) -> dict:
    load, loop = Load(), asyncio.get_running_loop()
    for _ in range(n_connections):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
    begun = time.perf_counter()
    n_due = 0
    while (now := time.perf_counter() - begun) < seconds:
        while n_due / rate <= now:
            load.due.append(begun + n_due / rate)
            n_due += 1
        load.send()
        await asyncio.sleep(0.001)
    n_waiting = len(load.due)
    load.due.clear()
    ended = time.perf_counter() - begun
    await asyncio.sleep(2)  # what is under way
    late = sorted(seconds for due, seconds in load.latencies if due - begun > 1)
    return {
        "sent_a_second": load.n_sent / ended,
        "answered_a_second": load.statuses["200"] / ended,
        "statuses": load.statuses,
        "lost": load.n_lost,
        "unsent": n_waiting,
        "without_retry_after": load.without_retry_after,
        # Of what was due after the first second: by then a server has recovered.
        "p50_ms": late[len(late) // 2] * 1e3 if late else None,
        "p99_ms": late[len(late) * 99 // 100] * 1e3 if late else None,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--connections", type=int, default=64)
    given = parser.parse_args()
    found = asyncio.run(run(given.port, given.rate, given.seconds, given.connections))
    sys.stdout.write(json.dumps(found))

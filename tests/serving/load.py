"""Requests at a given rate whether or not they are answered, from a process of its own.

    python load.py PORT RATE SECONDS [RATE SECONDS ...] [--connections N]

One phase after the other, without a pause. Prints a JSON list with an object a phase: how many
requests were sent and answered, by status, errors, and the latency of answers with 200, counted
from when the request was due. Bounded in time and connections.
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
SETTLED = 1.0  # seconds of a phase after which latency is looked at


class Phase:
    """The requests of one rate, and their answers."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.rate, self.seconds = rate, seconds
        self.begun = time.perf_counter()
        self.statuses: Counter[str] = Counter()
        self.settled_statuses: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.n_due = self.n_sent = self.n_lost = self.n_unsent = self.without_retry_after = 0

    def answered(self, due: float, head: bytes) -> None:
        status = head[9:12].decode()
        self.statuses[status] += 1
        is_settled = due - self.begun > SETTLED
        self.settled_statuses[status] += is_settled
        if status != "200":
            self.without_retry_after += b"retry-after:" not in head.lower()
        elif is_settled:
            self.latencies.append(time.perf_counter() - due)

    def figures(self) -> dict:
        late = sorted(self.latencies)
        return {
            "sent_a_second": self.n_sent / self.seconds,
            "answered_a_second": self.statuses["200"] / self.seconds,
            "statuses": self.statuses,
            "settled_statuses": +self.settled_statuses,
            "lost": self.n_lost,
            "unsent": self.n_unsent,
            "without_retry_after": self.without_retry_after,
            "p50_ms": late[len(late) // 2] * 1e3 if late else None,
            "p99_ms": late[len(late) * 99 // 100] * 1e3 if late else None,
        }


class Load:
    """Connections that wait for requests, and requests that wait for connections."""

    def __init__(self) -> None:
        self.idle: deque[Connection] = deque()
        self.due: deque[tuple[Phase, float]] = deque()

    def send(self) -> None:
        while self.due and self.idle:
            self.idle.popleft().request(*self.due.popleft())

    async def run(self, phase: Phase) -> None:
        while (now := time.perf_counter() - phase.begun) < phase.seconds:
            while phase.n_due / phase.rate <= now:
                self.due.append((phase, phase.begun + phase.n_due / phase.rate))
                phase.n_due += 1
            self.send()
            await asyncio.sleep(0.001)
        phase.n_unsent = len(self.due)
        self.due.clear()


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.sent: tuple[Phase, float] | None = None
        self.received = b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.load.idle.append(self)

    def request(self, phase: Phase, due: float) -> None:
        self.sent = phase, due
        phase.n_sent += 1
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        phase, due = self.sent
        phase.answered(due, head)
        self.received, self.sent = b"", None
        self.load.idle.append(self)
        self.load.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent is not None:
            self.sent[0].n_lost += 1
        elif self in self.load.idle:  # idle for longer than a server keeps it
            self.load.idle.remove(self)


async def run(port: int, phases: list[tuple[float, float]], n_connections: int) -> list[dict]:
    load, loop = Load(), asyncio.get_running_loop()
    for _ in range(n_connections):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
    done = []
    for rate, seconds in phases:
        done.append(Phase(rate, seconds))
        await load.run(done[-1])
    await asyncio.sleep(2)  # requests in flight
    return [phase.figures() for phase in done]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("phases", type=float, nargs="+", metavar="RATE SECONDS")
    parser.add_argument("--connections", type=int, default=64)
    given = parser.parse_args()
    pairs = list(zip(given.phases[::2], given.phases[1::2], strict=True))
    sys.stdout.write(json.dumps(asyncio.run(run(given.port, pairs, given.connections))))

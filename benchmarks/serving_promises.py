"""What each promise of attnrec-serve costs a request: the server without its model, part by part.

    python benchmarks/serving_promises.py demo-run/model.onnx

Requests go through uvicorn's protocol and the application in one process; nothing is sent, and
instead of the model a ready answer is given. Processor time of the thread, medians of turns;
of a part the difference that it makes.
"""

import argparse
import asyncio
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import uvicorn
from serving_peers.echo import app as echo
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from attnrec.runtime.serving.access_log import AccessLog
from attnrec.runtime.serving.app import Service
from attnrec.runtime.serving.authorization import Authorization
from attnrec.runtime.serving.errors import ARRIVED
from attnrec.runtime.serving.http_protocol import BoundedProtocol
from attnrec.runtime.serving.limits import ServerLimits
from attnrec.runtime.serving.reloading import ModelSource

_TOKEN = "0123456789abcdef" * 4


class ReadyAnswer:
    """In place of the model: what it says to one question, computed before."""

    def __init__(self, recommender: Any, history: list[Any]) -> None:
        self.info = recommender.info
        self._answer = recommender.recommend(history, 10)

    def recommend(self, *_: Any, **__: Any) -> Any:
        return self._answer


class Nowhere(asyncio.Transport):
    """A connection that leads nowhere."""

    def write(self, data: Any) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_protocol(self) -> asyncio.BaseProtocol:
        return asyncio.Protocol()


class Unbounded(HttpToolsProtocol):
    """uvicorn's own protocol, with the one entry that the application reads."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][ARRIVED] = time.perf_counter()


async def cost(app: Any, protocol: type[HttpToolsProtocol], request: bytes, n: int) -> float:
    """Microseconds of one of n requests."""
    config = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", log_config=None, proxy_headers=False
    )
    config.load()
    state = ServerState()
    connection = protocol(config, state, {})
    connection.connection_made(Nowhere())
    begun = time.thread_time()
    for _ in range(n):
        connection.data_received(request)
        while state.tasks:
            await asyncio.sleep(0)
    return (time.thread_time() - begun) / n * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="model file from attnrec-export")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--requests", type=int, default=500, help="of each turn")
    arguments = parser.parse_args()
    served, _ = ModelSource(arguments.file).load()
    history = served.recommender.recommend([], 50, exclude_seen=False).item_ids
    served = dataclasses.replace(served, recommender=ReadyAnswer(served.recommender, history))
    body = json.dumps({"history": history, "k": 10}).encode()
    head = f"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {_TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body

    def service(**options: Any) -> Service:
        return Service(served, ServerLimits(), **options)

    without_deadline, without_metrics = service(), service()
    without_deadline.workers._deadline.run = lambda call: call()
    without_metrics.metrics.observe = lambda *_: None
    variants: dict[str, tuple[Any, type[HttpToolsProtocol]]] = {
        "echo": (echo, HttpToolsProtocol),
        "attnrec-serve without its model": (service(), BoundedProtocol),
        "  bounds on heads, bodies, connections": (service(), Unbounded),
        "  deadline": (without_deadline, BoundedProtocol),
        "  metrics": (without_metrics, BoundedProtocol),
        "  access log (an option)": (
            service(access_log=AccessLog("/dev/null")),
            BoundedProtocol,
        ),
        "  token (an option)": (service(authorization=Authorization(_TOKEN)), BoundedProtocol),
    }
    turns: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(arguments.turns):
        for name, (app, protocol) in variants.items():
            turns[name].append(asyncio.run(cost(app, protocol, request, arguments.requests)))
    whole = turns["attnrec-serve without its model"]
    for name, found in turns.items():
        if name.startswith(" "):  # beside the whole of the same turn
            found = [abs(a - b) for a, b in zip(whole, found, strict=True)]
        print(f"{name:42}{statistics.median(found):8.1f} us")


if __name__ == "__main__":
    main()

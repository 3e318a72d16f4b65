"""Slow and huge clients: bounds on connections and heads, which uvicorn does not set."""

import asyncio
import time
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from attnrec.runtime.serving.problems import ARRIVED, GONE, LATE, PROBLEM_JSON, problem_of

READ_SECONDS = 5
"""In which the head of a request has to arrive, and then its body."""
LARGEST_HEAD = 65536
"""Bytes of the path and the headers of a request."""
_CONTINUE = b"HTTP/1.1 100 "
_SPARE_FILES = 64  # for the log, a reload, and what the interpreter opens


def most_connections() -> int:
    """Connections at a time: below what the system allows this process, and at most 1000."""
    try:
        import resource
    except ImportError:  # Windows
        return 500
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(1000, soft - _SPARE_FILES))


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection on which the head of a request does not come to its end, or is large."""

    _late: asyncio.TimerHandle | None = None
    _head = 0
    _reading: RequestResponseCycle | None = None
    _most_connections = most_connections()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _JoinedWrites(transport)))
        if len(self.connections) > self._most_connections:
            self._refuse(503, f"{self._most_connections} connections are open already", wait=1)
            return
        self._late = self.loop.call_later(READ_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._head += len(data)
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # the head is here
            self._wait_for_body(self.cycle)
            return
        if self._head > LARGEST_HEAD:
            self._refuse_head()
        elif self._late is None:
            self._late = self.loop.call_later(READ_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][ARRIVED] = time.perf_counter()

    def on_headers_complete(self) -> None:
        # A large head may have come in one piece, with a body behind it.
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size <= LARGEST_HEAD:
            super().on_headers_complete()
        elif not self.transport.is_closing():
            self._refuse_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()
        if self.scope is not None:
            self.scope["state"][GONE] = True

    def _wait_for_body(self, cycle: RequestResponseCycle) -> None:
        """All of it has to come in the time, however it is cut into parts."""
        if self._late is None or self._reading is not cycle or not cycle.more_body:
            self._stop_waiting()
            self._reading = cycle
            if cycle.more_body:
                self._late = self.loop.call_later(READ_SECONDS, self._give_up_body, cycle)

    def _give_up_body(self, cycle: RequestResponseCycle) -> None:
        """Let the application refuse."""
        cycle.scope["state"][LATE] = True
        cycle.message_event.set()

    def _stop_waiting(self) -> None:
        self._head = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse_head(self) -> None:
        # What follows the head in the same piece belongs to a request that has had its answer.
        self.cycle = cast(RequestResponseCycle, _Answered())
        self._refuse(431, f"path and headers are larger than {LARGEST_HEAD} bytes; send less")

    def _refuse(self, status: int, detail: str, wait: int | None = None) -> None:
        """Answer without an application, and close."""
        members: dict[str, Any] = {"limit": LARGEST_HEAD} if status == 431 else {}
        body = problem_of(status, detail, **members)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n"
        )
        if wait is not None:
            head += f"retry-after: {wait}\r\n"
        self.transport.write(head.encode() + b"\r\n" + body)
        self.transport.close()


class _Answered:
    """In place of a request: whatever else belongs to it is passed over."""

    response_complete = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


class _JoinedWrites:
    """A transport that sends the head of an answer together with its body: one system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing  # asked for every answer

    def write(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n") and not data.startswith(_CONTINUE):
            self._head += data  # uvicorn writes the body at once, be it empty
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data:
            self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

"""Slow and strange clients: the bounds on the head of a request, which uvicorn does not set."""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from attnrec.runtime.serving.messages import problem_of

READ_SECONDS = 5
"""In which the head of a request has to arrive, and then its body."""
LARGEST_HEAD = 65536
"""Bytes of a head that is still incomplete."""


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection on which the head of a request does not come to its end."""

    _late: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head(0)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head_is_here()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for bytes that are not HTTP."""
        self._refuse(400, msg)

    def _expect_head(self, n_bytes: int) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._head_is_here()
            return
        self._head += n_bytes
        if self._head > LARGEST_HEAD:
            self._refuse(431, f"the head is larger than {LARGEST_HEAD} bytes")
        elif self._late is None:
            self._late = self.loop.call_later(READ_SECONDS, self.transport.close)

    def _head_is_here(self) -> None:
        self._head = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: int, detail: str) -> None:
        if self.transport.is_closing():
            return
        body = problem_of(status, detail)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
            f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

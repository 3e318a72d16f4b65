"""Slow clients: bounds on the head of a request, which uvicorn does not set."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

READ_SECONDS = 5
"""In which the head of a request has to arrive, and then its body."""
_LARGEST_HEAD = 65536


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection on which the head of a request does not come to its end."""

    _late: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(READ_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # the head is here
            self._stop_waiting()
            return
        self._head += len(data)
        if self._head > _LARGEST_HEAD:
            self.transport.close()
        elif self._late is None:
            self._late = self.loop.call_later(READ_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        self._head = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

"""Limits over all connections of a server: their number, and the bytes of unread answers."""

import asyncio
import time
from typing import Any, Protocol

MOST_UNREAD = 32 << 20
"""Bytes of answers, over all connections, that clients have not read."""
WRITE_BUFFER = 16384
"""Bytes of unread answer of one client that are not counted."""
WRITE_SECONDS = 30
"""In which a client has to read an answer."""
_IDLE_SECONDS = 5  # after which an idle connection makes room for another client
_CONTINUE = b"HTTP/1.1 100 "
_SPARE_FILES = 64  # for the log, a reload, and what the interpreter opens


class Connection(Protocol):
    """The part of a connection that `Connections` uses."""

    def unread(self) -> int:
        """Bytes that its client has not read."""
        ...

    def close_idle(self) -> None:
        """Close it; no request on it is being answered."""
        ...


class Connections:
    """The connections of one server; for one thread."""

    def __init__(self) -> None:
        self.most = most_connections()
        self._idle: dict[Connection, float] = {}  # since when, longest first
        self._unread: set[Connection] = set()

    def rests(self, connection: Connection) -> None:
        """A connection is idle from now on."""
        self._idle[connection] = time.monotonic()

    def is_used(self, connection: Connection) -> None:
        """A connection is no longer idle: bytes arrive, or it is closed."""
        self._idle.pop(connection, None)

    def make_room(self) -> bool:
        """Close the connection that is idle longest, if it is so for 5 seconds."""
        for connection, since in self._idle.items():
            if time.monotonic() - since < _IDLE_SECONDS:
                return False
            del self._idle[connection]
            connection.close_idle()
            return True
        return False

    def waits_for_reader(self, connection: Connection, *, waits: bool) -> None:
        """Whether more than `WRITE_BUFFER` of an answer waits for the client to read it."""
        (self._unread.add if waits else self._unread.discard)(connection)

    @property
    def unread(self) -> int:
        """Bytes of answers that clients have not read, small rests left out."""
        return sum(connection.unread() for connection in self._unread)

    def has_room_for(self, size: int) -> bool:
        """Whether an answer of so many bytes may be written; small ones always may."""
        return size <= WRITE_BUFFER or self.unread + size <= MOST_UNREAD


def most_connections() -> int:
    """Connections at a time: below what the system allows this process, and at most 1000."""
    try:
        import resource
    except ImportError:  # Windows
        return 500
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(1000, soft - _SPARE_FILES))


class JoinedWrites:
    """A transport that sends the head of an answer together with its body: one system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing  # called for every answer

    def write(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n") and not data.startswith(_CONTINUE):
            self._head += data  # uvicorn writes the body next, even an empty one
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data:
            self._transport.write(data)

    def flush(self) -> None:
        """Send a head that has no body: the answer to HEAD."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():  # else the system waits for the client
            asyncio.get_running_loop().call_later(WRITE_SECONDS, self._transport.abort)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

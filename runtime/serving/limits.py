"""The limits of a server. Imports nothing: the help of the command shows the defaults."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerLimits:
    """The limits of one server."""

    threads: int = 1
    """Requests that are computed at the same time, each on one core."""
    queue: int = 64
    """Requests that wait for a thread; further ones are refused at once."""
    max_body: int = 65536
    """Bytes of a request."""
    deadline: float = 10.0
    """Seconds of computing after which a request is given up."""
    keep_alive: int = 75
    """Seconds after which an idle connection is closed; proxies keep theirs for 60."""

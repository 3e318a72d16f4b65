"""What a server takes on. Needs nothing: a command tells the defaults in its help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerLimits:
    """What a server takes on."""

    threads: int = 1
    """Requests that are computed at the same time, each on one core."""
    queue: int = 64
    """Requests that wait for a thread; further ones are refused at once."""
    max_body: int = 65536
    """Bytes of a request."""
    deadline: float = 10.0
    """Seconds of computing after which a request is given up."""
    keep_alive: int = 75
    """Seconds after which a connection is closed on which nothing is asked; proxies keep 60."""

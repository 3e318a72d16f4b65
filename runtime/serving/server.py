"""Listening, slow clients, and stopping: uvicorn with the bounds that it does not set itself."""

import ipaddress
import logging
import signal
import socket
from collections.abc import Callable

import uvicorn

from attnrec.runtime.recommender import Recommender
from attnrec.runtime.serving.answering import Served
from attnrec.runtime.serving.app import Limits, Service, make_app
from attnrec.runtime.serving.protocol import BoundedProtocol

logger = logging.getLogger(__name__)

_MOST_WAITING_CONNECTIONS = 2048


def listen(host: str, port: int, *, insecure: bool = False) -> socket.socket:
    """A socket that listens; port 0: any free one. `ValueError` says why there is none.

    insecure: allow an address that other machines reach.
    """
    where = f"{host}:{port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if not (insecure or ipaddress.ip_address(address[0]).is_loopback):
            raise ValueError(
                f"{where} can be reached from other machines, and there is no authentication yet: "
                "anyone there could ask the model. Listen on 127.0.0.1 behind a proxy that checks "
                "who asks, or allow it with --insecure"
            )
        listener = socket.create_server(
            address[:2], family=family, backlog=_MOST_WAITING_CONNECTIONS
        )
        # asyncio sends at once (TCP_NODELAY) only on sockets that say that they are TCP; else
        # every answer waits 40 ms for the client to confirm its head.
        return socket.socket(
            family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach()
        )
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"cannot listen on {where}: {reason}; choose another --host or --port (0: a free one)"
        ) from error


def serve(
    recommender: Recommender,
    listener: socket.socket,
    limits: Limits,
    *,
    grace: int = 10,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Answer until SIGTERM or Ctrl-C, then finish what was asked, at most `grace` seconds long.

    on_start: called when requests will be answered and a signal ends this in good order. Only in
    the main thread, which alone receives signals.
    """
    served = Served.of(recommender)
    config = uvicorn.Config(
        make_app(Service(served, limits)),
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=grace,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again when it has stopped, for the handlers of before: with these
    # the process goes on to its end, and a signal that comes early is not lost.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    on_start()
    if served.fault is not None:
        logger.error("not ready: %s", served.fault)
    server.run(sockets=[listener])

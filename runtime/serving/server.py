"""Listening, signals, and stopping: uvicorn with the bounds that it does not set itself."""

import asyncio
import errno
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from attnrec.runtime.memory import release_free_memory
from attnrec.runtime.serving.access_log import AccessLog
from attnrec.runtime.serving.app import Service
from attnrec.runtime.serving.hosts import Hosts
from attnrec.runtime.serving.limits import Limits
from attnrec.runtime.serving.protocol import BoundedProtocol
from attnrec.runtime.serving.reloading import Reloading, Source
from attnrec.runtime.serving.routes import Pages

logger = logging.getLogger(__name__)

_MOST_WAITING_CONNECTIONS = 2048
_SEND_BUFFER = 65536
"""Bytes that the system keeps for a client that does not read; by itself it keeps up to 4 MB."""


def listen(host: str, port: int, *, others_may_ask: bool = False) -> socket.socket:
    """A socket that listens; port 0: any free one. `ValueError` says why there is none.

    others_may_ask: allow an address that other machines reach.
    """
    where = f"{host}:{port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if not (others_may_ask or ipaddress.ip_address(address[0]).is_loopback):
            raise ValueError(
                f"{where} can be reached from other machines, and there is no authentication: "
                "anyone there could ask the model. Give a --token-file, listen on 127.0.0.1 "
                "behind a proxy that checks who asks, or allow it with --insecure"
            )
        listener = socket.create_server(
            address[:2], family=family, backlog=_MOST_WAITING_CONNECTIONS
        )
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        # asyncio sends at once (TCP_NODELAY) only on sockets that say that they are TCP; else
        # every answer waits 40 ms for the client to confirm its head.
        return _Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"cannot listen on {where}: {reason}; choose another --host or --port (0: a free one)"
        ) from error


class _Listener(socket.socket):
    """Leaves connections waiting while this process can open no more files.

    asyncio would try, and complain, as often as connections may wait, before it does anything
    else; left alone it closes refused connections in its next rounds.
    """

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise BlockingIOError from error
            raise


def serve(
    source: Source,
    listen_on: Callable[[], socket.socket],
    limits: Limits,
    *,
    token: str | None = None,
    hosts: Hosts | None = None,
    access_log: AccessLog | None = None,
    grace: int = 10,
    on_start: Callable[[Service, socket.socket], None] = lambda *_: None,
) -> None:
    """Answer until SIGTERM or Ctrl-C, then finish what was asked, at most `grace` seconds long.

    SIGHUP loads the file again. listen_on: called when the file is loaded. on_start: called when
    requests will be answered and a signal ends this in good order. hosts: under which names it may
    be asked if there is no token. Only in the main thread, which alone receives signals.
    """
    served, n_unavailable = source.load()
    service = Service(served, limits, token=token, hosts=hosts, access_log=access_log)
    del served  # of the file that may be replaced, the service alone holds what it takes
    reloading = Reloading(service, source, n_unavailable)
    service.pages = Pages(service, reloading).app()
    listener = listen_on()
    config = uvicorn.Config(
        service,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.keep_alive,
        timeout_graceful_shutdown=grace,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again when it has stopped, for the handlers of before: with these
    # the process goes on to its end, and a signal that comes early is not lost.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    release_free_memory()
    gc.freeze()  # what is there stays: no need to look through it again and again
    asked_again = _when_asked_to_reload()
    on_start(service, listener)
    if service.served.fault is not None:
        logger.error("not ready: %s", service.served.fault)

    async def run() -> None:
        watching = asyncio.create_task(_reload_when_asked(asked_again, reloading, access_log))
        await server.serve(sockets=[listener])
        watching.cancel()

    asyncio.run(run())


class _Asked:
    """Whether SIGHUP has come since the last look."""

    def __init__(self) -> None:
        self.again = False
        self.event: asyncio.Event | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def note(self, *_: object) -> None:
        self.again = True
        if self.loop is not None and self.event is not None:
            self.loop.call_soon_threadsafe(self.event.set)


def _when_asked_to_reload() -> _Asked:
    """From here on SIGHUP is noted, where there is such a signal."""
    asked = _Asked()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, asked.note)
    return asked


async def _reload_when_asked(
    asked: _Asked, reloading: Reloading, access_log: AccessLog | None
) -> None:
    asked.event, asked.loop = asyncio.Event(), asyncio.get_running_loop()
    if asked.again:
        asked.event.set()
    while await asked.event.wait():
        asked.event.clear()
        if access_log is not None:
            access_log.reopen()
        await reloading.reload()

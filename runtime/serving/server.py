"""Starts and stops the server: uvicorn with a listener, signals, and bounds on connections."""

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
from attnrec.runtime.serving.authorization import Authorization
from attnrec.runtime.serving.http_protocol import BoundedProtocol
from attnrec.runtime.serving.limits import ServerLimits
from attnrec.runtime.serving.reloading import ModelSource, Reloading
from attnrec.runtime.serving.routes import Endpoints

logger = logging.getLogger(__name__)

_MOST_WAITING_CONNECTIONS = 2048
_SEND_BUFFER = 65536
"""Bytes that the system keeps for a client that does not read; by itself it keeps up to 4 MB."""


def listen(host: str, port: int, *, is_public: bool = False) -> socket.socket:
    """A socket that listens; port 0: any free one. `ValueError` if it cannot be had.

    is_public: allow an address that other machines reach.
    """
    where = f"{host}:{port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if not (is_public or ipaddress.ip_address(address[0]).is_loopback):
            raise ValueError(
                f"{where} can be reached from other machines, and there is no authentication: "
                "anyone there could use the model. Give a --token-file, listen on 127.0.0.1 "
                "behind a proxy that authenticates, or allow it with --insecure"
            )
        listener = socket.create_server(
            address[:2], family=family, backlog=_MOST_WAITING_CONNECTIONS
        )
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        # asyncio sends at once (TCP_NODELAY) only on sockets whose protocol is TCP; else
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


def prepare(
    source: ModelSource,
    limits: ServerLimits,
    authorization: Authorization | None = None,
    access_log: AccessLog | None = None,
) -> tuple[Service, Reloading]:
    """Load the file of `source` and make the ASGI application that answers from it."""
    served, n_unavailable = source.load()
    service = Service(served, limits, authorization, access_log)
    del served  # of a file that may be replaced, the service alone holds what it takes
    reloading = Reloading(service, source, n_unavailable)
    service.endpoints = Endpoints(service, reloading).app()
    return service, reloading


def serve(
    source: ModelSource,
    listen_on: Callable[[], socket.socket],
    limits: ServerLimits,
    authorization: Authorization | None = None,
    access_log: AccessLog | None = None,
    *,
    grace: int = 10,
    on_start: Callable[[Service, socket.socket], None] = lambda *_: None,
) -> None:
    """Answer until SIGTERM or Ctrl-C, then finish the requests in flight within `grace` seconds.

    SIGHUP loads the file again. listen_on: called when the file is loaded. on_start: called when
    the server answers and a signal ends it in good order. Only in the main thread, which alone
    receives signals.
    """
    service, reloading = prepare(source, limits, authorization, access_log)
    listener = listen_on()
    server = uvicorn.Server(_config(service, grace))
    # uvicorn raises the signal again when it has stopped, for the handlers of before: with these
    # the process goes on to its end, and a signal that comes early is not lost.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    release_free_memory()
    gc.freeze()  # what is loaded stays: the collector need not look through it again
    hangup = _Hangup()
    on_start(service, listener)
    if service.served.fault is not None:
        logger.error("not ready: %s", service.served.fault)

    async def run() -> None:
        watching = asyncio.create_task(hangup.reload_each_time(reloading, access_log))
        await server.serve(sockets=[listener])
        watching.cancel()

    asyncio.run(run())


def _config(service: Service, grace: int) -> uvicorn.Config:
    return uvicorn.Config(
        service,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=service.limits.keep_alive,
        timeout_graceful_shutdown=grace,
    )


class _Hangup:
    """The signal SIGHUP, where there is one: noted from now on, even before the loop runs."""

    def __init__(self) -> None:
        self._came = False
        self._event: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, *_: object) -> None:
        self._came = True
        if self._loop is not None and self._event is not None:
            self._loop.call_soon_threadsafe(self._event.set)

    async def reload_each_time(self, reloading: Reloading, access_log: AccessLog | None) -> None:
        """Open the log again and load the file again, at each signal, for ever."""
        event, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self._event = event
        if self._came:
            event.set()
        while await event.wait():
            event.clear()
            if access_log is not None:
                access_log.reopen()
            await reloading.reload()

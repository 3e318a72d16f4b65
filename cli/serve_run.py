"""The server of `attnrec-serve`, once its options are checked."""

import os
import socket
from pathlib import Path

from attnrec.cli.console import say
from attnrec.runtime.serving.access_log import AccessLog
from attnrec.runtime.serving.app import Service
from attnrec.runtime.serving.authorization import (
    AllowedHosts,
    Authorization,
    hosts_in,
)
from attnrec.runtime.serving.limits import ServerLimits
from attnrec.runtime.serving.reloading import ModelSource
from attnrec.runtime.serving.server import listen, serve
from attnrec.runtime.words import counted


def serve_until_stopped(
    source: tuple[Path, Path | None, bool],
    address: tuple[str, int],
    limits: ServerLimits,
    *,
    token: str | None,
    allowed_hosts: str | None,
    insecure: bool,
    access_log: str | None,
    grace: int,
) -> None:
    """Serve, and end the process. source: model file, ids never to recommend, --allow-change."""
    log = None if access_log is None else AccessLog(access_log)
    host, port = address
    serve(
        ModelSource(*source),
        lambda: listen(host, port, is_public=insecure or token is not None),
        limits,
        Authorization(token, _hosts(allowed_hosts, host, insecure=insecure)),
        log,
        grace=grace,
        on_start=_announce,
    )
    # A computation that outlives the grace time still runs, in a thread of onnxruntime's code: the
    # interpreter is not taken down under it.
    os._exit(0)


def _hosts(names: str | None, host: str, *, insecure: bool) -> AllowedHosts:
    """The hosts that a server without a token answers to."""
    given = [] if names is None else hosts_in(names)
    # Requests to a server that listens elsewhere name that host.
    return AllowedHosts([*given, *([host] if insecure else [])], any_address=insecure)


def _announce(service: Service, listener: socket.socket) -> None:
    """One line with the address, whose port was perhaps chosen by the system."""
    host, port = listener.getsockname()[:2]
    info = service.served.recommender.info
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    say(f"{info.model}, {counted(info.n_items, 'item')}, at {address}")

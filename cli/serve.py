"""`attnrec serve`: a model file behind HTTP. Needs no training stack."""

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.console import command, say
from attnrec.runtime.errors import counted
from attnrec.runtime.files import check_model_file
from attnrec.runtime.serving.limits import ServerLimits

if TYPE_CHECKING:
    from attnrec.runtime.serving.app import Service  # imports onnxruntime


@command
def serve(
    file: Annotated[Path, typer.Argument(help="Model file from attnrec-export.")] = Path(
        "attnrec-run/model.onnx"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that clients have to send (Authorization: Bearer)."
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Allow a --host that other machines can reach without a token."
        ),
    ] = False,
    unavailable: Annotated[
        Path | None,
        typer.Option(help="File of item ids never to recommend, one a line; read on reload, too."),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, max=256, help="Requests computed at the same time.")
    ] = ServerLimits.threads,
    queue: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; further ones get 503.")
    ] = ServerLimits.queue,
    max_body: Annotated[
        int, typer.Option(min=1, help="Most bytes of a request; a larger one gets 413.")
    ] = ServerLimits.max_body,
    deadline: Annotated[
        float,
        typer.Option(
            min=0.01, max=86400, help="Seconds of computing after which a request gets 503."
        ),
    ] = ServerLimits.deadline,
    keep_alive: Annotated[
        int,
        typer.Option(
            min=1,
            help="Seconds after which an idle connection is closed; more than the proxy in front.",
        ),
    ] = ServerLimits.keep_alive,
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            help="Names of this server in requests, with commas; without a token, localhost alone."
        ),
    ] = None,
    allow_change: Annotated[
        bool,
        typer.Option(
            "--allow-change",
            help="Let a reload take a file with other ids or fewer inputs.",
        ),
    ] = False,
    access_log: Annotated[
        str | None,
        typer.Option(help="File for a JSON line a request, without ids; - for standard output."),
    ] = None,
    grace: Annotated[
        int,
        typer.Option(min=0, help="Seconds to finish requests in flight after a signal to stop."),
    ] = 10,
) -> None:
    """Answer recommendations over HTTP until SIGTERM or Ctrl-C.

        curl --json '{"history": ["85116"]}' http://127.0.0.1:8000/v1/recommend

    A page to look and click at is at /, the interface at /openapi.json, figures at /metrics.
    SIGHUP loads FILE again, and changes to it only if it is intact and reproduces its golden
    vectors here. Only this machine is answered, unless there is a --token-file (or --insecure).
    """
    file = check_model_file(file)
    for option, value in (("--allowed-hosts", allowed_hosts), ("--insecure", insecure or None)):
        if token_file is not None and value is not None:
            raise ValueError(
                f"{option} is for a server without a token; with --token-file a request is "
                f"checked by its token, whatever host it names: leave {option} out"
            )
    # Only here: it needs starlette.
    from attnrec.runtime.serving.authorization import token_of

    token = None if token_file is None else token_of(token_file)
    _serve_until_stopped(
        (file, unavailable, allow_change),
        (host, port),
        ServerLimits(threads, queue, max_body, deadline, keep_alive),
        token=token,
        allowed_hosts=allowed_hosts,
        insecure=insecure,
        access_log=access_log,
        grace=grace,
    )


def _serve_until_stopped(
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
    # Only here: these need onnxruntime and uvicorn.
    from attnrec.runtime.serving.access_log import AccessLog
    from attnrec.runtime.serving.authorization import AllowedHosts, Authorization, hosts_in
    from attnrec.runtime.serving.reloading import ModelSource
    from attnrec.runtime.serving.server import listen, serve

    # uvicorn warns of mistakes of clients, which have had their answer.
    is_verbose = logging.getLogger("attnrec").isEnabledFor(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.INFO if is_verbose else logging.ERROR)
    log = None if access_log is None else AccessLog(access_log)
    # Requests of other machines, without a token, name the address that it listens on.
    own = [address[0]] if insecure else []
    hosts = [*([] if allowed_hosts is None else hosts_in(allowed_hosts)), *own]
    serve(
        ModelSource(*source),
        lambda: listen(*address, is_public=insecure or token is not None),
        limits,
        Authorization(token, AllowedHosts(hosts, any_address=insecure)),
        log,
        grace=grace,
        on_start=_announce,
    )
    # A computation that outlives the grace time still runs, in a thread of onnxruntime's code: the
    # interpreter is not taken down under it.
    os._exit(0)


def _announce(service: "Service", listener: socket.socket) -> None:
    """One line with the address, whose port the system may have chosen."""
    host, port = listener.getsockname()[:2]
    info = service.served.recommender.info
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    say(f"{info.model}, {counted(info.n_items, 'item')}, at {address}")

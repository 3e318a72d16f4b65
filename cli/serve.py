"""`attnrec-serve`: a model file behind HTTP. Needs no training stack."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli.console import Quiet, Verbose, Version, run_command, set_verbosity
from attnrec.runtime.files import check_model_file
from attnrec.runtime.serving.limits import ServerLimits


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
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Answer recommendations over HTTP until SIGTERM or Ctrl-C.

        curl -H 'Content-Type: application/json' http://127.0.0.1:8000/v1/recommend
            -d '{"history": ["85116", "22375"], "k": 5}'

    A page to look and click at is at /, the interface at /openapi.json, figures at /metrics.
    SIGHUP loads FILE again, and changes to it only if it is intact and reproduces its golden
    vectors here. Only this machine is answered, unless there is a --token-file (or --insecure).
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    # What uvicorn warns of are mistakes of clients, and they have had their answer.
    logging.getLogger("uvicorn").setLevel(logging.INFO if verbose else logging.ERROR)
    file = check_model_file(file)
    for option, value in (("--allowed-hosts", allowed_hosts), ("--insecure", insecure or None)):
        if token_file is not None and value is not None:
            raise ValueError(
                f"{option} is for a server without a token; with --token-file a request is "
                f"checked by its token, whatever host it names: leave {option} out"
            )
    # Only here: this needs starlette, and what follows onnxruntime and uvicorn, too.
    from attnrec.runtime.serving.authorization import token_of

    token = None if token_file is None else token_of(token_file)
    from attnrec.cli.serve_run import serve_until_stopped

    serve_until_stopped(
        (file, unavailable, allow_change),
        (host, port),
        ServerLimits(threads, queue, max_body, deadline, keep_alive),
        token=token,
        allowed_hosts=allowed_hosts,
        insecure=insecure,
        access_log=access_log,
        grace=grace,
    )


def main() -> None:
    """Entry point."""
    run_command(serve)

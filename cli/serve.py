"""`attnrec-serve`: a model file behind HTTP. Needs no training stack."""

import logging
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli.console import Quiet, Verbose, Version, run_command, say, set_verbosity
from attnrec.runtime import Recommender
from attnrec.runtime.serving.app import Limits
from attnrec.runtime.serving.server import listen
from attnrec.runtime.serving.server import serve as serve_until_stopped


def serve(
    file: Annotated[Path, typer.Argument(help="Model file from attnrec-export.")] = Path(
        "attnrec-run/model.onnx"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8000,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a --host that other machines can reach.")
    ] = False,
    threads: Annotated[
        int, typer.Option(min=1, max=256, help="Requests computed at the same time.")
    ] = Limits.threads,
    queue: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; further ones get 503.")
    ] = Limits.queue,
    max_body: Annotated[
        int, typer.Option(min=1, help="Most bytes of a request; a larger one gets 413.")
    ] = Limits.max_body,
    grace: Annotated[
        int, typer.Option(min=0, help="Seconds to finish what was asked, when told to stop.")
    ] = 10,
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Answer recommendations over HTTP until SIGTERM or Ctrl-C.

        curl -H 'Content-Type: application/json' http://127.0.0.1:8000/v1/recommend
            -d '{"history": ["85116", "22375"], "k": 5}'

    GET /readyz says whether the file reproduced its golden vectors here, GET /v1/model what it
    holds. There is no authentication: only this machine can ask, unless --insecure is given.
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    # What uvicorn warns of are mistakes of clients, and they have had their answer.
    logging.getLogger("uvicorn").setLevel(logging.INFO if verbose else logging.ERROR)
    recommender = Recommender.load(file)
    listener = listen(host, port, insecure=insecure)
    limits = Limits(threads=threads, queue=queue, max_body=max_body)
    serve_until_stopped(
        recommender,
        listener,
        limits,
        grace=grace,
        on_start=lambda: _announce(recommender, listener),
    )
    # A computation that outlives the grace time still runs, in a thread of onnxruntime's code: the
    # interpreter is not taken down under it.
    os._exit(0)


def _announce(recommender: Recommender, listener: socket.socket) -> None:
    """One line with the address, whose port was perhaps chosen by the system."""
    host, port = listener.getsockname()[:2]
    info = recommender.info
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    say(f"{info.model}, {info.n_items:,} items, at {address}")


def main() -> None:
    """Entry point."""
    run_command(serve)

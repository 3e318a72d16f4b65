"""Answers JSON lines, each with one: from standard input, or from clients of a Unix socket."""

import json
import socket
import socketserver
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from attnrec.runtime import ModelFileError, Recommender

LONGEST_LINE = 1 << 20  # bytes; the rest of a longer one is the next line
try:
    recommender = Recommender.load(Path(__file__).with_name("model.onnx"))
except ModelFileError as error:  # missing, damaged, or no model file
    sys.exit(f"error: {error}; copy the kit again")


def answer(line: bytes) -> bytes:
    """A line such as {"history": ["A", "B"], "k": 5}: the arguments of Recommender.recommend."""
    found: dict[str, Any]
    try:
        found = recommender.recommend(**json.loads(line)).to_dict()
    except (TypeError, ValueError, RecursionError) as error:
        found = {"error": str(error)}
    return json.dumps(found).encode() + b"\n"


class Client(socketserver.StreamRequestHandler):
    """One connection, in a thread of its own."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client went away
            for line in iter(lambda: self.rfile.readline(LONGEST_LINE), b""):
                self.wfile.write(answer(line))


def listening_socket() -> socket.socket | None:
    """Standard input, if it is a socket that listens: systemd starts the app with one."""
    with suppress(OSError):
        given = socket.socket(fileno=sys.stdin.fileno())
        if given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return given
        given.detach()
    return None


if given := listening_socket():
    with socketserver.ThreadingUnixStreamServer("", Client, bind_and_activate=False) as server:
        server.socket.close()  # its own, which was never opened
        server.daemon_threads, server.socket = True, given
        server.serve_forever()
for line in sys.stdin.buffer:
    sys.stdout.buffer.write(answer(line))
    sys.stdout.buffer.flush()

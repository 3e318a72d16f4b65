"""One JSON line for every request: its route, status, times and sizes, never its content."""

import os
import stat
import time
from pathlib import Path

from msgspec import Struct

from attnrec.runtime.serving.errors import encode


class Line(Struct):
    """No path as it was sent, no ids, no token, no address: none of these is needed to operate."""

    time: float
    """Seconds since 1970, when it was answered."""
    method: str
    route: str
    status: int
    seconds: float
    bytes_in: int
    bytes_out: int
    model_version: str


class AccessLog:
    """Appends lines to a file, or to standard output for "-"."""

    def __init__(self, target: str) -> None:
        """`ValueError` if the file cannot be opened, or is no log."""
        self._target = target
        if os.path.isfile(target) and _first_byte(target) not in (b"", b"{"):
            raise ValueError(
                f"--access-log {target} holds something else than JSON lines, which a log would "
                "damage; name a new file"
            )
        self.dropped = 0
        """Lines that a reader was too slow for: a server does not wait for its log."""
        self._file = self._open()

    def write(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float,
        n_bytes: tuple[int, int],
        version: str,
    ) -> None:
        """n_bytes: of the body, and of the answer."""
        line = Line(
            round(time.time(), 3), method, route, status, round(seconds, 6), *n_bytes, version
        )
        content = encode(line) + b"\n"
        try:
            # Lines are shorter than PIPE_BUF: a pipe takes one as a whole or not at all.
            os.write(self._file, content)
        except OSError:  # a full or closed pipe, a full disk
            self.dropped += 1

    def reopen(self) -> None:
        """Go on in a new file of the same name, after the old one was moved away."""
        if self._target == "-":
            return
        try:
            file = self._open()
        except ValueError:
            return  # the old one is better than none
        os.close(self._file)
        self._file = file

    def _open(self) -> int:
        if self._target == "-":
            file = 1
        else:
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                file = os.open(Path(self._target), flags, 0o640)
            except OSError as error:
                raise ValueError(
                    f"--access-log {self._target} cannot be written: {error.strerror}; name a "
                    "file in a directory that may be written, or - for standard output"
                ) from error
        mode = os.fstat(file).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            os.set_blocking(file, False)
        return file


def _first_byte(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(1)
    except OSError:  # it may be written all the same
        return b""

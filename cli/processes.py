"""A command that torchrun may start several times, to train together."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from attnrec.cli.console import clean_errors, run_command
from attnrec.train.distributed import n_started
from attnrec.train.following import train_together


def run_together(command: Callable[..., None]) -> None:
    """`run_command`, in rank 0 where there are several processes; the others help it train."""
    code: str | int | None = 0
    try:
        with clean_errors():
            train_together(lambda: run_command(command))
    except SystemExit as ended:
        if n_started() == 1:
            raise
        code = ended.code
    if n_started() > 1:
        _exit_now(code)


def _exit_now(code: str | int | None) -> None:
    """Leave without taking Python down.

    Threads of libraries that run until then may abort a process at that point (seen once, with
    the run complete), which torchrun takes for a failure of the training.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))

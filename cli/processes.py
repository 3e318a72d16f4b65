"""A command that torchrun may start several times, to train together."""

from collections.abc import Callable

from attnrec.cli.console import clean_errors, run_command
from attnrec.train.following import train_together


def run_together(command: Callable[..., None]) -> None:
    """`run_command`, in rank 0 where there are several processes; the others help it train."""
    with clean_errors():
        train_together(lambda: run_command(command))

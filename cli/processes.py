"""A command that torchrun may start several times, to train together."""

import os
from collections.abc import Callable

from attnrec.cli.console import clean_errors, run_command


def run_together(command: Callable[..., None]) -> None:
    """`run_command`, in rank 0 where there are several processes; the others help it train."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        run_command(command)
        return
    # Only here: it needs torch.
    from attnrec.train.fitting.following import train_together

    with clean_errors():
        train_together(lambda: run_command(command))

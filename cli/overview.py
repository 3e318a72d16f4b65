"""`attnrec` alone: what there is, and what a shell completes."""

import os
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from attnrec.cli.console import Version, clean_errors

_COMMANDS = {
    "train": "Train on a log of events: CSV, Parquet, MovieLens, or the embedded shop.",
    "export": "Make one proved model file of a run.",
    "evaluate": "Measure model files on events that were held out.",
    "recommend": "Ask a model file.",
    "serve": "Answer over HTTP.",
    "bench": "Measure speed, memory and size of model files.",
}


class _Commands(TyperGroup):
    """The commands; one is imported only when what follows it is completed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        app = typer.Typer(add_completion=False)
        if "_ATTNREC_COMPLETE" in os.environ:
            module = "bench.command" if cmd_name == "bench" else cmd_name
            command = getattr(import_module(f"attnrec.cli.{module}"), cmd_name)
            app.command(cmd_name)(command)
        else:
            app.command(cmd_name, help=_COMMANDS[cmd_name])(lambda: None)
        return typer.main.get_command(app)


def main() -> None:
    """Entry point."""
    app = typer.Typer(cls=_Commands, pretty_exceptions_enable=False)

    @app.callback()
    def attnrec(version: Version = False) -> None:
        """Train an attention recommender, make one file of it, and run that anywhere.

        attnrec COMMAND --help explains a command; attnrec-COMMAND is the same.
        """

    with clean_errors():
        app(args=sys.argv[1:] or ["--help"], prog_name="attnrec")

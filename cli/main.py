"""The program `attnrec` and the console scripts: what is typed decides which modules are imported.

`attnrec COMMAND` is `attnrec-COMMAND`, where there is such a script. A command whose extra is not
installed says how to install it.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple


class _Command(NamedTuple):
    help: str
    extra: str
    needs: str
    """A module of that extra; without it nothing of the command is looked at."""
    module: str
    """In this package; the function has the name of the command."""
    has_script: bool = True


_COMMANDS = {
    "train": _Command(
        "Train on a log of events: CSV, Parquet, MovieLens, or the embedded shop.",
        "train", "torch", "train",
    ),
    "tune": _Command(
        "Train again and again within a time, and keep the best settings.",
        "tune", "optuna", "tune", has_script=False,
    ),
    "compare": _Command(
        "Train and export every model on a log, and compare the files.",
        "export", "onnx", "compare", has_script=False,
    ),
    "export": _Command("Make one proved model file of a run.", "export", "torch", "export"),
    "evaluate": _Command(
        "Measure model files on events that were held out.", "train", "pandas", "evaluate"
    ),
    "recommend": _Command("Ask a model file.", "cli", "typer", "recommend.command"),
    "serve": _Command("Answer over HTTP.", "serve", "uvicorn", "serve"),
    "bench": _Command(
        "Measure speed, memory and size of model files.", "cli", "typer", "bench.command"
    ),
}  # fmt: skip


def attnrec() -> None:
    """`attnrec COMMAND ...`; alone, or for a shell that completes what is typed, the overview."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in _COMMANDS and "_ATTNREC_COMPLETE" not in os.environ:
        del sys.argv[1]
        _start(command)
    else:
        _with_its_extra("attnrec", "cli", "typer", _overview)


def _start(command: str) -> None:
    found = _COMMANDS[command]

    def run() -> None:
        from attnrec.cli.console import run_command

        function, prefix = _function(command), "attnrec-" if found.has_script else "attnrec "
        if command in ("train", "tune", "compare"):
            from attnrec.cli.options import run_training_command

            run_training_command(function, prefix=prefix)
        else:
            run_command(function, prefix=prefix)

    _with_its_extra(f"attnrec {command}", found.extra, found.needs, run)


train = partial(_start, "train")
export = partial(_start, "export")
evaluate = partial(_start, "evaluate")
recommend = partial(_start, "recommend")
serve = partial(_start, "serve")
bench = partial(_start, "bench")


def _function(command: str) -> Callable[..., None]:
    module = importlib.import_module(f"attnrec.cli.{_COMMANDS[command].module}")
    function: Callable[..., None] = getattr(module, command)
    return function


def _with_its_extra(name: str, extra: str, needs: str, run: Callable[[], None]) -> None:
    # Read when torch is imported. By default its threads wait for each other in busy loops. Asleep
    # they cost a seventh on an idle machine; beside one busy process they are 2.3 times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The main process of several reports an error; torch's notices of lost sockets add nothing.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        if importlib.util.find_spec(needs) is None:  # before its arguments are looked at
            raise ModuleNotFoundError(name=needs)
        run()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("attnrec"):
            raise
        print(
            f"{name} needs {error.name}, which is not installed: pip install 'attnrec[{extra}]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _overview() -> None:
    """List the commands; for a shell, complete them and their options."""
    import typer
    from typer.core import TyperGroup

    from attnrec.cli.console import Version, clean_errors

    class Commands(TyperGroup):
        """A command is imported only when what follows it is completed."""

        def list_commands(self, ctx: Any) -> list[str]:
            return list(_COMMANDS)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in _COMMANDS:
                return None
            app = typer.Typer(add_completion=False)
            if "_ATTNREC_COMPLETE" in os.environ:
                app.command(cmd_name)(_function(cmd_name))
            else:
                app.command(cmd_name, help=_COMMANDS[cmd_name].help)(lambda: None)
            return typer.main.get_command(app)

    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @app.callback()
    def attnrec(version: Version = False) -> None:
        """Train an attention recommender, make one file of it, and run that anywhere.

        attnrec COMMAND --help explains a command.
        """

    with clean_errors():
        app(args=sys.argv[1:] or ["--help"], prog_name="attnrec")

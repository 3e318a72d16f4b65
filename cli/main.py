"""The console scripts. A command whose extra is not installed says how to install it.

`attnrec COMMAND` is `attnrec-COMMAND`: what is typed decides which modules are imported.
"""

import importlib
import importlib.util
import os
import sys

_COMMANDS = ("train", "export", "evaluate", "recommend", "serve", "bench")


def attnrec() -> None:
    """`attnrec COMMAND ...`; alone, or for a shell that completes what is typed, the overview."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in _COMMANDS and "_ATTNREC_COMPLETE" not in os.environ:
        del sys.argv[1]
        globals()[command]()
    else:
        _start("overview", extra="cli", name="attnrec")


def train() -> None:
    """`attnrec-train`."""
    _start("train", extra="train", needs="torch")


def export() -> None:
    """`attnrec-export`."""
    _start("export", extra="export", needs="torch")


def evaluate() -> None:
    """`attnrec-evaluate`."""
    _start("evaluate", extra="train", needs="pandas")


def recommend() -> None:
    """`attnrec-recommend`."""
    _start("recommend", extra="cli")


def bench() -> None:
    """`attnrec-bench`."""
    _start("bench", extra="cli", module="bench.command")


def serve() -> None:
    """`attnrec-serve`."""
    _start("serve", extra="serve", needs="uvicorn")


def _start(
    command: str, *, extra: str, needs: str = "typer", module: str | None = None, name: str = ""
) -> None:
    # torch's threads wait for each other in busy loops unless told before its import. Asleep they
    # cost a seventh on an idle machine; beside one busy process they are 2.3 times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # One of several processes says what went wrong; torch's notices of lost sockets say less.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        if importlib.util.find_spec(needs) is None:  # before its arguments are looked at
            raise ModuleNotFoundError(name=needs)
        importlib.import_module(f"attnrec.cli.{module or command}").main()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("attnrec"):
            raise
        print(
            f"{name or f'attnrec-{command}'} needs {error.name}, which is not installed: "
            f"pip install 'attnrec[{extra}]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None

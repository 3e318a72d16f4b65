"""The console scripts. A command whose extra is not installed says how to install it."""

import importlib
import os
import sys


def train() -> None:
    """`attnrec-train`."""
    _start("train", extra="train")


def export() -> None:
    """`attnrec-export`."""
    _start("export", extra="export")


def evaluate() -> None:
    """`attnrec-evaluate`."""
    _start("evaluate", extra="train")


def recommend() -> None:
    """`attnrec-recommend`."""
    _start("recommend", extra="cli")


def bench() -> None:
    """`attnrec-bench`."""
    _start("bench", extra="cli")


def serve() -> None:
    """`attnrec-serve`."""
    _start("serve", extra="serve")


def _start(command: str, *, extra: str) -> None:
    # torch's threads wait for each other in busy loops unless told before its import. Asleep they
    # cost a seventh on an idle machine; beside one busy process they are 2.3 times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        module = importlib.import_module(f"attnrec.cli.{command}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("attnrec"):
            raise
        print(
            f"attnrec-{command} needs {error.name}, which is not installed: "
            f"pip install 'attnrec[{extra}]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:  # torch takes a while to import
        raise SystemExit(130) from None
    module.main()

"""`attnrec bench`: time, memory and size of model files. Runs on a device: needs no torch."""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli.console import Json, command
from attnrec.runtime.files import check_model_file


@command
def bench(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Model files. Default: attnrec-run/model.onnx"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Also time the torch model of this run."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long to measure a file, about.")] = 15,
    as_json: Json = False,
) -> None:
    """Measure speed, cold start, memory and size of model files on this machine.

    Each file recommends 10 items after synthetic histories, through the Python library, on one
    thread where no other number is printed. Several files, and torch, take turns, so that a busy
    machine favours none of them. Ratios repeat; times depend on the machine.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"--seconds must be above 0, not {seconds}")
    paths = list(dict.fromkeys(map(check_model_file, files or [Path("attnrec-run")])))
    if against is not None:
        if find_spec("torch") is None:
            raise ValueError(
                "--against needs torch, which is not installed: pip install 'attnrec[train]'"
            )
        from attnrec.train.runs.target import check_run

        check_run(against)
    # Only here: it needs onnxruntime.
    from attnrec.cli.bench.printing import measure_and_print

    measure_and_print(paths, against, seconds, as_json=as_json)

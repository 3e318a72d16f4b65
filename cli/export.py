"""`attnrec-export`: from a run directory to one model file."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli.console import Json, Quiet, Verbose, Version, run_command, set_verbosity
from attnrec.cli.modes import refuse_idle
from attnrec.export.refusals import (
    PROFILES,
    Limits,
    check_kit_folder,
    check_max_mb,
    check_place,
)
from attnrec.runtime.files import MODEL_FILE
from attnrec.train.runs.target import check_run

_DEFAULT_PROFILE = "int8"  # what a bare --quantize means
_AUTO = "auto"


def _share(value: str | float) -> float:
    """0.005 of 0.5% and of 0.005."""
    told = str(value).strip()
    try:
        return float(told[:-1]) / 100 if told.endswith("%") else float(told)
    except ValueError:
        raise typer.BadParameter(f"{told!r} is neither a share nor a percentage") from None


def export(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run directory from attnrec-train.")] = Path(
        "attnrec-run"
    ),
    file: Annotated[
        Path | None, typer.Option("--out", help="The file to write. Default: RUN/model.onnx")
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            "--quantize",
            metavar="[PROFILE]",
            help="Make the file smaller: int8, int4; for 100,000 items and more also int4+4 "
            "(int8 in less time); or auto for the smallest that keeps the limits below. Alone it "
            "means int8.",
        ),
    ] = "fp32",
    min_overlap: Annotated[
        float | None,
        typer.Option(
            parser=_share,
            metavar="SHARE",
            help="Least share of the exact top 10 that a smaller file must keep, such as 98%. "
            "Default: 98% with 8 bits, 90% for int4.",
        ),
    ] = None,
    max_ndcg_loss: Annotated[
        float,
        typer.Option(
            parser=_share,
            metavar="SHARE",
            help="Largest relative loss of test NDCG@10 of a smaller file, such as 0.5%.",
        ),
    ] = Limits.max_ndcg_loss,
    max_mb: Annotated[
        float | None, typer.Option(help="Largest file that may be written, megabytes.")
    ] = None,
    allow_users: Annotated[
        bool,
        typer.Option(
            "--allow-users",
            help="Write a file that holds user ids, which models that look at the user need.",
        ),
    ] = False,
    kit: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write a folder for a device: the file, what runs it, a lock of numpy and "
            "onnxruntime, an app, systemd units, and a check for the device. See DIR/README.md.",
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Export a run to one self-contained ONNX file that speaks your own item ids.

    The file is compared with the torch model on every test user and on made-up histories. If it
    does not answer alike, the exit code is 1, a table says where, and no file is written. A
    quantized file is compared with the model that has the rounded weights, and its answers with
    those of the exact file; what that costs is printed, and kept beside the file.
    Beyond the limits, the exit code is 1 and no file is written.
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    target = run / MODEL_FILE if file is None else file
    if profile not in (*PROFILES, _AUTO):
        raise ValueError(
            f"no profile {profile!r}; there are: {', '.join(PROFILES)}, and "
            f"{_AUTO} for the smallest"
        )
    is_smaller = profile != "fp32", "--quantize PROFILE, of less than fp32"
    refuse_idle(context, {"min_overlap": is_smaller, "max_ndcg_loss": is_smaller})
    limits = Limits(min_overlap, max_ndcg_loss)
    check_max_mb(max_mb)
    if kit is not None:
        check_kit_folder(kit)
    check_run(run)
    check_place(target, ())
    # Only here: it needs torch.
    from attnrec.cli.export_run import export_run

    profiles = None if profile == _AUTO else (profile,)
    export_run(
        run,
        target,
        profiles,
        limits,
        max_mb,
        allow_users=allow_users,
        kit=kit,
        as_json=as_json,
        quiet=quiet,
    )


def with_default_profile(arguments: Sequence[str]) -> list[str]:
    """Give a bare `--quantize` its value: the parser knows no option with an optional one."""
    completed = []
    for place, argument in enumerate(arguments):
        completed.append(argument)
        following = arguments[place + 1 : place + 2]
        if argument == "--quantize" and (
            not following or following[0].startswith("-") or Path(following[0]).is_dir()
        ):
            completed.append(_DEFAULT_PROFILE)
    return completed


def main() -> None:
    """Entry point."""
    run_command(export, with_default_profile(sys.argv[1:]))

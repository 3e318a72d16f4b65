"""`attnrec export`: from a run directory to one model file."""

from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli.console import Json, command, refuse_idle, say
from attnrec.export.refusals import PROFILES, Limits, check_kit_folder, check_max_mb, check_place
from attnrec.runtime.files import MODEL_FILE
from attnrec.train.data.sources import check_files
from attnrec.train.runs.target import check_run

_SMALLER = "int8"  # what --quantize stands for
_AUTO = "auto"


def _share(value: str | float) -> float:
    """0.005 of 0.5% and of 0.005."""
    text = str(value).strip()
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a share nor a percentage") from None


@command
def export(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run directory from attnrec-train.")] = Path(
        "attnrec-run"
    ),
    old_profile: Annotated[str | None, typer.Argument(hidden=True)] = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="The file to write. Default: RUN/model.onnx")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="fp32, which is exact; the smaller int8 and int4; for 100,000 items and more "
            "also int4+4 (int8 in less time); or auto for the smallest that keeps the limits "
            "below. Default: fp32",
        ),
    ] = None,
    quantize: Annotated[
        bool, typer.Option("--quantize", help=f"Make the file smaller: --profile {_SMALLER}.")
    ] = False,
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
    catalog: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Items of the file, in place of those of the training: a table like the one "
            "of the training. New items are known by what describes them; missing ones are gone.",
        ),
    ] = None,
    allow_smaller: Annotated[
        bool,
        typer.Option(
            "--allow-smaller", help="Take a --catalog that lacks a fifth of the trained items."
        ),
    ] = False,
    recent: Annotated[
        Path | None,
        typer.Option(
            metavar="EVENTS",
            help="Events since the training, read as its log was: what is popular now, without "
            "training, for models that know popularity or a trend.",
        ),
    ] = None,
    tags: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNS",
            help="Columns of the items table, by commas, whose values requests may name in rules; "
            "title for the words of titles, '' for none. Default: all attributes, at most "
            "10,000 values.",
        ),
    ] = None,
    numbers: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNS",
            help="Numbers of the items table that requests may bound, by commas; '' for none. "
            "Default: all.",
        ),
    ] = None,
    kit: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write a folder for a device: the file, what runs it, a lock of numpy and "
            "onnxruntime, an app, systemd units, and a check for the device. See DIR/README.md.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Export a run to one self-contained ONNX file that speaks your own item ids.

    The file is compared with the torch model on every test user and on synthetic histories. If
    its answers differ, the exit code is 1, a table says where, and no file is written. A smaller
    file is compared with the model that has the rounded weights, and its answers with those of
    the exact file: this quantization cost is printed, and written next to the file. Above the
    limits, the exit code is 1 and no file is written.
    """
    chosen = _chosen(run, profile, old_profile, quantize=quantize)
    target = run / MODEL_FILE if file is None else file
    is_smaller = chosen != "fp32", "--quantize, or a --profile that is smaller than fp32"
    refuse_idle(context, {"min_overlap": is_smaller, "max_ndcg_loss": is_smaller})
    refuse_idle(context, {"allow_smaller": (catalog is not None, "--catalog")})
    limits = Limits(min_overlap, max_ndcg_loss)
    check_max_mb(max_mb)
    if kit is not None:
        check_kit_folder(kit)
    check_run(run)
    check_files(None, catalog, None)
    check_files(recent, None, None)
    check_place(target, ())
    # Only here: it needs torch.
    from attnrec.cli.export_run import ExportOptions, export_run

    profiles = None if chosen == _AUTO else (chosen,)
    options = ExportOptions(
        run, target, profiles, limits, max_mb, allow_users, kit, catalog,
        allow_smaller, recent, _columns(tags), _columns(numbers),
    )  # fmt: skip
    export_run(options, as_json=as_json)


def _columns(text: str | None) -> tuple[str, ...] | None:
    """Names by commas; None: as the run has them."""
    return None if text is None else tuple(filter(None, map(str.strip, text.split(","))))


def _chosen(run: Path, profile: str | None, old: str | None, *, quantize: bool) -> str:
    """The profile; `ValueError` for one that there is not, or for two."""
    profiles = (*PROFILES, _AUTO)
    if quantize and str(run) in profiles and not run.is_dir():
        raise ValueError(f"--quantize takes no profile: write --profile {run}")
    if old is not None:
        # RUN --quantize PROFILE, which scripts have from before --profile.
        if not quantize or old not in profiles or profile is not None:
            raise ValueError(f"{old!r} is one argument too many: a profile is given by --profile")
        say(f"--quantize {old} is now --profile {old}")
        return old
    if quantize and profile not in (None, _SMALLER):
        raise ValueError(
            f"--quantize stands for --profile {_SMALLER}: with --profile {profile} leave it out"
        )
    chosen = profile or (_SMALLER if quantize else "fp32")
    if chosen not in profiles:
        raise ValueError(
            f"no profile {chosen!r}; there are: {', '.join(PROFILES)}, and {_AUTO} for the "
            "smallest"
        )
    return chosen

"""`attnrec-export`: from a run directory to one model file."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from attnrec.cli.console import (
    Json,
    Quiet,
    Verbose,
    Version,
    err,
    fail,
    run_command,
    say,
    set_verbosity,
)
from attnrec.export import Limits, ParityFailure, ParityReport, PriceTooHigh
from attnrec.export import export as export_run
from attnrec.runtime import Recommender
from attnrec.train import Run
from attnrec.train.run import MODEL_FILE

_DEFAULT_PROFILE = "int8"  # what a bare --quantize means


def export(
    run: Annotated[Path, typer.Argument(help="Run directory from attnrec-train.")] = Path(
        "attnrec-run"
    ),
    file: Annotated[
        Path | None, typer.Option("--out", help="The file to write. Default: RUN/model.onnx")
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            "--quantize", metavar="[PROFILE]", help="Make the file smaller; alone it means int8."
        ),
    ] = "fp32",
    min_overlap: Annotated[
        float,
        typer.Option(help="Least share of the exact top 10 that a smaller file must keep."),
    ] = Limits.min_overlap,
    max_ndcg_loss: Annotated[
        float,
        typer.Option(help="Largest relative loss of test NDCG@10 of a smaller file."),
    ] = Limits.max_ndcg_loss,
    allow_users: Annotated[
        bool,
        typer.Option(
            "--allow-users",
            help="Write a file that holds user ids, which models that look at the user need.",
        ),
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Export a run to one self-contained ONNX file that speaks your own item ids.

    The file is compared with the torch model on every test user and on made-up histories. If it
    does not answer alike, the exit code is 1, a table says where, and no file is written. A
    quantized file is compared with the model that has the rounded item vectors, and its answers
    with those of the exact file: beyond the limits, the exit code is 1 and no file is written.
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    target = run / MODEL_FILE if file is None else file
    limits = Limits(min_overlap, max_ndcg_loss)
    started = time.monotonic()
    trained = Run.load(run)
    with Progress(console=err, transient=True, disable=quiet) as progress:
        task = progress.add_task("exporting", total=None)

        def tick(done: int, total: int) -> None:
            progress.update(task, description="comparing users", completed=done, total=total)

        try:
            export_run(trained, target, profile, limits=limits, tick=tick, allow_users=allow_users)
        except ParityFailure as failure:
            progress.stop()
            _print_faults(failure.report)
            fail(str(failure), code=1)
        except PriceTooHigh as failure:
            progress.stop()
            fail(f"{failure} with --min-overlap and --max-ndcg-loss", code=1)
    _print_success(target, time.monotonic() - started, as_json)


def _print_faults(report: ParityReport) -> None:
    table = Table("call", "row", "what", title="Where the file differs from the torch model")
    for fault in report.faults:
        table.add_row(fault.call, str(fault.row), fault.what)
    err.print(table)


def _print_success(target: Path, seconds: float, as_json: bool) -> None:
    info = Recommender.load(target).info
    size = target.stat().st_size
    parity = dict(info.parity or {})
    if as_json:
        result = {
            "file": str(target),
            "bytes": size,
            "profile": info.profile,
            "n_items": info.n_items,
            "n_users": info.n_users,
            "parity": parity,
            "metrics": info.metrics,
            "seconds": round(seconds, 2),
        }
        print(json.dumps(result))
        return
    print(f"file     {target}  {size / 1e6:.2f} MB, {info.profile}")
    print(
        f"model    {info.model}, {info.n_items:,} items, {info.id_type} ids, "
        f"newest {info.max_len} events count"
    )
    if info.n_users:
        print(
            f"users    WARNING: this file holds {info.n_users:,} user ids ({info.user_id_type}) "
            "and what the model learned of each; keep it as you keep the log"
        )
    print(
        f"parity   {parity['identical_top_10']:.2%} of {parity['test_users']:,} users with the "
        f"identical top 10; largest score difference {parity['largest_difference']:.1e}, "
        f"{parity['largest_share_of_tolerance']:.0%} of what is tolerated"
    )
    if "against_fp32" in parity:
        _print_price(parity["against_fp32"])
    test = info.metrics.get("test")
    if test:
        print(f"test     NDCG@10 {test['ndcg@10']:.4f}, HitRate@10 {test['hit_rate@10']:.4f}")
    elif info.final:
        print("test     none: trained on every event; the file keeps the figures before that")
    say(f"exported in {seconds:.0f} s. Next: attnrec-recommend {target} --history A,B,C")


def _print_price(price: Mapping[str, Any]) -> None:
    print(
        f"price    {price['size']:.2f} of the size of fp32; overlap@10 {price['overlap@10']:.4f}, "
        f"first item the same for {price['same_first']:.1%} of {price['users']:,} users"
    )
    if price["ndcg@10_change"] is not None:
        low, high = price["ndcg@10_change_interval"]
        print(
            f"         NDCG@10 {price['ndcg@10_change']:+.2%} against fp32, paired 95 % interval "
            f"{low:+.2%} to {high:+.2%}"
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

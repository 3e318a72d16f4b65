"""`attnrec-export`: from a run directory to one model file."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

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
    out,
    run_command,
    say,
    set_verbosity,
)
from attnrec.cli.served_memory import served_memory
from attnrec.export import (
    Limits,
    NoProfile,
    ParityFailure,
    ParityReport,
    ProfileCost,
    export_smallest,
)
from attnrec.export import export as export_run
from attnrec.export.draft import PROFILES
from attnrec.export.kit import check_kit_folder, write_kit
from attnrec.runtime import Recommender
from attnrec.train import Run
from attnrec.train.run import MODEL_FILE

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
            "(int8 in less time) and int8+pca32 (in the least time, if the model allows); or auto "
            "for the smallest that keeps the limits below. Alone it means int8.",
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
    max_us: Annotated[
        float | None,
        typer.Option(
            help="Longest median of an answer after 50 events, on one thread of this machine, "
            "microseconds."
        ),
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
    those of the exact file; what that costs is printed, and kept with times and memory beside the
    file. Beyond the limits, the exit code is 1 and no file is written.
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    target = run / MODEL_FILE if file is None else file
    if profile not in (*PROFILES, _AUTO):
        raise ValueError(
            f"no profile {profile!r}; there are: {', '.join(PROFILES)}, and "
            f"{_AUTO} for the smallest"
        )
    if kit is not None:
        check_kit_folder(kit)
    limits = Limits(min_overlap, max_ndcg_loss)
    profiles = None if profile == _AUTO else (profile,)
    is_plain = profile == "fp32" and max_mb is None and max_us is None
    costs: Sequence[ProfileCost] = ()
    started = time.monotonic()
    trained = Run.load(run)
    with Progress(console=err, transient=True, disable=quiet) as progress:
        task = progress.add_task("exporting", total=None)

        def tick(done: int, total: int) -> None:
            progress.update(task, description="comparing users", completed=done, total=total)

        def stage(what: str) -> None:
            progress.update(task, description=what)

        try:
            if is_plain:
                export_run(trained, target, tick=tick, allow_users=allow_users)
            else:
                _, costs = export_smallest(
                    trained, target, profiles, limits=limits, max_mb=max_mb, max_us=max_us,
                    tick=tick, stage=stage, allow_users=allow_users,
                )  # fmt: skip
        except ParityFailure as failure:
            progress.stop()
            _print_faults(failure.report)
            fail(str(failure), code=1)
        except NoProfile as failure:
            progress.stop()
            err.print(_cost_table(failure.costs))
            fail(
                f"{failure}. Allow more with --min-overlap, --max-ndcg-loss, --max-mb or --max-us"
                + ("" if profiles is None else ", or leave --quantize out"),
                code=1,
            )
    if kit is not None:
        write_kit(target, kit)
    _print_success(target, kit, time.monotonic() - started, costs, as_json)


def _print_faults(report: ParityReport) -> None:
    table = Table("call", "row", "what", title="Where the file differs from the torch model")
    for fault in report.faults:
        table.add_row(fault.call, str(fault.row), fault.what)
    err.print(table)


def _print_success(
    target: Path, kit: Path | None, seconds: float, costs: Sequence[ProfileCost], as_json: bool
) -> None:
    info = Recommender.load(target).info
    size = target.stat().st_size
    parity = dict(info.parity or {})
    memory = served_memory(target)
    if as_json:
        result = {
            "file": str(target),
            "kit": None if kit is None else str(kit),
            "bytes": size,
            "profile": info.profile,
            "n_items": info.n_items,
            "n_users": info.n_users,
            "parity": parity,
            "metrics": info.metrics,
            "profiles": [cost.to_json() for cost in costs],
            "memory_mb": memory,
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
    if "scan" in parity:
        print(
            f"scan     finds {parity['scan']['found@10']:.2%} of the 10 best items of a user, "
            f"{parity['scan']['found@100']:.2%} of the 100 best"
        )
    if costs:
        out.print(_cost_table(costs))
    test = info.metrics.get("test")
    if test:
        print(f"test     NDCG@10 {test['ndcg@10']:.4f}, HitRate@10 {test['hit_rate@10']:.4f}")
    elif info.final:
        print("test     none: trained on every event; the file keeps the figures before that")
    if memory is not None:
        print(
            f"memory   {memory['served']:.0f} MB when served, "
            f"{memory['reloading']:.0f} MB while reloading"
        )
    if kit is not None:
        print(f"kit      {kit}; its README.md says what to do on the device")
    say(f"exported in {seconds:.0f} s. Next: attnrec-recommend {target} --history A,B,C")


def _cost_table(costs: Sequence[ProfileCost]) -> Table:
    """A row for each profile; changes of NDCG@10 with their paired 95 % interval."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("profile")
    for name in ("MB", "table", "NDCG@10", "to fp32", "overlap", "first"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("us", "p99", "RAM"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in costs:
        price = cost.price
        change, overlap, first = "", "", ""
        if price is not None:
            overlap, first = f"{price.overlap_10:.4f}", f"{price.same_first:.1%}"
            if price.ndcg_change is not None and price.ndcg_interval is not None:
                low, high = price.ndcg_interval
                change = f"{price.ndcg_change:+.2%} ({low:+.2%}..{high:+.2%})"
        table.add_row(
            cost.profile,
            f"{cost.file_mb:.2f}",
            f"{cost.table_mb:.2f}",
            "-" if cost.ndcg is None else f"{cost.ndcg:.4f}",
            change,
            overlap,
            first,
            f"{cost.p50_us:.0f}",
            f"{cost.p99_us:.0f}",
            "-" if cost.memory_mb is None else f"{cost.memory_mb:.0f}",
        )
    return table


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

"""What `attnrec export` does once its options are checked, and what it prints. Needs torch."""

import importlib.util
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from attnrec.cli.bench.served_memory import served_memory
from attnrec.cli.console import err, fail, out, say
from attnrec.cli.file_ids import FileIds
from attnrec.cli.results import plain_table
from attnrec.export import (
    Limits,
    NoProfile,
    ParityFailure,
    ParityReport,
    ProfileCost,
    export,
    export_smallest,
)
from attnrec.export.kit import write_kit
from attnrec.runtime import Recommender
from attnrec.runtime.errors import counted
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.model_file.format import USER
from attnrec.train import Run
from attnrec.train.splits.time_split import shown


@dataclass(frozen=True)
class ExportOptions:
    """Which run becomes which file, and what is required of it."""

    run: Path
    target: Path
    profiles: Sequence[str] | None
    """One, or None: all there are, for the smallest."""
    limits: Limits
    max_mb: float | None
    allow_users: bool
    kit: Path | None
    catalog: Path | None
    allow_smaller: bool
    recent: Path | None
    tags: Sequence[str] | None
    numbers: Sequence[str] | None


def export_run(options: ExportOptions, *, as_json: bool) -> None:
    """Write the file, and the kit, and print what it is; exit code 1 where it may not be."""
    started = time.monotonic()
    run = Run.load(options.run)
    if options.catalog is not None:
        run = run.with_catalog(options.catalog, allow_smaller=options.allow_smaller)
        say(catalogue_line(run.metrics.catalogue or {}))
    if options.recent is not None:
        run = run.with_recent(options.recent)
        newer = run.metrics.newer or {}
        say(
            f"newer    {counted(newer['n_events'], 'event')} until {shown(newer['until'])}, "
            f"{newer['n_unknown']:,} of unknown items"
        )
    if options.allow_users and USER not in run.model.inputs:
        say(f"--allow-users: not used, {run.config.model} knows no users")
    with Progress(console=err, transient=True, disable=err.quiet) as progress:
        try:
            costs = _write(run, options, progress)
        except ParityFailure as failure:
            progress.stop()
            _print_faults(failure.report)
            fail(str(failure), code=1)
        except NoProfile as failure:
            progress.stop()
            err.print(_cost_table(failure.costs))
            fail(f"{failure}. Allow more with {_remedy(options.profiles)}", code=1)
    if options.kit is not None:
        write_kit(options.target, options.kit)
    seconds = time.monotonic() - started
    recommender = Recommender.load(options.target)
    memory = served_memory(options.target)
    if as_json:
        print(json.dumps(_as_json(recommender.info, options, costs, memory, seconds)))
        return
    _print_file(recommender.info, options, costs, memory)
    history, file = FileIds(recommender).as_option, shlex.quote(str(options.target))
    say(f"exported in {seconds:.0f} s. Next: attnrec-recommend {file} --history {history}")


def catalogue_line(counts: Mapping[str, int]) -> str:
    """How many items of each kind a new catalogue has."""
    unlike = counts["n_unlike"]
    note = f" ({unlike:,} of them resemble no trained item)" if unlike else ""
    return (
        f"catalogue {counts['n_trained']:,} trained items, {counts['n_new']:,} new{note}, "
        f"{counts['n_gone']:,} gone"
    )


def _write(run: Run, options: ExportOptions, progress: Progress) -> Sequence[ProfileCost]:
    """Write the file; what the profiles cost, where any was measured."""
    task = progress.add_task("exporting", total=None)

    def tick(done: int, total: int) -> None:
        progress.update(task, description="comparing users", completed=done, total=total)

    def stage(what: str) -> None:
        progress.update(task, description=what)

    if options.profiles == ("fp32",) and options.max_mb is None:
        export(
            run, options.target, tick=tick, allow_users=options.allow_users, tags=options.tags,
            numbers=options.numbers,
        )  # fmt: skip
        return ()
    _, costs = export_smallest(
        run, options.target, options.profiles, limits=options.limits, max_mb=options.max_mb,
        tick=tick, stage=stage, allow_users=options.allow_users, tags=options.tags,
        numbers=options.numbers,
    )  # fmt: skip
    return costs


def _remedy(profiles: Sequence[str] | None) -> str:
    """The options that decide about these profiles; None: all there are."""
    if profiles == ("fp32",):
        return "--max-mb"
    options = "--min-overlap, --max-ndcg-loss or --max-mb"
    return options if profiles is None else f"{options}, or take --profile fp32"


def _as_json(
    info: ModelInfo,
    options: ExportOptions,
    costs: Sequence[ProfileCost],
    memory: Mapping[str, float] | None,
    seconds: float,
) -> dict[str, Any]:
    return {
        "file": str(options.target),
        "kit": None if options.kit is None else str(options.kit),
        "bytes": options.target.stat().st_size,
        "profile": info.profile,
        "n_items": info.n_items,
        "n_users": info.n_users,
        "rules": info.rules,
        "parity": dict(info.parity or {}),
        "metrics": info.metrics,
        "profiles": [cost.to_json() for cost in costs],
        "memory_mb": memory,
        "seconds": round(seconds, 2),
    }


def _print_file(
    info: ModelInfo,
    options: ExportOptions,
    costs: Sequence[ProfileCost],
    memory: Mapping[str, float] | None,
) -> None:
    size = options.target.stat().st_size
    print(f"file     {options.target}  {size / 1e6:.2f} MB, {info.profile}")
    print(
        f"model    {info.model}, {counted(info.n_items, 'item')}, {info.id_type} ids, "
        f"newest {counted(info.max_len, 'event')} count"
    )
    if info.n_users:
        print(
            f"users    WARNING: this file holds {info.n_users:,} user ids ({info.user_id_type}) "
            "and what the model learned of each; keep it as you keep the log"
        )
    if info.rules:
        print(f"rules    {_rules_line(info.rules)}")
    _print_parity(info.parity or {})
    if costs:
        out.print(_cost_table(costs))
    _print_test(info)
    if memory is not None:
        print(
            f"memory   {memory['served']:.0f} MB when served, {memory['reloading']:.0f} MB while "
            "reloading"
        )
    elif importlib.util.find_spec("uvicorn") is None:
        print("memory   not measured without the server: pip install 'attnrec[serve]'")
    if options.kit is not None:
        print(f"kit      {options.kit}; its README.md says what to do on the device")


def _rules_line(rules: Mapping[str, Any]) -> str:
    """What requests may name, in words."""
    tags = [f"{counted(len(own), 'tag')} of {column}" for column, own in rules["tags"].items()]
    ranges = [f"{name} {low:g} to {high:g}" for name, (low, high) in rules["numbers"].items()]
    return ", ".join([*tags, *ranges])


def _print_parity(parity: Mapping[str, Any]) -> None:
    print(
        f"parity   {parity['identical_top_10']:.2%} of {counted(parity['test_users'], 'user')} "
        f"with the identical top 10; largest score difference {parity['largest_difference']:.1e}, "
        f"{parity['largest_share_of_tolerance']:.0%} of what is tolerated"
    )
    if "scan" in parity:
        print(
            f"scan     finds {parity['scan']['found@10']:.2%} of the 10 best items of a user, "
            f"{parity['scan']['found@100']:.2%} of the 100 best"
        )


def _print_test(info: ModelInfo) -> None:
    test = info.metrics.get("test")
    if test:
        whose = f"; of {info.metrics['of']}" if info.final else ""
        print(
            f"test     NDCG@10 {test['ndcg@10']:.4f}, HitRate@10 {test['hit_rate@10']:.4f}{whose}"
        )
    elif info.final:
        print("test     none: every event is known; the file keeps the figures before that")


def _print_faults(report: ParityReport) -> None:
    table = Table("call", "row", "what", title="Where the file differs from the torch model")
    for fault in report.faults:
        table.add_row(fault.call, str(fault.row), fault.what)
    err.print(table)


def _cost_table(costs: Sequence[ProfileCost]) -> Table:
    """A row for each profile; changes of NDCG@10 with their paired 95 % interval."""
    table = plain_table()
    table.add_column("profile")
    for name in ("MB", "table", "NDCG@10", "to fp32", "overlap", "first"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in costs:
        own = cost.cost
        change, overlap, first = "", "", ""
        if own is not None:
            overlap, first = f"{own.overlap_10:.4f}", f"{own.same_first:.1%}"
            if own.ndcg_change is not None and own.ndcg_interval is not None:
                low, high = own.ndcg_interval
                change = f"{own.ndcg_change:+.2%} ({low:+.2%}..{high:+.2%})"
        ndcg = "-" if cost.ndcg is None else f"{cost.ndcg:.4f}"
        sizes = f"{cost.file_mb:.2f}", f"{cost.table_mb:.2f}"
        table.add_row(cost.profile, *sizes, ndcg, change, overlap, first)
    return table

"""What `attnrec-export` prints: the file and its price, or why there is none."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from attnrec.cli.console import err, out, say
from attnrec.cli.file_ids import FileIds
from attnrec.cli.served_memory import served_memory
from attnrec.export import ParityReport, ProfileCost
from attnrec.runtime import Recommender
from attnrec.runtime.errors import counted

_NO_SERVER = "without the server: pip install 'attnrec[serve]'"


def print_faults(report: ParityReport) -> None:
    table = Table("call", "row", "what", title="Where the file differs from the torch model")
    for fault in report.faults:
        table.add_row(fault.call, str(fault.row), fault.what)
    err.print(table)


def print_success(
    target: Path, kit: Path | None, seconds: float, costs: Sequence[ProfileCost], as_json: bool
) -> None:
    recommender = Recommender.load(target)
    info = recommender.info
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
        f"model    {info.model}, {counted(info.n_items, 'item')}, {info.id_type} ids, "
        f"newest {counted(info.max_len, 'event')} count"
    )
    if info.n_users:
        print(
            f"users    WARNING: this file holds {info.n_users:,} user ids ({info.user_id_type}) "
            "and what the model learned of each; keep it as you keep the log"
        )
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
    if costs:
        out.print(cost_table(costs))
    test = info.metrics.get("test")
    if test:
        whose = f"; of {info.metrics['of']}" if info.final else ""
        print(
            f"test     NDCG@10 {test['ndcg@10']:.4f}, HitRate@10 {test['hit_rate@10']:.4f}{whose}"
        )
    elif info.final:
        print("test     none: trained on every event; the file keeps the figures before that")
    if memory is not None:
        print(
            f"memory   {memory['served']:.0f} MB when served, "
            f"{memory['reloading']:.0f} MB while reloading"
            + ("" if memory["with_server"] else f", {_NO_SERVER}")
        )
    if kit is not None:
        print(f"kit      {kit}; its README.md says what to do on the device")
    history = FileIds(recommender).as_option
    file = shlex.quote(str(target))
    say(f"exported in {seconds:.0f} s. Next: attnrec-recommend {file} --history {history}")


def cost_table(costs: Sequence[ProfileCost]) -> Table:
    """A row for each profile; changes of NDCG@10 with their paired 95 % interval."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
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
        table.add_row(
            cost.profile,
            f"{cost.file_mb:.2f}",
            f"{cost.table_mb:.2f}",
            "-" if cost.ndcg is None else f"{cost.ndcg:.4f}",
            change,
            overlap,
            first,
        )
    return table

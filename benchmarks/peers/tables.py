"""The table and the picture of results.json.

    python benchmarks/peers/tables.py [RESULTS.json]

Writes docs/peers.md and docs/peers.png; of another file, peers.md and peers.png beside it.
"""

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
DOCS = RESULTS.parents[2] / "docs"
_BARE = "onnxruntime"  # what ratios are to
_HEAD = """# Beside the alternatives

What answering costs with attnrec, and with what people would use instead. A request is a history
of 50 raw ids and is answered by the 10 best raw ids that are not in it. Every row has a process,
on one core and one thread; all take turns in short blocks, so that what disturbs the machine meets
all alike. Models have the same width, depth (2 blocks of 2 heads), length and catalogue. **Weights
are random: only time and memory are compared here**, quality is in [models](models.md). Ratios are
to onnxruntime on the file that RePlay exports, with id map, mask and top-k by hand, in numpy. They
repeat; milliseconds belong to the machine: {processor}.

`python benchmarks/peers/beside.py` measures all anew, `python benchmarks/peers/tables.py` makes
this page of [its results](../benchmarks/peers/results.json), which hold versions and percentiles.

![Median of one request by catalogue](peers.png)
"""
# Of sasrec to bare onnxruntime: the median of one request at most, users a second at least.
_MOST = {
    "3k": ("fp32", 0.6),
    "12k": ("fp32", 0.7),
    "100k": ("int8", 0.5),
    "100k-wide": ("int8", 0.5),
}
_LEAST_USERS, _MOST_START = 1.5, 1.25
_STARTS = {
    "start": "cold start",
    "memory": "memory",
    "installed": "packages that are imported",
}
_NOTES = """Users a second: batches of 256. Memory: highest resident, from a fresh process to its
first answer. RePlay keeps no compiled model: every process exports and compiles its checkpoint
anew. The feed-forward networks of attnrec are four times as wide as those of RePlay and RecTools.
Fusion looks at the clock and at two kinds of neighbours (one, above 20,000 items)."""
_INSTALLS = """Megabytes without compiled bytecode, pip and setuptools, of packages as pip knows
them. torch eager is of the environment for development."""
Measured = dict[str, Any]
"""What `beside.py` measured of one setting."""


def values(row: Measured) -> dict[str, float]:
    """The figures that are compared, of one row."""
    start = row["start"]
    return {
        "ms": row["one"]["p50_ms"],
        "users": row["users_per_second"],
        "start": start["total_ms"],
        "memory": start["peak_mb"],
        "installed": start["used_mb"],
    }


def ratio(setting: Measured, name: str, key: str) -> float | None:
    """Of a row to bare onnxruntime in the same run; None: it did not run."""
    bare, row = setting["rows"].get(_BARE), setting["rows"].get(name)
    return None if bare is None or row is None else values(row)[key] / values(bare)[key]


def shown(number: float | None) -> str:
    """Three digits that count."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:#.3g}".rstrip(".")


def table(setting: Measured) -> str:
    """Markdown of one setting."""
    lines = [
        f"| {setting['title']} | median, ms | ratio | p99, ms | users a second | ratio "
        "| cold start, ms: imports + load + first answer | ratio | memory, MB | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in setting["rows"].items():
        found, start = values(row), row["start"]
        ratios = {key: shown(ratio(setting, name, key)) for key in found}
        imports = start["python_ms"] + start["import_ms"]
        parts = f"{imports:,.0f} + {start['load_ms']:,.0f} + {start['first_answer_ms']:,.0f}"
        lines.append(
            f"| {row['title']} | {shown(found['ms'])} | {ratios['ms']} "
            f"| {shown(row['one']['p99_ms'])} | {shown(found['users'])} | {ratios['users']} "
            f"| {found['start']:,.0f}: {parts} | {ratios['start']} "
            f"| {found['memory']:,.0f} | {ratios['memory']} |"
        )
    return "\n".join(lines)


def installs(setting: Measured) -> str:
    """Markdown of what is the same in every setting."""
    lines = [
        "| | imports, ms | packages that are imported, MB | ratio | all that pip installs, MB "
        "| what comes back |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for name, row in setting["rows"].items():
        start = row["start"]
        whole = "-" if name == "torch" else shown(start["installed_mb"])  # with tools of ours
        lines.append(
            f"| {row['title']} | {start['import_ms']:,.0f} | {shown(start['used_mb'])} "
            f"| {shown(ratio(setting, name, 'installed'))} | {whole} | {start['comes_back']} |"
        )
    return "\n".join(lines)


def aims(settings: dict[str, Measured]) -> str:
    """Markdown: what `sasrec` is to be, and what it is."""
    lines = ["| `sasrec` to bare onnxruntime | wanted | measured |", "|---|--:|--:|"]
    for key, setting in settings.items():
        profile, most = _MOST[key]
        name, title = f"sasrec-{profile}", f"{setting['title']}, {profile}"
        wanted = [("ms", "median", "at most", most)]
        wanted += [("users", "users a second", "at least", _LEAST_USERS)]
        for what in ("start", "memory", "installed"):
            wanted.append((what, _STARTS[what], "at most", _MOST_START))
        for what, label, bound, limit in wanted:
            found = shown(ratio(setting, name, what))
            lines.append(f"| {title}: {label} | {bound} {limit} | {found} |")
    return "\n".join(lines)


def page(results: dict[str, Any]) -> str:
    """The whole document."""
    settings = results["settings"]
    first = next(iter(settings.values()))
    parts = [_HEAD.format(**results["machine"])]
    parts += [f"\n{table(setting)}\n" for setting in settings.values()]
    parts.append(f"\n{_NOTES}\n\n{installs(first)}\n\n{_INSTALLS}\n\n{aims(settings)}\n")
    return "".join(parts)


def draw(settings: dict[str, Measured], path: Path) -> None:
    """A panel for each setting, a bar for each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3), layout="constrained")
    panels = figure.subplots(1, len(settings), squeeze=False)[0]
    for axes, setting in zip(panels, settings.values(), strict=True):
        names = list(setting["rows"])
        found = [values(row)["ms"] for row in setting["rows"].values()]
        colours = ["tab:blue" if _is_ours(name) else "tab:gray" for name in names]
        bars = axes.barh(names, found, color=colours, alpha=0.7, height=0.7)
        axes.bar_label(bars, [shown(ms) for ms in found], padding=3, fontsize=8)
        axes.set_xscale("log")
        axes.set_xlim(right=max(found) * 5)
        axes.set_title(setting["title"], fontsize=9)
        axes.invert_yaxis()
        axes.tick_params(labelsize=8, labelleft=axes is panels[0] or len(names) != len(panels))
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("median of one request, ms; blue: attnrec", fontsize=9)
    figure.savefig(path, dpi=110)


def _is_ours(name: str) -> bool:
    return name.startswith(("sasrec-", "fusion-"))


def write_tables(results_file: Path) -> None:
    """Make the page and the picture of a file of results: in docs, or beside another file."""
    docs = DOCS if results_file == RESULTS else results_file.parent
    results = json.loads(results_file.read_text())
    (docs / "peers.md").write_text(page(results))
    draw(results["settings"], docs / "peers.png")


if __name__ == "__main__":
    write_tables(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)

"""The page and the picture of results.json and faiss.json.

    python benchmarks/peers/tables.py

Writes docs/peers.md and docs/peers.png.
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
FAISS_RESULTS = RESULTS.with_name("faiss.json")
_DOCS = RESULTS.parents[2] / "docs"
_BARE = "onnxruntime"  # what ratios are to
# Of sasrec to bare onnxruntime: the median of one request at most, users a second at least.
_LIMITS = {"3k": ("fp32", 0.6), "12k": ("fp32", 0.7), "100k": ("int8", 0.5)}
_LIMITS["100k-wide"] = _LIMITS["100k"]
_LEAST_USERS = 1.5
_MOST_ELSE = "at most 1.25"
_BATCH = 256
_NAMES = {
    "ms": "median of one request",
    "processor": "the same, processor time",
    "users": "users a second",
    "start": "cold start",
    "start_processor": "the same, processor time",
    "memory": "memory",
    "installed": "packages that are imported",
}
_HEAD = """# Compared with the alternatives

What an answer costs with attnrec, and with what people would use instead. A request is a history
of 50 raw ids and is answered by the 10 best raw ids that are not in it. Every row has a process,
on one core and one thread; all take turns in short blocks, so that what disturbs the machine meets
all alike. Models have the same width, depth (2 blocks of 2 heads), length and catalogue; but see
`fusion` below.
**Weights are random: only time and memory are compared here**; quality is in [models](models.md).
Ratios are to onnxruntime on the file that RePlay exports, with id map, padding, mask and top-k in
numpy, as an expert writes them. They repeat; milliseconds belong to the machine ({processor}).

`python benchmarks/peers/beside.py` measures all anew: about a quarter of an hour, and ten minutes
and 4 GB before it, once, for the environments of the peers. [Its
results](../benchmarks/peers/results.json) hold versions and percentiles;
`python benchmarks/peers/tables.py` makes this page of them.

![Median of one request by catalogue](peers.png)
"""
_NOTES = """Ratios in brackets are of processor time: without the time in which others had the
core, which on a busy machine makes long calls longer than short ones. Users a second of one core:
batches of 256, by processor time. Cold start: from nothing to the first answer. Memory: highest
resident by then. RePlay keeps no compiled model: every process exports and compiles its checkpoint
anew. The feed-forward networks of attnrec are four times as wide as those of RePlay and RecTools.
`fusion` has one block up to 5,000 items, as it takes for a small log of so few. It counts two
kinds of neighbours (one, above 20,000 items) as well, and is asked without times."""
_STEPS = ("load", "first_answer")
_INSTALLS = """Of the first catalogue. Megabytes without compiled bytecode, pip and setuptools, of
packages as pip knows them. torch eager is of the environment for development."""
_FAISS_HEAD = """## A million items, compared with faiss

attnrec answers the whole request; faiss scans for a state that is there already. Overlap of the
ten items is with the exact scan of the same side, of synthetic vectors, an untrained model: of
a trained one `attnrec-export` says it. `python benchmarks/peers/faiss_scan.py`
"""
Measured = dict[str, Any]
"""What was measured of one catalogue."""


def values(row: dict[str, Any]) -> dict[str, float]:
    """The figures of a row that are compared."""
    one, start = row["one"], row["start"]
    return {
        "ms": one["p50_ms"],
        "processor": one["processor_ms"],
        "users": 1e3 * _BATCH / row["batch"]["processor_ms"],
        "start": start["total_ms"],
        "start_processor": start["processor_ms"],
        "memory": start["peak_mb"],
        "installed": start["used_mb"],
    }


def ratio(setting: Measured, name: str, key: str) -> float | None:
    """Of a row to bare onnxruntime in the same run; None: one of them did not run."""
    bare, row = setting["rows"].get(_BARE), setting["rows"].get(name)
    return None if bare is None or row is None else values(row)[key] / values(bare)[key]


def shown(number: float | None) -> str:
    """Three digits that count."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:#.3g}".rstrip(".")


def table(setting: Measured) -> str:
    """Markdown of one catalogue."""
    lines = [
        f"| {setting['title']} | median, ms | ratio | p99, ms | users a second | ratio "
        "| cold start, ms | ratio | memory, MB | ratio |",
        "|---|" + "--:|" * 9,
    ]
    for name, row in setting["rows"].items():
        found = values(row)
        ratios = {key: shown(ratio(setting, name, key)) for key in found}
        lines.append(
            f"| {row['title']} | {shown(found['ms'])} | {ratios['ms']} ({ratios['processor']}) "
            f"| {shown(row['one']['p99_ms'])} | {shown(found['users'])} | {ratios['users']} "
            f"| {found['start']:,.0f} | {ratios['start']} ({ratios['start_processor']}) "
            f"| {found['memory']:,.0f} | {ratios['memory']} |"
        )
    return "\n".join(lines)


def installs(setting: Measured) -> str:
    """Markdown of what hardly depends on the catalogue."""
    lines = [
        "| | imports + load + first answer, ms | packages that are imported, MB | ratio "
        "| all that pip installs, MB | what comes back |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for name, row in setting["rows"].items():
        start = row["start"]
        steps = (start["python_ms"] + start["import_ms"], *(start[f"{s}_ms"] for s in _STEPS))
        whole = "-" if name == "torch" else shown(start["installed_mb"])
        lines.append(
            f"| {row['title']} | {' + '.join(f'{ms:,.0f}' for ms in steps)} "
            f"| {shown(start['used_mb'])} | {shown(ratio(setting, name, 'installed'))} "
            f"| {whole} | {start['comes_back']} |"
        )
    return "\n".join(lines)


def limits(settings: dict[str, Measured]) -> str:
    """Markdown: what `sasrec` may cost beside bare onnxruntime, and what it costs."""
    lines = [f"| measured (limit) | {' | '.join(_NAMES.values())} |"]
    lines.append("|---|" + "--:|" * len(_NAMES))
    for key, setting in settings.items():
        profile, most = _LIMITS[key]
        bounds = {"users": f"at least {_LEAST_USERS}"}
        bounds |= {name: f"at most {most}" for name in ("ms", "processor")}
        found = {name: ratio(setting, f"sasrec-{profile}", name) for name in _NAMES}
        cells = [f"{shown(found[n])} ({bounds.get(n, _MOST_ELSE)})" for n in _NAMES]
        lines.append(f"| {setting['title']}, {profile} | {' | '.join(cells)} |")
    return "\n".join(lines)


def faiss_table(measured: Measured) -> str:
    """Markdown of the scan of a large catalogue."""
    rows = measured["rows"]
    lines = [
        f"| {measured['title']} | median, ms | to IndexFlatIP | to SQ8 | p99, ms | overlap@10 "
        "| load, ms | memory, MB |",
        "|---|" + "--:|" * 7,
    ]
    for row in rows.values():
        one, start = row["one"], row["start"]
        ratios = {}
        for name in ("faiss-flat", "faiss-sq8"):
            other = rows[name]["one"]
            clock, used = (one[key] / other[key] for key in ("p50_ms", "processor_ms"))
            ratios[name] = f"{shown(clock)} ({shown(used)})"
        lines.append(
            f"| {row['title']} | {shown(one['p50_ms'])} | {' | '.join(ratios.values())} "
            f"| {shown(one['p99_ms'])} | {row['overlap@10']:.4f} "
            f"| {start['load_ms']:,.0f} | {start['peak_mb']:,.0f} |"
        )
    return "\n".join(lines)


def page(results: dict[str, Any], faiss: Measured | None) -> str:
    """The whole document."""
    settings = results["settings"]
    parts = [_HEAD.format(**results["machine"]), *(table(found) for found in settings.values())]
    parts += [_NOTES, installs(next(iter(settings.values()))), _INSTALLS]
    parts += ["## Compared with bare onnxruntime\n\nRatios of `sasrec`:", limits(settings)]
    if faiss is not None:
        parts += [_FAISS_HEAD.rstrip(), faiss_table(faiss)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def draw(settings: dict[str, Measured], path: Path) -> None:
    """A panel for each catalogue, a dot for each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.8), layout="constrained")
    panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    for axes, setting in zip(panels, settings.values(), strict=True):
        names = list(setting["rows"])
        found = [values(row)["ms"] for row in setting["rows"].values()]
        ours = [name.startswith(("sasrec-", "fusion-")) for name in names]
        colours = ["tab:blue" if own else "tab:gray" for own in ours]
        axes.scatter(found, names, c=colours)
        for ms, name in zip(found, names, strict=True):
            axes.annotate(shown(ms), (ms, name), (6, -3), textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.set_xlim(min(found) / 2, max(found) * 6)
        axes.grid(axis="x", alpha=0.3)
        axes.set_title(setting["title"], fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.supxlabel("median of one request, ms, logarithmic; blue: attnrec", fontsize=9)
    figure.savefig(path, dpi=110)


def write_tables(results_file: Path = RESULTS) -> None:
    """Make the page and the picture: in docs, or beside another file of results."""
    folder = _DOCS if results_file == RESULTS else results_file.parent
    results = json.loads(results_file.read_text())
    faiss_file = results_file.with_name(FAISS_RESULTS.name)
    faiss = json.loads(faiss_file.read_text()) if faiss_file.exists() else None
    (folder / "peers.md").write_text(page(results, faiss))
    draw(results["settings"], folder / "peers.png")


if __name__ == "__main__":
    write_tables()

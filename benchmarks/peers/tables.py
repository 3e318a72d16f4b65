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
_MOST = {"start": 1.25, "memory": 1.25, "installed": 1.25}
_NAMES = {
    "ms": "median of one request",
    "users": "users a second",
    "start": "cold start",
    "memory": "memory",
    "installed": "packages that are imported",
}
_HEAD = """# Beside the alternatives

What an answer costs with attnrec, and with what people would use instead. A request is a history
of 50 raw ids and is answered by the 10 best raw ids that are not in it. Every row has a process,
on one core and one thread; all take turns in short blocks, so that what disturbs the machine meets
all alike. Models have the same width, depth (2 blocks of 2 heads), length and catalogue.
**Weights are random: only time and memory are compared here**; quality is in [models](models.md).
Ratios are to onnxruntime on the file that RePlay exports, with id map, padding, mask and top-k in
numpy, as an expert writes them. They repeat; milliseconds belong to the machine ({processor}).

`python benchmarks/peers/beside.py` measures all anew: about a quarter of an hour, and ten minutes
and 4 GB before it, once, for the environments of the peers. [Its
results](../benchmarks/peers/results.json) hold versions and percentiles;
`python benchmarks/peers/tables.py` makes this page of them.

![Median of one request by catalogue](peers.png)
"""
_NOTES = """Users a second: batches of 256. Memory: highest resident, from a fresh process to its
first answer. RePlay keeps no compiled model: every process exports and compiles its checkpoint
anew. The feed-forward networks of attnrec are four times as wide as those of RePlay and RecTools.
`fusion` counts two kinds of neighbours (one, above 20,000 items) as well, and is asked without
times."""
_INSTALLS = """Megabytes without compiled bytecode, pip and setuptools, of packages as pip knows
them. torch eager is of the environment for development."""
_FAISS_HEAD = """## A million items beside faiss

attnrec answers the whole request; faiss scans for a state that is there already. Overlap of the
ten items is with the exact scan of the same side, of made-up vectors under an untrained model: of
a trained one `attnrec-export` says it. `python benchmarks/peers/faiss_scan.py`
"""
Measured = dict[str, Any]
"""What was measured of one catalogue."""


def values(row: dict[str, Any]) -> dict[str, float]:
    """The figures of a row that are compared."""
    start = row["start"]
    return {
        "ms": row["one"]["p50_ms"],
        "users": row["users_per_second"],
        "start": start["total_ms"],
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
    """Markdown of what hardly depends on the catalogue."""
    lines = [
        "| | imports, ms | packages that are imported, MB | ratio | all that pip installs, MB "
        "| what comes back |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for name, row in setting["rows"].items():
        start = row["start"]
        whole = "-" if name == "torch" else shown(start["installed_mb"])
        lines.append(
            f"| {row['title']} | {start['import_ms']:,.0f} | {shown(start['used_mb'])} "
            f"| {shown(ratio(setting, name, 'installed'))} | {whole} | {start['comes_back']} |"
        )
    return "\n".join(lines)


def limits(settings: dict[str, Measured]) -> str:
    """Markdown: what `sasrec` may cost beside bare onnxruntime, and what it costs."""
    names = list(_NAMES)
    head = " | ".join(_NAMES[name] for name in names)
    lines = [f"| measured (limit) | {head} |", "|---|" + "--:|" * len(names)]
    for key, setting in settings.items():
        profile, most = _LIMITS[key]
        bounds = {"ms": f"at most {most}", "users": f"at least {_LEAST_USERS}"}
        bounds |= {name: f"at most {limit}" for name, limit in _MOST.items()}
        found = {name: shown(ratio(setting, f"sasrec-{profile}", name)) for name in names}
        cells = " | ".join(f"{found[name]} ({bounds[name]})" for name in names)
        lines.append(f"| {setting['title']}, {profile} | {cells} |")
    return "\n".join(lines)


def faiss_table(measured: Measured) -> str:
    """Markdown of the scan of a large catalogue."""
    rows = measured["rows"]
    lines = [
        f"| {measured['title']} | median, ms | to IndexFlatIP | to SQ8 | p99, ms | overlap@10 "
        "| load, ms | memory, MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    flat, codes = (rows[name]["one"]["p50_ms"] for name in ("faiss-flat", "faiss-sq8"))
    for row in rows.values():
        one, start = row["one"], row["start"]
        lines.append(
            f"| {row['title']} | {shown(one['p50_ms'])} | {one['p50_ms'] / flat:.3f} "
            f"| {one['p50_ms'] / codes:.3f} | {shown(one['p99_ms'])} | {row['overlap@10']:.4f} "
            f"| {start['load_ms']:,.0f} | {start['peak_mb']:,.0f} |"
        )
    return "\n".join(lines)


def page(results: dict[str, Any], faiss: Measured | None) -> str:
    """The whole document."""
    settings = results["settings"]
    parts = [_HEAD.format(**results["machine"]), *(table(found) for found in settings.values())]
    parts += [_NOTES, installs(next(iter(settings.values()))), _INSTALLS]
    parts += ["## Beside bare onnxruntime\n\nRatios of `sasrec`:", limits(settings)]
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

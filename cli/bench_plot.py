"""The picture of `attnrec-bench`: latency, throughput by batch and by threads, cold start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnrec.cli.bench_advice import Facts, Timings, one_by_one, usual
from attnrec.runtime.files import replace_file
from attnrec.runtime.measuring import BATCHES

_STEPS = {
    "python_numpy_ms": "Python, numpy",
    "onnxruntime_ms": "onnxruntime",
    "attnrec_ms": "attnrec",
    "load_ms": "load",
    "first_answer_ms": "first answer",
}


def draw(path: Path, facts: Facts, timings: Timings) -> None:
    """Write the PNG."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    (by_length, by_batch), (by_thread, start) = figure.subplots(2, 2)
    for name, rows in timings.items():
        short = Path(name).name
        lengths = {str(n): timing for n, timing in one_by_one(rows).items()}
        (line,) = by_length.plot(
            lengths.keys(), [t.p50_us for t in lengths.values()], marker="o", label=short
        )
        speed = {kind: t.histories_per_second for kind, t in usual(rows).items()}
        color = line.get_color()
        by_batch.plot(
            [str(b) for b in BATCHES], [speed[b, 1, 1] for b in BATCHES], marker="o", color=color
        )
        askers = {1: speed[1, 1, 1]} | {a: v for (b, n, a), v in speed.items() if b == n == 1}
        by_thread.plot([str(a) for a in askers], list(askers.values()), marker="o", color=color)
    by_length.legend(frameon=False)
    _dress(by_length, "microseconds of an answer, median", "events of the history")
    _dress(by_batch, "histories a second, one thread", "histories of a call")
    _dress(by_thread, "histories a second, one at a time", "Python threads that share a file")
    for place, fact in enumerate(facts):
        _bar(start, place, fact["cold_start"])
    start.set_yticks(range(len(facts)), [Path(fact["file"]).name for fact in facts])
    start.invert_yaxis()
    start.set_xlim(right=1.25 * max(fact["cold_start"]["total_ms"] for fact in facts))
    handles = start.containers[: len(_STEPS)]
    start.legend(handles, _STEPS.values(), ncols=3, frameon=False, loc="upper center",
                 bbox_to_anchor=(0.5, -0.12))  # fmt: skip
    start.set_title("milliseconds of a fresh process, and its memory")
    start.spines[["top", "right"]].set_visible(False)
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _dress(axes: Axes, title: str, what: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(what)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _bar(axes: Axes, place: int, start: Mapping[str, Any]) -> None:
    """One stacked bar, a part for each step."""
    left = 0.0
    for number, name in enumerate(_STEPS):
        axes.barh(place, start[name], left=left, height=0.5, color=f"C{number}", alpha=0.8)
        left += start[name]
    memory = start["answer_mb"]
    if memory is not None:
        axes.text(left, place, f" {memory:.0f} MB", va="center")

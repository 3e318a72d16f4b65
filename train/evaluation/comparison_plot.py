"""A picture of a comparison of files."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnrec.runtime.files import replace_file
from attnrec.train.evaluation.comparison import Comparison, FileFigures


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """NDCG@10 and HitRate@10 of each file with their 95 % intervals, best first, as PNG.

    Below it NDCG@10 by days since the training, and against the variety of lists, where there are
    such figures.
    """
    files = comparison.best_first
    height = 1.4 + 0.5 * len(files)
    below = [
        draw
        for draw, there in ((_draw_ages, files[0].by_age), (_draw_curves, files[0].by_diversity))
        if there
    ]
    figure = Figure(figsize=(8, height + 3 * len(below)), layout="constrained")
    parts = figure.subplots(
        1 + len(below), height_ratios=[height, *[3] * len(below)], squeeze=False
    )
    axes, *others = parts[:, 0]
    for draw, part in zip(below, others, strict=True):
        draw(part, files)
    kinds = (("ndcg@10", "NDCG@10", "tab:blue"), ("hit_rate@10", "HitRate@10", "tab:gray"))
    for offset, (name, label, colour) in zip((-0.15, 0.15), kinds, strict=True):
        means = [file.metrics.values[name] for file in files]
        ends = [file.metrics.intervals[name] for file in files]
        reach = [
            [mean - low for mean, (low, _) in zip(means, ends, strict=True)],
            [high - mean for mean, (_, high) in zip(means, ends, strict=True)],
        ]
        places = [row + offset for row in range(len(files))]
        axes.errorbar(means, places, xerr=reach, fmt="o", color=colour, capsize=3, label=label)
    axes.set_yticks(range(len(files)), [_label(file) for file in files], parse_math=False)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylim(len(files) - 0.5, -0.5)  # the best on top
    axes.set_xlim(left=0)
    n_users = files[0].metrics.n_users
    axes.set_xlabel(f"{comparison.split}, {comparison.part}: {n_users:,} users, 95 % intervals")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="best")
    axes.spines[["top", "right"]].set_visible(False)
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _draw_ages(axes: Axes, files: Sequence[FileFigures]) -> None:
    for file in files:
        days = [(window["from_days"] + window["to_days"]) / 2 for window in file.by_age]
        low, high = zip(*(window["ndcg@10_interval"] for window in file.by_age), strict=True)
        (line,) = axes.plot(days, [w["ndcg@10"] for w in file.by_age], "o-", label=_label(file))
        axes.fill_between(days, low, high, color=line.get_color(), alpha=0.15)
    axes.set_xlabel("days since the last event that the file has seen")
    axes.set_ylabel("NDCG@10")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curves(axes: Axes, files: Sequence[FileFigures]) -> None:
    """NDCG@10 against how different the items of a list are."""
    for file in files:
        name = next(n for n in ("diversity_by_vectors@10", "diversity_by_tags@10", "coverage@10")
                    if n in file.by_diversity[0])  # fmt: skip
        points = [
            (point[name], point["ndcg@10"], point["diversity"]) for point in file.by_diversity
        ]
        axes.plot([x for x, *_ in points], [y for _, y, _ in points], "o-", label=_label(file))
        for x, y, value in points:
            axes.annotate(
                f"{value:g}", (x, y), textcoords="offset points", xytext=(5, 5), fontsize=8
            )
        axes.set_xlabel(name.replace("_", " "))
    axes.set_ylabel("NDCG@10")
    axes.set_ylim(0, 1.15 * max(p["ndcg@10"] for file in files for p in file.by_diversity) or 1)
    axes.legend(fontsize=8, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)


def _label(file: FileFigures) -> str:
    """The model and the end of its path, which distinguishes the files."""
    return f"{file.model}\n{Path(*Path(file.path).parts[-2:])}"

"""The profiles of a model as a picture: size against quality."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from attnrec.export.quantize.cost import ProfileCost


def draw_profiles(costs: Sequence[ProfileCost], chosen: str, path: Path) -> None:
    """NDCG@10 and overlap@10 of each profile over the size of its file, as PNG.

    NDCG@10 with the paired 95 % interval of its difference to fp32, whose own is none.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    quality, overlap = figure.subplots(1, 2)
    for cost in costs:
        colour = "tab:blue" if cost.profile == chosen else "tab:gray"
        interval = None if cost.price is None else cost.price.ndcg_interval
        if cost.ndcg is not None:
            exact = next(c.ndcg for c in costs if c.price is None)
            ends = [(exact or 0) * (1 + end) for end in interval or (0, 0)]
            reach = [[max(0, cost.ndcg - ends[0])], [max(0, ends[1] - cost.ndcg)]]
            quality.errorbar(
                [cost.file_mb], [cost.ndcg], yerr=reach, fmt="o", color=colour, capsize=3
            )
            _name(quality, cost.profile, cost.file_mb, cost.ndcg)
        same = 1.0 if cost.price is None else cost.price.overlap_10
        overlap.plot([cost.file_mb], [same], "o", color=colour)
        _name(overlap, cost.profile, cost.file_mb, same)
    quality.set_title("NDCG@10, test")
    overlap.set_title("share of the exact top 10")
    for axes in (quality, overlap):
        axes.set_xlabel("megabytes of the file")
        axes.set_xlim(left=0, right=1.15 * max(cost.file_mb for cost in costs))
        axes.margins(y=0.3)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png")


def _name(axes: Any, profile: str, x: float, y: float) -> None:
    axes.annotate(profile, (x, y), xytext=(6, 6), textcoords="offset points")

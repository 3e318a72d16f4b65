"""The pictures of a search."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from attnrec.train.report.charts import INK, OTHER, OWN, SOFT, Chart, chart, page_style

_WIDTH = 5.0  # inches, as in `charts`
_MOST_BARS = 8
_DASHED = (0, (4, 3))

Told = Mapping[str, Any]


def search_charts(search: Told | None) -> dict[str, Any]:
    """By their places in the page; none without a search, or where it had one trial."""
    if search is None or len(search["trials"]) == 1:
        return {}
    importance = search["importance"]
    return {
        "search": progress_chart(search),
        "importance": importance_chart(importance) if importance else None,
    }


def progress_chart(told: Told) -> Chart:
    """Each finished trial, and the best so far, over the minutes."""
    finished = [trial for trial in told["trials"] if trial["outcome"] in ("done", "cut short")]
    minutes = [trial["after"] / 60 for trial in finished]
    ndcg = [trial["ndcg@10"] for trial in finished]
    best = [max(ndcg[: n + 1]) for n in range(len(ndcg))]
    with page_style():
        figure = Figure(figsize=(_WIDTH, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.axhline(ndcg[0], color=SOFT, linewidth=0.9, linestyle=_DASHED)
        end = max(told["seconds"] / 60, minutes[-1])
        axes.step([*minutes, end], [*best, best[-1]], color=OWN, where="post", label="best so far")
        axes.plot(
            minutes, ndcg, color=OTHER, linestyle="", marker="o", markersize=4, label="trial"
        )
        axes.set_xlim(left=0)
        axes.set_xlabel("minutes of the search")
        axes.set_ylabel("validation NDCG@10")
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.6)
        return chart(
            figure, f"Best validation NDCG@10 so far: {ndcg[0]:.4f} by the recipe, {best[-1]:.4f}"
        )


def importance_chart(importance: Mapping[str, float]) -> Chart:
    """Settings as bars, most important first."""
    names = list(importance)[:_MOST_BARS]
    with page_style():
        figure = Figure(figsize=(_WIDTH, 0.8 + 0.26 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(names)), [importance[name] for name in names], 0.62, color=OWN)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)  # the first on top
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.set_xlabel("share of the differences")
        axes.grid(axis="x")
        axes.spines["left"].set_color(SOFT)
        shares = ", ".join(f"{name} {importance[name]:.0%}" for name in names)
        return chart(figure, f"Bars of what mattered: {shares}")

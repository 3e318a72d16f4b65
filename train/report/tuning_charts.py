"""The pictures of a search."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from attnrec.train.fitting.config import value_text
from attnrec.train.report.charts import INK, OTHER, OWN, SOFT, Chart, chart, page_style

_WIDTH = 5.0  # inches, as in `charts`
_SMALL_WIDTH = 2.9
_LEAST_TRIALS, _MOST_SETTINGS = 3, 6
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
        "settings": setting_charts(search),
    }


def progress_chart(told: Told) -> Chart:
    """Each finished trial, and the best so far, over the minutes."""
    finished = [trial for trial in told["trials"] if _counts(trial)]
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


def setting_charts(told: Told) -> list[Chart]:
    """NDCG@10 by the value of each setting that mattered most; none where too little was tried."""
    trials = [trial for trial in told["trials"] if trial["expected"] is not None]
    names = [name for name in told["importance"] or told["space"] if _is_varied(name, trials)]
    if len(trials) < _LEAST_TRIALS:
        return []
    return [_setting_chart(name, told, trials) for name in names[:_MOST_SETTINGS]]


def _counts(trial: Told) -> bool:
    return trial["outcome"] in ("done", "cut short")


def _is_varied(name: str, trials: Sequence[Told]) -> bool:
    return len({trial["values"][name] for trial in trials}) > 1


def _setting_chart(name: str, told: Told, trials: Sequence[Told]) -> Chart:
    with page_style():
        figure = Figure(figsize=(_SMALL_WIDTH, 2.0), layout="constrained")
        axes = figure.subplots()
        place = _place_values(axes, told["space"][name], told["recipe"][name])
        axes.axvline(place(told["recipe"][name]), color=SOFT, linestyle=_DASHED, zorder=0)
        for is_done, size, fill in ((False, 3.5, "none"), (True, 4.5, OWN)):
            shown = [trial for trial in trials if _counts(trial) == is_done]
            x = [place(trial["values"][name]) for trial in shown]
            y = [trial["expected"] for trial in shown]
            axes.plot(x, y, "o", color=OWN, markerfacecolor=fill, markersize=size, clip_on=False)
        best = told["trials"][told["best"]]
        x, y = [place(best["values"][name])], [best["expected"]]
        axes.plot(
            x, y, "o", color=OTHER, markerfacecolor="none", markersize=9, markeredgewidth=1.6,
            clip_on=False,
        )  # fmt: skip
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(name, fontsize=9.5, loc="left", color=INK, parse_math=False)
        axes.grid(axis="y")
        return chart(figure, f"NDCG@10 of each trial by its {name}")


def _place_values(axes: Axes, wanted: Sequence[Any], recipe: Any) -> Callable[[Any], float]:
    """Prepare the axis for the values of a setting; returns where each of them is."""
    if not isinstance(recipe, float):  # one of some values; floats are between two ends
        choices = list(wanted)
        axes.set_xticks(range(len(choices)), [value_text(c) for c in choices], parse_math=False)
        axes.set_xlim(-0.5, len(choices) - 0.5)
        return choices.index
    low, high = wanted
    margin = (high - low) * 0.06
    if low > 0 and high / low > 2:
        axes.set_xscale("log")
        axes.set_xlim(low * (low / high) ** 0.06, high * (high / low) ** 0.06)
    else:
        axes.set_xlim(low - margin, high + margin)
    axes.set_xticks([low, recipe, high] if low < recipe else [low, high])
    axes.xaxis.set_major_formatter(lambda value, _: value_text(value))
    axes.xaxis.set_minor_locator(NullLocator())
    return float

"""The pictures of a run report, as SVG."""

import base64
import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attnrec.train.fitting.state import EpochRecord
from attnrec.train.report.verdicts import ndcg_of

_WIDTH = 5.0  # inches, that is 360 units of SVG: text is legible on a phone
_INK, _SOFT, _LINE, _OWN, _OTHER = "#1b1f24", "#57606a", "#d0d7de", "#0b5cad", "#c2700c"
_MOST_BARS = 8  # settings that a search varied
_STYLE = {
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _SOFT,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "svg.hashsalt": "attnrec",  # the same run gives the same page
}

Figures = Mapping[str, Any]


class Chart(NamedTuple):
    """A picture inside the page."""

    source: str
    """A data: URL of an SVG."""
    description: str
    """What it says, for those who do not see it."""


def _page_style() -> AbstractContextManager[None]:
    """The settings of matplotlib to draw with."""
    settings: dict[Any, Any] = _STYLE
    return matplotlib.rc_context(settings)


def _chart(figure: Figure, description: str) -> Chart:
    """The figure as it goes into the page."""
    drawn = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(drawn, format="svg", metadata=nothing)
    encoded = base64.b64encode(drawn.getvalue()).decode()
    return Chart(f"data:image/svg+xml;base64,{encoded}", description)


def models_chart(own_name: str, own: Figures, others: Sequence[Figures]) -> Chart:
    """NDCG@10 of the run and of the traditional models as bars with intervals, best first."""
    rows = [(own_name, own, _OWN), *((model["model"], model, _OTHER) for model in others)]
    rows.sort(key=lambda row: -row[1]["ndcg@10"])
    with _page_style():
        figure = Figure(figsize=(_WIDTH, 0.7 + 0.36 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, (_, model, colour) in enumerate(rows):
            _bar(axes, place, model, colour, height=0.62)
        _finish(axes, [name for name, _, _ in rows])
        for label, (_, _, colour) in zip(axes.get_yticklabels(), rows, strict=True):
            if colour == _OWN:
                label.set_color(_OWN)
                label.set_fontweight("bold")
        figures = ", ".join(f"{name} {model['ndcg@10']:.4f}" for name, model, _ in rows)
        return _chart(figure, f"Bars of validation NDCG@10, best first: {figures}")


def slices_chart(own_name: str, own: Figures, other: Figures | None) -> Chart:
    """NDCG@10 in every slice, of the run and of the best traditional model."""
    names = list(own["slices"])
    shown = [(own_name, own, _OWN)] + ([] if other is None else [(other["model"], other, _OTHER)])
    height = 0.74 / len(shown)
    with _page_style():
        figure = Figure(figsize=(_WIDTH, 1.0 + 0.46 * len(names)), layout="constrained")
        axes = figure.subplots()
        for number, (label, model, colour) in enumerate(shown):
            shift = (number - (len(shown) - 1) / 2) * height
            for place, name in enumerate(names):
                bar = _bar(axes, place + shift, model["slices"][name], colour, height * 0.92)
            bar.set_label(label)
        _finish(axes, [slice_label(name) for name in names])
        figure.legend(loc="outside upper left", ncols=2, handlelength=1)
        return _chart(figure, "Bars of validation NDCG@10 by slice; the table has the figures")


def loss_chart(epochs: Sequence[EpochRecord]) -> Chart:
    """Training loss over the epochs."""
    number, loss = [e.epoch for e in epochs], [e.loss for e in epochs]
    with _page_style():
        figure = Figure(figsize=(_WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.plot(number, loss, color=_INK, marker="o", markersize=3.5)
        _over_epochs(axes)
        axes.set_ylabel("training loss")
        return _chart(figure, f"Training loss: {loss[0]:.3f} at first, {loss[-1]:.3f} at the end")


def quality_chart(epochs: Sequence[EpochRecord], best_epoch: int) -> Chart:
    """Validation NDCG@10 over the epochs, and the gap to answers that were trained on."""
    number, valid = [e.epoch for e in epochs], [ndcg_of(e) for e in epochs]
    seen = [e.seen_ndcg for e in epochs if e.seen_ndcg is not None]
    with _page_style():
        figure = Figure(figsize=(_WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.axvline(best_epoch, color=_LINE, zorder=0)
        if len(seen) == len(epochs):  # there is somebody to ask
            axes.fill_between(number, valid, seen, color=_OTHER, alpha=0.14, linewidth=0)
            axes.plot(number, seen, color=_OTHER, marker="s", markersize=3.5, label="trained on")
        axes.plot(number, valid, color=_OWN, marker="o", markersize=3.5, label="validation")
        _over_epochs(axes)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("NDCG@10")
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.6)
        best = valid[best_epoch - 1]
        return _chart(figure, f"Validation NDCG@10 by epoch: best {best:.4f}, epoch {best_epoch}")


def search_charts(search: Figures | None) -> dict[str, Chart | None]:
    """By their places in the page; none without a search, or where it had one trial."""
    if search is None or len(search["trials"]) == 1:
        return {}
    importance = search["importance"]
    return {
        "search": _progress_chart(search),
        "importance": _importance_chart(importance) if importance else None,
    }


def _progress_chart(search: Figures) -> Chart:
    """Each finished trial, and the best so far, over the minutes."""
    finished = [trial for trial in search["trials"] if trial["outcome"] in ("done", "cut short")]
    minutes = [trial["after"] / 60 for trial in finished]
    ndcg = [trial["ndcg@10"] for trial in finished]
    best = [max(ndcg[: n + 1]) for n in range(len(ndcg))]
    with _page_style():
        figure = Figure(figsize=(_WIDTH, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.axhline(ndcg[0], color=_SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
        end = max(search["seconds"] / 60, minutes[-1])
        axes.step(
            [*minutes, end], [*best, best[-1]], color=_OWN, where="post", label="best so far"
        )
        axes.plot(
            minutes, ndcg, color=_OTHER, linestyle="", marker="o", markersize=4, label="trial"
        )
        axes.set_xlim(left=0)
        axes.set_xlabel("minutes of the search")
        axes.set_ylabel("validation NDCG@10")
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.6)
        return _chart(
            figure, f"Best validation NDCG@10 so far: {ndcg[0]:.4f} by the recipe, {best[-1]:.4f}"
        )


def _importance_chart(importance: Mapping[str, float]) -> Chart:
    """Settings as bars, most important first."""
    names = list(importance)[:_MOST_BARS]
    with _page_style():
        figure = Figure(figsize=(_WIDTH, 0.8 + 0.26 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(names)), [importance[name] for name in names], 0.62, color=_OWN)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        axes.set_ylim(len(names) - 0.5, -0.5)  # the first on top
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.set_xlabel("share of the differences")
        axes.grid(axis="x")
        axes.spines["left"].set_color(_SOFT)
        shares = ", ".join(f"{name} {importance[name]:.0%}" for name in names)
        return _chart(figure, f"Bars of what mattered: {shares}")


def slice_label(name: str) -> str:
    """What a slice is called in words."""
    kind, value = name.split("_")
    return f"history of {value}" if kind == "history" else f"{value} item next"


def _bar(axes: Axes, place: float, figures: Figures, colour: str, height: float) -> Any:
    mean, (low, high) = figures["ndcg@10"], figures["ndcg@10_interval"]
    reach = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
    style = {"ecolor": _INK, "elinewidth": 1, "capsize": 2.5}
    return axes.barh(place, mean, height, color=colour, xerr=reach, error_kw=style)


def _finish(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)  # the first on top
    axes.set_xlim(left=0)
    axes.set_xlabel("validation NDCG@10, 95 % intervals")
    axes.grid(axis="x")
    axes.spines["left"].set_color(_SOFT)


def _over_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")

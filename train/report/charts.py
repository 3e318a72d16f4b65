"""The pictures of a run report."""

import base64
import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_WIDTH = 5.0  # inches, that is 360 units of SVG: text is legible on a phone
INK, SOFT, LINE, OWN, OTHER = "#1b1f24", "#57606a", "#d0d7de", "#0b5cad", "#c2700c"
_STYLE = {
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "svg.hashsalt": "attnrec",  # the same run gives the same page
}

Model = Mapping[str, Any]


class Chart(NamedTuple):
    """A picture inside the page."""

    source: str
    """A data: URL of an SVG."""
    description: str
    """What it says, for those who do not see it."""


def page_style() -> AbstractContextManager[None]:
    """The settings of matplotlib to draw with."""
    settings: dict[Any, Any] = _STYLE
    return matplotlib.rc_context(settings)


def chart(figure: Figure, description: str) -> Chart:
    """The figure as it goes into the page."""
    drawn = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(drawn, format="svg", metadata=nothing)
    encoded = base64.b64encode(drawn.getvalue()).decode()
    return Chart(f"data:image/svg+xml;base64,{encoded}", description)


def models_chart(own_name: str, own: Model, others: Sequence[Model]) -> Chart:
    """NDCG@10 of the run and of the traditional models as bars with intervals, best first."""
    rows = [(own_name, own, OWN), *((model["model"], model, OTHER) for model in others)]
    rows.sort(key=lambda row: -row[1]["ndcg@10"])
    with page_style():
        figure = Figure(figsize=(_WIDTH, 0.7 + 0.36 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, (_, model, colour) in enumerate(rows):
            _bar(axes, place, model, colour, height=0.62)
        _finish(axes, [name for name, _, _ in rows])
        for label, (_, _, colour) in zip(axes.get_yticklabels(), rows, strict=True):
            if colour == OWN:
                label.set_color(OWN)
                label.set_fontweight("bold")
        figures = ", ".join(f"{name} {model['ndcg@10']:.4f}" for name, model, _ in rows)
        return chart(figure, f"Bars of validation NDCG@10, best first: {figures}")


def slices_chart(own_name: str, own: Model, other: Model | None) -> Chart:
    """NDCG@10 in every slice, of the run and of the best traditional model."""
    names = list(own["slices"])
    shown = [(own_name, own, OWN)] + ([] if other is None else [(other["model"], other, OTHER)])
    height = 0.74 / len(shown)
    with page_style():
        figure = Figure(figsize=(_WIDTH, 1.0 + 0.46 * len(names)), layout="constrained")
        axes = figure.subplots()
        for number, (label, model, colour) in enumerate(shown):
            shift = (number - (len(shown) - 1) / 2) * height
            for place, name in enumerate(names):
                bar = _bar(axes, place + shift, model["slices"][name], colour, height * 0.92)
            bar.set_label(label)
        _finish(axes, [slice_label(name) for name in names])
        figure.legend(loc="outside upper left", ncols=2, handlelength=1)
        return chart(figure, "Bars of validation NDCG@10 by slice; the table has the figures")


def loss_chart(epochs: Sequence[Mapping[str, Any]]) -> Chart:
    """Training loss over the epochs."""
    number, loss = [e["epoch"] for e in epochs], [e["loss"] for e in epochs]
    with page_style():
        figure = Figure(figsize=(_WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.plot(number, loss, color=INK, marker="o", markersize=3.5)
        _over_epochs(axes)
        axes.set_ylabel("training loss")
        return chart(figure, f"Training loss: {loss[0]:.3f} at first, {loss[-1]:.3f} at the end")


def quality_chart(epochs: Sequence[Mapping[str, Any]], best_epoch: int) -> Chart:
    """Validation NDCG@10 over the epochs, and the gap to answers that were trained on."""
    number, valid = [e["epoch"] for e in epochs], [e["valid"]["ndcg@10"] for e in epochs]
    seen = [e["seen_ndcg"] for e in epochs if e.get("seen_ndcg") is not None]
    with page_style():
        figure = Figure(figsize=(_WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.axvline(best_epoch, color=LINE, zorder=0)
        if len(seen) == len(epochs):  # there is somebody to ask
            axes.fill_between(number, valid, seen, color=OTHER, alpha=0.14, linewidth=0)
            axes.plot(number, seen, color=OTHER, marker="s", markersize=3.5, label="trained on")
        axes.plot(number, valid, color=OWN, marker="o", markersize=3.5, label="validation")
        _over_epochs(axes)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("NDCG@10")
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.6)
        best = valid[best_epoch - 1]
        return chart(figure, f"Validation NDCG@10 by epoch: best {best:.4f}, epoch {best_epoch}")


def slice_label(name: str) -> str:
    """What a slice is called in words."""
    kind, value = name.split("_")
    return f"history of {value}" if kind == "history" else f"{value} item next"


def _bar(axes: Axes, place: float, figures: Model, colour: str, height: float) -> Any:
    mean, (low, high) = figures["ndcg@10"], figures["ndcg@10_interval"]
    reach = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
    style = {"ecolor": INK, "elinewidth": 1, "capsize": 2.5}
    return axes.barh(place, mean, height, color=colour, xerr=reach, error_kw=style)


def _finish(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)  # the first on top
    axes.set_xlim(left=0)
    axes.set_xlabel("validation NDCG@10, 95 % intervals")
    axes.grid(axis="x")
    axes.spines["left"].set_color(SOFT)


def _over_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")

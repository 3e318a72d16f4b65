"""The pictures of a run report, as SVG."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from attnrec.train.fitting.state import EpochRecord
from attnrec.train.report.verdicts import ndcg_of

_WIDTH = 5.0  # inches, that is 360 units of SVG: text is legible on a phone
_INK, _SOFT, _LINE, _OWN, _OTHER = "#1b1f24", "#57606a", "#d0d7de", "#0b5cad", "#c2700c"
_STYLE: dict[Any, Any] = {
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
_MOST_BARS = 8  # settings that a search varied

Figures = Mapping[str, Any]


class Chart(NamedTuple):
    """A picture inside the page."""

    source: str
    """A data: URL of an SVG."""
    description: str
    """What it shows, for readers who do not see it."""


@contextmanager
def _drawing(height: float) -> Iterator[Axes]:
    """The axes of a new figure, so many inches high, in the style of the page."""
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(_WIDTH, height), layout="constrained").subplots()


def _chart(axes: Axes, description: str, *, legend: bool = False) -> Chart:
    """The figure of `axes` as it goes into the page."""
    figure, drawn = axes.get_figure(root=True), io.BytesIO()
    assert figure is not None
    if legend:
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.6)
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(drawn, format="svg", metadata=nothing)
    encoded = base64.b64encode(drawn.getvalue()).decode()
    return Chart(f"data:image/svg+xml;base64,{encoded}", description)


def models_chart(own_name: str, own: Figures, others: Sequence[Figures]) -> Chart:
    """NDCG@10 of the run and of the baselines as bars with intervals, best first."""
    rows = [(own_name, own, _OWN), *((model["model"], model, _OTHER) for model in others)]
    rows.sort(key=lambda row: -row[1]["ndcg@10"])
    with _drawing(0.7 + 0.36 * len(rows)) as axes:
        for place, (_, model, colour) in enumerate(rows):
            _bar(axes, place, model, colour, height=0.62)
        _name_bars(axes, [name for name, _, _ in rows])
        for label, (_, _, colour) in zip(axes.get_yticklabels(), rows, strict=True):
            if colour == _OWN:
                label.set_color(_OWN)
                label.set_fontweight("bold")
        figures = ", ".join(f"{name} {model['ndcg@10']:.4f}" for name, model, _ in rows)
        return _chart(axes, f"Bars of validation NDCG@10, best first: {figures}")


def slices_chart(own_name: str, own: Figures, other: Figures | None) -> Chart:
    """NDCG@10 in every slice, of the run and of the best baseline."""
    names = list(own["slices"])
    shown = [(own_name, own, _OWN)] + ([] if other is None else [(other["model"], other, _OTHER)])
    height = 0.74 / len(shown)
    with _drawing(1.0 + 0.46 * len(names)) as axes:
        for number, (label, model, colour) in enumerate(shown):
            shift = (number - (len(shown) - 1) / 2) * height
            for place, name in enumerate(names):
                bar = _bar(axes, place + shift, model["slices"][name], colour, height * 0.92)
            bar.set_label(label)
        _name_bars(axes, [slice_label(name) for name in names])
        text = "Bars of validation NDCG@10 by slice; the table has the figures"
        return _chart(axes, text, legend=True)


def curve_charts(epochs: Sequence[EpochRecord], best_epoch: int | None) -> dict[str, Chart]:
    """The learning curve, by places in the page; none for a model without epochs."""
    if best_epoch is None:
        return {}
    return {"quality": _quality_chart(epochs, best_epoch), "loss": _loss_chart(epochs)}


def _loss_chart(epochs: Sequence[EpochRecord]) -> Chart:
    """Training loss over the epochs."""
    losses = [epoch.loss for epoch in epochs]
    with _drawing(2.7) as axes:
        axes.plot([e.epoch for e in epochs], losses, color=_INK, marker="o", markersize=3.5)
        _over_epochs(axes, "training loss")
        text = f"Training loss: {losses[0]:.3f} at first, {losses[-1]:.3f} at the end"
        return _chart(axes, text)


def _quality_chart(epochs: Sequence[EpochRecord], best_epoch: int) -> Chart:
    """Validation NDCG@10 over the epochs, and that on events that were trained on."""
    number, valid = [e.epoch for e in epochs], [ndcg_of(e) for e in epochs]
    seen = [e.seen_ndcg for e in epochs if e.seen_ndcg is not None]
    with _drawing(2.7) as axes:
        axes.axvline(best_epoch, color=_LINE, zorder=0)
        if len(seen) == len(epochs):
            axes.fill_between(number, valid, seen, color=_OTHER, alpha=0.14, linewidth=0)
            axes.plot(number, seen, color=_OTHER, marker="s", markersize=3.5, label="trained on")
        axes.plot(number, valid, color=_OWN, marker="o", markersize=3.5, label="validation")
        _over_epochs(axes, "NDCG@10")
        axes.set_ylim(bottom=0)
        text = f"best {valid[best_epoch - 1]:.4f}, epoch {best_epoch}"
        return _chart(axes, f"Validation NDCG@10 by epoch: {text}", legend=True)


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
    end = max(search["seconds"] / 60, minutes[-1])
    with _drawing(2.9) as axes:
        axes.axhline(ndcg[0], color=_SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
        steps = [*minutes, end], [*best, best[-1]]
        axes.step(*steps, color=_OWN, where="post", label="best so far")
        axes.plot(minutes, ndcg, "o", color=_OTHER, markersize=4, label="trial")
        axes.set_xlim(left=0)
        axes.set_xlabel("minutes of the search")
        axes.set_ylabel("validation NDCG@10")
        axes.grid(axis="y")
        text = f"Best validation NDCG@10 so far: {ndcg[0]:.4f} by the recipe, {best[-1]:.4f}"
        return _chart(axes, text, legend=True)


def _importance_chart(importance: Mapping[str, float]) -> Chart:
    """Settings as bars, most important first."""
    names = list(importance)[:_MOST_BARS]
    with _drawing(0.8 + 0.26 * len(names)) as axes:
        axes.barh(range(len(names)), [importance[name] for name in names], 0.62, color=_OWN)
        _name_bars(axes, names, "share of the differences")
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        shares = ", ".join(f"{name} {importance[name]:.0%}" for name in names)
        return _chart(axes, f"Bars of the importance of settings: {shares}")


def slice_label(name: str) -> str:
    """The name of a slice in words."""
    kind, value = name.split("_", maxsplit=1)
    words = {
        "known": "item with training events next",
        "later": "not at the time of the last",
        "new_title": "item of a new title next",
    }
    return f"history of {value}" if kind == "history" else words.get(value, f"{value} item next")


def _bar(axes: Axes, place: float, figures: Figures, colour: str, height: float) -> Any:
    mean, (low, high) = figures["ndcg@10"], figures["ndcg@10_interval"]
    reach = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
    style = {"ecolor": _INK, "elinewidth": 1, "capsize": 2.5}
    return axes.barh(place, mean, height, color=colour, xerr=reach, error_kw=style)


def _name_bars(
    axes: Axes, labels: Sequence[str], unit: str = "validation NDCG@10, 95 % intervals"
) -> None:
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)  # the first on top
    axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    axes.grid(axis="x")
    axes.spines["left"].set_color(_SOFT)


def _over_epochs(axes: Axes, what: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")

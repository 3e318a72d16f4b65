"""The parts of the page that say how good the run is: beside others, over time, for whom."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attnrec.train.data.baskets import basket_note
from attnrec.train.report.baselines import best_of
from attnrec.train.report.charts import (
    loss_chart,
    models_chart,
    quality_chart,
    slice_label,
    slices_chart,
)
from attnrec.train.report.elements import Content, Markup, lines, picture, section, table, tag
from attnrec.train.report.numbers import difference, interval, seconds, signed

Figures = Mapping[str, Any]


def models_section(name: str, told: Figures, metrics: Figures) -> Markup:
    """The run beside traditional models."""
    own, others = told["run"], told["traditional"]
    fitted = [model for model in others if "reason" not in model]
    ranked = sorted([own, *fitted], key=lambda model: -model["ndcg@10"])
    rows: list[Sequence[Content]] = []
    for model in ranked:
        is_own = model is own
        label = lines(name, small("this run")) if is_own else model["model"]
        took = seconds(told["seconds"]["run" if is_own else model["model"]])
        apart = "" if is_own else _stacked(*difference(model))
        rows.append((label, *_both(model), apart, took))
    for model in others:
        if "reason" in model:
            reason = tag("span", f"not fitted: {model['reason']}", class_="reason")
            rows.append((model["model"], reason))
    columns = ("model", "NDCG@10", "HitRate@10", "difference", "time")
    caption = (
        "Fitted on the same training events, asked the same questions. Difference: NDCG@10 less "
        "that of this run, paired. Small: 95 % bootstrap intervals over people. Every model chose "
        "on these questions what it leaves open (best epoch, fading, lambda), which flatters all "
        "a little. Time: of training, or of fitting and choosing."
    )
    return section(
        "Beside traditional models",
        tag(
            "div",
            picture(models_chart(name, own, fitted), "Lines: 95 % intervals over people."),
            tag("div", tag("p", verdict(name, told), class_="verdict"), _basket(metrics)),
            class_="pair",
        ),
        table(caption, columns, rows, marked=[ranked.index(own)]),
    )


def verdict(name: str, told: Figures) -> str:
    """Whether the run is worth it, in a sentence."""
    best = best_of(told["traditional"])
    if best is None:
        return "No traditional model could be fitted on this log, so there is nothing to beat."
    low, high = best["ndcg@10_to_run_interval"]
    apart, ends = difference(best, turned=True)
    against = f"{best['model']}, the best of the traditional models"
    if high < 0:
        return f"{name} is ahead of {against}, by {apart} NDCG@10 (95 % interval {ends})."
    if low > 0:
        return (
            f"{name} is behind {against}: {apart} NDCG@10 (95 % interval {ends}). "
            "Ship that one, or look for other settings."
        )
    return (
        f"{name} and {against}, cannot be told apart on these people: {apart} NDCG@10 (95 % "
        f"interval {ends})."
    )


def curves_section(epochs: Sequence[Figures], metrics: Figures) -> Markup:
    """Loss, validation, and the overfitting gap."""
    if not epochs:
        return section(
            "Learning curve", tag("p", "This model is counted, not trained: it has no epochs.")
        )
    best_epoch = metrics["best_epoch"]
    pictures = (
        picture(quality_chart(epochs, best_epoch), _gap(epochs[best_epoch - 1])),
        picture(loss_chart(epochs), "Mean training loss of each epoch."),
    )
    rows = [
        (
            str(epoch["epoch"]),
            f"{epoch['loss']:.4f}",
            f"{epoch['valid']['ndcg@10']:.4f}",
            _figure(epoch.get("seen_ndcg")),
            _figure(_apart(epoch), signed),
            seconds(epoch["seconds"]),
        )
        for epoch in epochs
    ]
    columns = ("epoch", "loss", "validation", "trained on", "gap", "after")
    return section(
        "Learning curve",
        tag("p", overfitting(epochs, best_epoch)),
        tag("div", *pictures, class_="pair"),
        table(
            "NDCG@10 by epoch; the weights of the marked one were kept.",
            columns,
            rows,
            marked=[best_epoch - 1],
        ),
    )


def overfitting(epochs: Sequence[Figures], best_epoch: int) -> str:
    """What the curves say, in a sentence or two."""
    best, last = epochs[best_epoch - 1], epochs[-1]
    told = f"The weights of epoch {best_epoch} were kept, the best by validation NDCG@10. "
    if best is last:
        return told + "It was the last one: more epochs (--epochs) may help."
    gap, last_gap = _apart(best), _apart(last)
    if gap is None or last_gap is None:
        return told + "Later epochs brought nothing better."
    grew = f"the gap to answers it was trained on went from {gap:.4f} to {last_gap:.4f}"
    fell_to, (low, _) = last["valid"]["ndcg@10"], best["valid"]["ndcg@10_interval"]
    if fell_to < low and last_gap > gap:
        return told + (
            f"Up to the end {grew} and validation fell to {fell_to:.4f}, out of the interval of "
            "the best epoch: the model was overfitting."
        )
    return told + f"Later epochs brought nothing better; up to the end {grew}."


def slices_section(name: str, told: Figures) -> Markup:
    """Who is served well."""
    own, best = told["run"], best_of(told["traditional"])
    columns = ["slice", "people", name, *([] if best is None else [best["model"]])]
    rows = [
        (
            slice_label(slice_name),
            f"{figures['n_users']:,}",
            *(
                _stacked(
                    f"{of['slices'][slice_name]['ndcg@10']:.4f}",
                    interval(of["slices"][slice_name], "ndcg@10"),
                )
                for of in (own, best)
                if of is not None
            ),
        )
        for slice_name, figures in own["slices"].items()
    ]
    caption = (
        "NDCG@10 with 95 % intervals, by events before the question, and by what came next: a "
        "head item is one of the most frequent, which make up half of the training events."
    )
    return section(
        "For whom it works",
        tag(
            "div",
            picture(slices_chart(name, own, best), "Lines: 95 % intervals over people."),
            table(caption, columns, rows),
            class_="pair",
        ),
    )


def small(content: Content) -> Markup:
    """On a line of its own, below."""
    return tag("small", content)


def _stacked(value: str, below: str) -> Markup:
    return lines(value, small(below))


def _both(model: Figures) -> tuple[Markup, Markup]:
    ndcg, hit_rate = (
        _stacked(f"{model[name]:.4f}", interval(model, name))
        for name in ("ndcg@10", "hit_rate@10")
    )
    return ndcg, hit_rate


def _basket(metrics: Figures) -> Content:
    note = basket_note(metrics)
    return "" if note is None else tag("p", f"{note}.", class_="note")


def _apart(epoch: Figures) -> float | None:
    seen = epoch.get("seen_ndcg")
    return None if seen is None else float(seen) - float(epoch["valid"]["ndcg@10"])


def _figure(value: float | None, write: Callable[[float], str] = "{:.4f}".format) -> str:
    return "" if value is None else write(value)


def _gap(best: Figures) -> str:
    apart = _apart(best)
    if apart is None:
        return "Validation NDCG@10 of each epoch; the line marks the best."
    return (
        "Trained on: the last training event of up to 1,000 of these people, asked with the "
        f"history before it. At the best epoch it is {best['seen_ndcg']:.4f}, {signed(apart)} to "
        "validation. A gap that grows while validation falls is overfitting."
    )

"""What the figures of a run mean, in sentences, and figures as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnrec.train.fitting.state import EpochRecord
from attnrec.train.report.figures import best_of

_GAP = "\N{NO-BREAK SPACE}"

Figures = Mapping[str, Any]


def verdict(report: Figures, name: str) -> str:
    """Whether the run, the model `name`, is better than the best baseline."""
    best = best_of(report["traditional"])
    if best is None:
        return "No baseline could be fitted on this log, so there is no comparison."
    low, high = best["ndcg@10_to_run_interval"]
    apart, reach = difference(best)
    against = f"{best['model']}, the best baseline"
    if high < 0:
        return f"{name} is ahead of {against}, by {apart} NDCG@10 (95 % interval {reach})."
    if low > 0:
        return (
            f"{name} is behind {against}: {apart} NDCG@10 (95 % interval {reach}). "
            "Ship that one, or try other settings."
        )
    return (
        f"{name} and {against}, cannot be told apart on these users: {apart} NDCG@10 (95 % "
        f"interval {reach})."
    )


def overfitting(epochs: Sequence[EpochRecord], best_epoch: int) -> str:
    """What the learning curve shows."""
    best, last = epochs[best_epoch - 1], epochs[-1]
    kept = f"The weights of epoch {best_epoch} were kept, the best by validation NDCG@10. "
    if best is last:
        return kept + "It was the last one: more epochs (--epochs) may help."
    first_gap, last_gap = gap(best), gap(last)
    if first_gap is None or last_gap is None:
        return kept + "Later epochs brought nothing better."
    grew = f"the overfitting gap went from {first_gap:.4f} to {last_gap:.4f}"
    assert best.valid is not None
    low, _ = best.valid["ndcg@10_interval"]
    if ndcg_of(last) < low and last_gap > first_gap:
        return kept + (
            f"Up to the end {grew} and validation fell to {ndcg_of(last):.4f}, out of the "
            "interval of the best epoch: the model was overfitting."
        )
    return kept + f"Later epochs brought nothing better; up to the end {grew}."


def quality_caption(epochs: Sequence[EpochRecord], best_epoch: int) -> str:
    """What the lines of the learning curve are."""
    best = epochs[best_epoch - 1]
    apart = gap(best)
    if apart is None:
        return "Validation NDCG@10 of each epoch; the line marks the best."
    return (
        "Trained on: the last training event of up to 1,000 of these users, predicted from the "
        f"history before it. At the best epoch it is {best.seen_ndcg:.4f}; the overfitting gap to "
        f"validation is {signed(apart)}. A gap that grows while validation falls is overfitting."
    )


def search_verdict(search: Figures) -> str:
    """What a search for settings has found."""
    n_trials, took = len(search["trials"]), duration(search["seconds"])
    if search["trials"][0]["outcome"] == "cut short":
        return (
            f"{took} did not suffice for the recipe itself: it was ended early, and nothing else "
            "was tried. Give more minutes."
        )
    if n_trials == 1:
        return f"{took} sufficed for the recipe alone. Give more minutes."
    if search["best"] == 0:
        return f"In {n_trials} trials, {took}, nothing was better than the recipe, which is kept."
    return (
        f"Trial {search['best']} of {n_trials}, in {took}, is kept: {signed(search['gain'])} "
        f"NDCG@10 to the recipe (paired 95 % interval {ends(search['gain_interval'])})."
    )


def origin(begun: Figures) -> str:
    """Which run another one began from, and what came from there."""
    counts = {
        "n_kept": "items with its vectors",
        "n_from_content": "new ones by content",
        "n_from_history": "new ones by what precedes them",
        "n_fresh": "new ones from scratch",
        "n_gone": "of its items gone",
    }
    items = ", ".join(f"{begun[n]:,} {what}" for n, what in counts.items() if begun[n])
    return f"{begun['run']}, which had seen events until {begun['seen_until']}: {items}"


def ranked(trials: Sequence[Figures]) -> list[Figures]:
    """Trials of a search, best first; those that were stopped or failed last."""

    def place(trial: Figures) -> tuple[bool, float, int]:
        counts = trial["outcome"] in ("done", "cut short")
        return not counts, -(trial["ndcg@10"] or 0.0), trial["number"]

    return sorted(trials, key=place)


def changes(values: Figures, recipe: Figures) -> dict[str, Any]:
    """Settings of a trial that differ from the recipe."""
    return {name: value for name, value in values.items() if value != recipe[name]}


def ended(outcome: str, n_epochs: int) -> str:
    """How a trial ended, in words."""
    epochs = f"{n_epochs} epoch{'' if n_epochs == 1 else 's'}"
    words = {"done": "done after", "cut short": "out of time after", "stopped": "stopped after"}
    return f"{words[outcome]} {epochs}" if outcome in words else outcome


def ndcg_of(epoch: EpochRecord) -> float:
    """Validation NDCG@10 of an epoch that was validated."""
    assert epoch.valid is not None
    return float(epoch.valid["ndcg@10"])


def gap(epoch: EpochRecord) -> float | None:
    """The overfitting gap, NDCG@10 on trained events less that of validation; None: unknown."""
    return None if epoch.seen_ndcg is None else epoch.seen_ndcg - ndcg_of(epoch)


def difference(model: Figures) -> tuple[str, str]:
    """NDCG@10 of the run less that of a baseline, and its interval."""
    low, high = model["ndcg@10_to_run_interval"]
    return signed(-model["ndcg@10_to_run"]), ends((-high, -low))


def interval(figures: Figures, name: str) -> str:
    """The 95 % interval of a metric."""
    low, high = figures[f"{name}_interval"]
    return f"{low:.4f} to {high:.4f}"


def ends(of: Sequence[float]) -> str:
    """The ends of an interval of differences."""
    low, high = of
    return f"{signed(low)} to {signed(high)}"


def signed(value: float) -> str:
    """With a sign that has the width of a digit."""
    rounded = round(value, 4)
    return f"{rounded:+.4f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.0000"


def duration(seconds: float | None) -> str:
    """A time span for people."""
    if seconds is None:
        return "unknown"
    if seconds < 9.95:
        return f"{max(0.1, seconds):.1f}{_GAP}s"
    return f"{seconds:.0f}{_GAP}s" if seconds < 120 else f"{seconds / 60:.1f}{_GAP}min"

"""The part of the page that shows a search: what it came to, and which settings mattered."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnrec.train.report.elements import Content, Markup, picture, section, table, tag
from attnrec.train.report.numbers import seconds, signed
from attnrec.train.report.settings import value_text
from attnrec.train.report.trials import changes, ended, ranked
from attnrec.train.report.tuning_charts import importance_chart, progress_chart, setting_charts

Told = Mapping[str, Any]

_TITLE = "The search for settings"
_MOST_ROWS = 12


def tuning_section(told: Told) -> Markup:
    """Verdict, pictures, and the trials."""
    verdict = tag("p", _verdict(told), class_="verdict")
    if len(told["trials"]) == 1:
        return section(_TITLE, verdict)
    return section(
        _TITLE,
        verdict,
        tag("p", _caution(told), class_="note"),
        tag("div", *_pictures(told), class_="pair"),
        *_settings(told),
        _trials(told),
    )


def _verdict(told: Told) -> str:
    n_trials, took = len(told["trials"]), seconds(told["seconds"])
    if told["trials"][0]["outcome"] == "cut short":
        return (
            f"{took} did not suffice for the recipe itself: it was ended early, and nothing else "
            "was tried. Give more minutes."
        )
    if n_trials == 1:
        return f"{took} sufficed for the recipe alone. Give more minutes."
    if told["best"] == 0:
        return f"In {n_trials} trials, {took}, nothing was better than the recipe, which is kept."
    low, high = told["gain_interval"]
    return (
        f"Trial {told['best']} of {n_trials}, in {took}, is kept: {signed(told['gain'])} NDCG@10 "
        f"to the recipe (paired 95 % interval {signed(low)} to {signed(high)})."
    )


def _caution(told: Told) -> str:
    return (
        f"Every figure of this page flatters the best of {len(told['trials'])} trials: they were "
        "judged by the same validation people, and each had one seed, so a part of the lead is "
        "luck, which the interval does not show. The test events, which no trial has seen, tell "
        "what is left of it."
    )


def _pictures(told: Told) -> Sequence[Markup]:
    over_time = picture(
        progress_chart(told),
        "Validation NDCG@10 of the trials that were finished, and the best so far. Dashed: the "
        "recipe.",
    )
    if not told["importance"]:
        return [over_time]
    mattered = picture(
        importance_chart(told["importance"]),
        "What mattered most: share of the differences between trials that a setting explains, "
        "by fANOVA. "
        "A stopped trial counts with what it was heading for.",
    )
    return [over_time, mattered]


def _settings(told: Told) -> Sequence[Markup]:
    drawn = setting_charts(told)
    if not drawn:
        return []
    caption = (
        "NDCG@10 by the value of a setting, whatever the others were. Full: finished. Hollow: "
        "stopped early, at what it was heading for, that is what the recipe reached times the "
        "ratio to it at the same epoch. Dashed: the value of the recipe. Ringed: the trial that "
        "is kept."
    )
    small = tag("div", *map(Markup, drawn), class_="small-charts")
    return [tag("figure", small, tag("figcaption", caption), class_="wide")]


def _trials(told: Told) -> Markup:
    trials = ranked(told["trials"])
    shown = trials[:_MOST_ROWS]
    rows: list[Sequence[Content]] = [
        (
            f"trial {trial['number']}",
            "" if trial["ndcg@10"] is None else f"{trial['ndcg@10']:.4f}",
            seconds(trial["seconds"]),
            ended(trial["outcome"], len(trial["curve"])),
            _changes(trial, told["recipe"]),
        )
        for trial in shown
    ]
    rest = len(trials) - len(shown)
    caption = (
        "The best trials, what they changed, and last those that were stopped because they were "
        f"behind the others.{f' {rest} more are in metrics.json.' if rest else ''} The marked "
        "one is kept."
    )
    kept = [n for n, trial in enumerate(shown) if trial["number"] == told["best"]]
    columns = ("trial", "NDCG@10", "time", "ended", "against the recipe")
    return table(caption, columns, rows, kind="trials", marked=kept)


def _changes(trial: Told, recipe: Told) -> Content:
    changed = changes(trial["values"], recipe)
    if not changed:
        return "the recipe"
    parts = [tag("code", f"{name} {value_text(value)}") for name, value in changed.items()]
    return Markup(", ".join(parts))

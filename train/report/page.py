"""The run report as one HTML page without scripts, made from what a run stores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from attnrec.runtime.version import __version__
from attnrec.train.data.baskets import basket_note
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.fitting.config import TrainConfig, value_text
from attnrec.train.fitting.run_metrics import RunMetrics
from attnrec.train.models import COMPARED_MODELS
from attnrec.train.models.base import HistoryConfig
from attnrec.train.report import charts
from attnrec.train.report.figures import best_of
from attnrec.train.report.settings import Setting, settings_of
from attnrec.train.report.verdicts import (
    changes,
    difference,
    duration,
    ended,
    ends,
    gap,
    interval,
    overfitting,
    quality_caption,
    ranked,
    search_verdict,
    signed,
    verdict,
)

_HERE = Path(__file__).parent
_DROPPED = {
    "dropped_event_type": "other event types",
    "dropped_rating": "low ratings",
    "dropped_repeated": "later events of a user with the same item",
    "dropped_rare_items": "items with too few events",
    "dropped_short_users": "users with too few events",
}
_MOST_TRIALS = 12

Figures = Mapping[str, Any]


def run_report(
    config: TrainConfig,
    model_config: HistoryConfig,
    recipe: DataRecipe,
    data: Figures,
    metrics: RunMetrics,
) -> str:
    """The page; metrics: those of the run, with the `report` that `report_figures` made."""
    report, name = metrics.report, model_name(config)
    assert report is not None
    epochs, best_epoch = metrics.validated_epochs, metrics.best_epoch
    own, best = report["run"], best_of(report["traditional"])
    fitted = [model for model in report["traditional"] if "reason" not in model]
    reasons = metrics.recipe
    page: str = _template().render(
        version=__version__,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        name=name,
        config=config,
        seed=config.seed,
        data=data,
        metrics=metrics,
        report=report,
        is_final=metrics.of is not None,
        unit="session" if metrics.split == "last-session" else "event",
        tiles=_tiles(report, metrics),
        own=own,
        best=best,
        ranked=sorted([own, *fitted], key=lambda model: -model["ndcg@10"]),
        verdict=verdict(name, report),
        basket_note=basket_note(metrics.to_json()),
        tuning=_tuning(metrics.tuning),
        epochs=epochs,
        overfitting=overfitting(epochs, best_epoch) if best_epoch else None,
        quality_caption=quality_caption(epochs, best_epoch) if best_epoch else None,
        charts={
            "models": charts.models_chart(name, own, fitted),
            "slices": charts.slices_chart(name, own, best),
            "quality": charts.quality_chart(epochs, best_epoch) if best_epoch else None,
            "loss": charts.loss_chart(epochs) if epochs else None,
            **charts.search_charts(metrics.tuning),
        },
        facts=_facts(data, metrics, n_items=model_config.n_items),
        dropped=[(reason, data[key]) for key, reason in _DROPPED.items() if data[key]],
        # The settings given for the model are among those of the model.
        recipes=[
            _settings("Training.", settings_of(config, reasons, without=("settings",))),
            _settings(f"Model {config.model}.", settings_of(model_config, reasons)),
            _settings("How the log was read.", settings_of(recipe, reasons)),
        ],
    )
    return page


def model_name(config: TrainConfig) -> str:
    """What the family calls a model with these settings; else the model and no more."""
    trained = (config.model, dict(config.settings))
    return next(
        (name for name, member in COMPARED_MODELS.items() if member == trained), config.model
    )


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "ends": ends,
        "figure": lambda value: "" if value is None else f"{value:.4f}",
        "gap": lambda epoch: "" if gap(epoch) is None else signed(gap(epoch) or 0.0),
        "interval": interval,
        "signed": signed,
        "slice_label": charts.slice_label,
    }
    return environment.get_template("page.html")


def _tiles(report: Figures, metrics: RunMetrics) -> list[tuple[str, str, str]]:
    """What a reader looks at first: label, figure, and what it means."""
    own, best = report["run"], best_of(report["traditional"])
    tiles = [
        ("NDCG@10", f"{own['ndcg@10']:.4f}", interval(own, "ndcg@10")),
        ("HitRate@10", f"{own['hit_rate@10']:.4f}", interval(own, "hit_rate@10")),
    ]
    if best is not None:
        tiles.append((f"against {best['model']}, the best traditional model", *difference(best)))
    took = report["seconds"]["run"]
    if metrics.best_epoch is not None:
        of_all = f"{metrics.best_epoch} of {len(metrics.validated_epochs)}"
        tiles.append(("best epoch", of_all, f"trained in {duration(took)}"))
    elif took is not None:
        tiles.append(("fitted in", duration(took), "no epochs: it counts"))
    return tiles


def _tuning(search: Figures | None) -> dict[str, Any] | None:
    """What the page shows of a search."""
    if search is None:
        return None
    trials = ranked(search["trials"])
    shown = [
        {
            **trial,
            "ended": ended(trial["outcome"], len(trial["curve"])),
            "changes": {
                name: value_text(value)
                for name, value in changes(trial["values"], search["recipe"]).items()
            },
        }
        for trial in trials[:_MOST_TRIALS]
    ]
    n_more = len(trials) - len(shown)
    return {**search, "verdict": search_verdict(search), "shown": shown, "n_more": n_more}


def _settings(caption: str, settings: Sequence[Setting]) -> tuple[str, Sequence[Setting]]:
    all_defaults = all(setting.is_default for setting in settings)
    return f"{caption} {'All defaults.' if all_defaults else 'Marked: not the default.'}", settings


def _facts(data: Figures, metrics: RunMetrics, *, n_items: int) -> list[tuple[str, str]]:
    """The log and how it was divided."""
    titles, described = data["n_titles"], data.get("n_described")
    with_titles = "" if titles is None else f", {titles:,} with a title"
    with_words = "" if described is None else f", {described:,} with attributes"
    span = "an order, no times"
    if data["first_time"]:
        guess = ", guessed" if data["time_unit_guessed"] else ""
        span = f"{data['first_time']} to {data['last_time']} (unit {data['time_unit']}{guess})"
    return [
        ("log", data["source"]),
        ("rows read", f"{data['rows_read']:,}"),
        ("events", f"{data['n_events']:,}"),
        ("users", f"{data['n_users']:,}, {data['n_users_evaluable']:,} with 3 events or more"),
        ("items", f"{data['n_items']:,}{with_titles}{with_words}"),
        ("catalogue", f"{n_items:,} items with an event to train on"),
        ("time", span),
        ("split", metrics.protocol),
        ("fingerprint", data["fingerprint"][:16]),
    ]

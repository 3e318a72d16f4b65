"""The run report as one HTML page without scripts, made from what a run stores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from attnrec.runtime.version import __version__
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
    origin,
    overfitting,
    quality_caption,
    ranked,
    search_verdict,
    signed,
    verdict,
)
from attnrec.train.splits.baskets import basket_note

_HERE = Path(__file__).parent
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
    own, best = report["run"], best_of(report["traditional"])
    fitted = [model for model in report["traditional"] if "reason" not in model]
    trials = ranked(metrics.tuning["trials"]) if metrics.tuning else []
    page: str = _template().render(
        version=__version__,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        name=name,
        config=config,
        data=data,
        metrics=metrics,
        report=report,
        own=own,
        best=best,
        ranked=sorted([own, *fitted], key=lambda model: -model["ndcg@10"]),
        basket_note=basket_note(metrics.to_json()),
        trials=trials[:_MOST_TRIALS],
        n_more=len(trials[_MOST_TRIALS:]),
        epochs=metrics.validated_epochs,
        charts={
            "models": charts.models_chart(name, own, fitted),
            "slices": charts.slices_chart(name, own, best),
            **charts.curve_charts(metrics.validated_epochs, metrics.best_epoch),
            **charts.search_charts(metrics.tuning),
        },
        n_items=model_config.n_items,
        recipes=_settings_tables(config, model_config, recipe, metrics.recipe),
    )
    return page


def _settings_tables(
    config: TrainConfig,
    model_config: HistoryConfig,
    recipe: DataRecipe,
    reasons: Mapping[str, str],
) -> list[tuple[str, list[Setting]]]:
    """Heading and rows of each table of settings."""
    return [
        # The settings given for the model are among those of the model.
        ("Training.", settings_of(config, reasons, without=("settings",))),
        (f"Model {config.model}.", settings_of(model_config, reasons)),
        ("How the log was read.", settings_of(recipe, reasons)),
    ]


def model_name(config: TrainConfig) -> str:
    """The name of these settings among the compared models; else that of the model."""
    trained = (config.model, dict(config.settings))
    return next(
        (name for name, known in COMPARED_MODELS.items() if known == trained), config.model
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
        "changes": changes,
        "thousands": lambda value: f"{value:,}",
        "difference": difference,
        "duration": duration,
        "ended": ended,
        "ends": ends,
        "figure": lambda value: "" if value is None else f"{value:.4f}",
        "gap": lambda epoch: "" if gap(epoch) is None else signed(gap(epoch) or 0.0),
        "interval": interval,
        "origin": origin,
        "overfitting": overfitting,
        "quality_caption": quality_caption,
        "signed": signed,
        "search_verdict": search_verdict,
        "slice_label": charts.slice_label,
        "value_text": value_text,
        "verdict": verdict,
    }
    return environment.get_template("page.html")

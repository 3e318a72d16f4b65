"""The run report as one HTML page without scripts, made from what a run stores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnrec.runtime.version import __version__
from attnrec.train.config import TrainConfig
from attnrec.train.models import FAMILY
from attnrec.train.models.protocol import HistoryConfig
from attnrec.train.recipe import DataRecipe
from attnrec.train.run_report.elements import Markup, lines, tag
from attnrec.train.run_report.numbers import difference, interval, seconds
from attnrec.train.run_report.people import examples_section
from attnrec.train.run_report.recipe_tables import recipe_section
from attnrec.train.run_report.results import (
    curves_section,
    models_section,
    slices_section,
)
from attnrec.train.run_report.sources import log_section
from attnrec.train.run_report.traditional import best_of
from attnrec.train.run_report.tuning import tuning_section

_STYLE = Path(__file__).with_name("page.css")


def run_report(
    config: TrainConfig,
    model_config: HistoryConfig,
    recipe: DataRecipe,
    data: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> str:
    """The page; metrics: those of the run, with the "report" that `report_figures` made."""
    name = model_name(config)
    is_final = "of" in metrics
    told = metrics["report"]
    epochs = metrics.get("held_out_epochs", metrics["epochs"])
    body = lines(
        tag("header", tag("h1", name, " on ", data["source"]), _scope(metrics, is_final=is_final)),
        _tiles(told, metrics, epochs),
        models_section(name, told, metrics),
        *([tuning_section(metrics["tuning"])] if "tuning" in metrics else []),
        curves_section(epochs, metrics),
        slices_section(name, told),
        examples_section(told["examples"], config),
        log_section(data, config, metrics, n_items=model_config.n_items),
        recipe_section(config, model_config, recipe, metrics.get("recipe", {})),
        _footer(),
    )
    return _document(f"{name} on {data['source']}", body)


def model_name(config: TrainConfig) -> str:
    """What the family calls a model with these settings; else the model and no more."""
    trained = (config.model, dict(config.settings))
    return next((name for name, member in FAMILY.items() if member == trained), config.model)


def _document(title: str, body: Markup) -> str:
    head = lines(
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        Markup(f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>"),
    )
    html = tag("html", lines(tag("head", head), tag("body", body)), lang="en")
    return f"<!doctype html>\n{html}\n"


def _scope(metrics: Mapping[str, Any], *, is_final: bool) -> Markup:
    """What the figures of the page are measured on, and what they are not."""
    # Not in the metrics of the first versions, which knew one split.
    unit = "session" if metrics.get("split") == "last-session" else "event"
    # A final run has trained on all events; what is shown is of the run before.
    unseen = f"{'That' if is_final else 'This'} training never looked at the test {unit}"
    rest = Markup(
        f"All figures are of validation: {metrics['valid']['n_users']:,} people, asked for their "
        f"second last {unit}, ranked in the whole catalogue, ties against the model. {unseen}: "
        "<code>attnrec-export</code> and <code>attnrec-evaluate</code> give the test figures, of "
        "the file that is shipped."
    )
    if not is_final:
        return tag("p", rest, class_="soft")
    test = metrics.get("test")
    tested = (
        f" The file of that run reached NDCG@10 {test['ndcg@10']:.4f} on the test events."
        if test
        else ""
    )
    final = (
        "This is a final run: it has trained on every event, so nothing is held out to measure "
        f"it with. What follows was measured on the run before, with the same recipe.{tested}"
    )
    return lines(tag("p", final, class_="note"), tag("p", rest, class_="soft"))


def _tiles(
    told: Mapping[str, Any], metrics: Mapping[str, Any], epochs: list[Mapping[str, Any]]
) -> Markup:
    own, best = told["run"], best_of(told["traditional"])
    tiles = [
        ("NDCG@10", f"{own['ndcg@10']:.4f}", interval(own, "ndcg@10")),
        ("HitRate@10", f"{own['hit_rate@10']:.4f}", interval(own, "hit_rate@10")),
    ]
    if best is not None:
        lead, ends = difference(best, turned=True)
        tiles.append((f"against {best['model']}, the best traditional model", lead, ends))
    took = told["seconds"]["run"]
    if metrics["best_epoch"] is not None:
        tiles.append(
            (
                "best epoch",
                f"{metrics['best_epoch']} of {len(epochs)}",
                f"trained in {seconds(took)}",
            )
        )
    elif took is not None:
        tiles.append(("fitted in", seconds(took), "no epochs: it counts"))
    return tag(
        "div",
        *(
            tag("p", tag("span", what), tag("strong", value), tag("span", more))
            for what, value, more in tiles
        ),
        class_="tiles",
    )


def _footer() -> Markup:
    return tag(
        "footer",
        f"attnrec {__version__}. The same figures are in metrics.json. This page shows what a few "
        "people took, without their ids: pass it on with that in mind.",
    )

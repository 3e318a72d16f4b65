"""The part of the page that repeats every setting."""

from collections.abc import Mapping, Sequence

from attnrec.train.data.recipe import DataRecipe
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.models.base import HistoryConfig
from attnrec.train.report.elements import Content, Markup, lines, section, table, tag
from attnrec.train.report.settings import Setting, settings_of


def recipe_section(
    config: TrainConfig,
    model_config: HistoryConfig,
    recipe: DataRecipe,
    reasons: Mapping[str, str],
) -> Markup:
    """Training, model and log; reasons: why a setting has its value, by its name."""
    # The settings given for the model are among those of the model.
    training = settings_of(config, reasons, without=("settings",))
    return section(
        "The recipe",
        tag(
            "div",
            tag(
                "div",
                _table("Training.", training),
                _table(f"Model {config.model}.", settings_of(model_config, reasons)),
            ),
            _table("How the log was read.", settings_of(recipe, reasons)),
            class_="pair",
        ),
    )


def _table(caption: str, settings: Sequence[Setting]) -> Markup:
    rows: list[Sequence[Content]] = [
        (_words(setting), tag("code", setting.value)) for setting in settings
    ]
    changed = [number for number, setting in enumerate(settings) if not setting.is_default]
    caption += " Marked: not the default." if changed else " All defaults."
    return table(caption, ("setting", "value"), rows, kind="settings", marked=changed)


def _words(setting: Setting) -> Markup:
    """The name, what it means, and why it has its value."""
    # Sources quote names as `name`: every second part.
    parts = setting.meaning.split("`")
    meaning = [tag("code", part) if at % 2 else part for at, part in enumerate(parts)]
    why = tag("span", "Why: ", setting.reason, class_="why") if setting.reason else ""
    return lines(tag("code", setting.name), tag("span", *meaning), why)

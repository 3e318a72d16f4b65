"""The part of the page that repeats every setting."""

from collections.abc import Mapping, Sequence

from attnrec.train.config import TrainConfig
from attnrec.train.models.protocol import HistoryConfig
from attnrec.train.recipe import DataRecipe
from attnrec.train.run_report.elements import Content, Markup, lines, section, table, tag
from attnrec.train.run_report.settings import Setting, settings_of


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
        _table("Training.", training),
        _table(f"Model {config.model}.", settings_of(model_config, reasons)),
        _table("How the log was read.", settings_of(recipe, reasons)),
    )


def _table(caption: str, settings: Sequence[Setting]) -> Markup:
    rows: list[Sequence[Content]] = [
        (tag("code", setting.name), _value(setting), _words(setting)) for setting in settings
    ]
    changed = [number for number, setting in enumerate(settings) if not setting.is_default]
    caption += " Marked: not the default." if changed else " All defaults."
    return table(caption, ("setting", "value", "meaning"), rows, kind="settings", marked=changed)


def _value(setting: Setting) -> Markup:
    return tag("code", setting.value)


def _words(setting: Setting) -> Content:
    if not setting.reason:
        return setting.meaning
    return lines(setting.meaning, tag("p", "Why: ", setting.reason, class_="why"))

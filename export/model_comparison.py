"""Every model on one log: trained, exported, and compared on what none of them has seen."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from attnrec.export.comparison_directory import (
    FIGURES,
    PICTURE,
    UNFINISHED,
    check_comparison_directory,
)
from attnrec.export.exporting import export
from attnrec.runtime.errors import AttnrecError, DataError, RunError
from attnrec.runtime.files import MODEL_FILE, replace_file
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.recipe import DataRecipe, DataReport
from attnrec.train.evaluation.comparison import Comparison, compare
from attnrec.train.evaluation.comparison_plot import draw_comparison
from attnrec.train.evaluation.metrics import Tick
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.loop import Progress
from attnrec.train.models import COMPARED_MODELS, MODELS
from attnrec.train.run_files import checkpoint_files, unfinished_directory
from attnrec.train.runs.run import Run
from attnrec.train.runs.train import train_log

logger = logging.getLogger(__name__)

Watch = Callable[[str], AbstractContextManager[Progress]]
"""Something that shows the training of the model with that name."""


@dataclass(frozen=True)
class ModelComparison:
    """What became of every model."""

    comparison: Comparison
    """The exported files beside each other, on the test events."""
    seconds: Mapping[str, float]
    """What training took; not of models that were there already."""
    left_out: Mapping[str, str]
    """Models that are not in the comparison, and why."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return {
            **self.comparison.to_json(),
            "train_seconds": {name: round(took, 1) for name, took in self.seconds.items()},
            "left_out": dict(self.left_out),
        }


def compare_models(
    log: Interactions,
    report: DataReport,
    recipe: DataRecipe,
    config: TrainConfig,
    *,
    out: str | Path,
    allow_users: bool = False,
    resume: bool = False,
    watch: Watch | None = None,
    tick: Tick | None = None,
) -> ModelComparison:
    """Train and export every model into a folder of `out`, and compare the files there.

    config: what they share, such as epochs and seed; model and settings are those of the family.
    allow_users: also the models whose files hold user ids. resume: keep what an earlier call
    finished. A model that this log is not made for is left out, with the reason; `ValueError` if
    that is all of them, `RunError` for a folder that holds something else.
    """
    directory = Path(out)
    check_comparison_directory(directory, resume=resume)
    with _kept_until_compared(directory):
        return _train_compared(
            log, report, recipe, config, directory, allow_users, resume, watch, tick
        )


@contextmanager
def _kept_until_compared(directory: Path) -> Iterator[None]:
    """For a block that trains the family: an error of it says how to go on with what is done."""
    try:
        yield
    except BaseException as error:
        if (directory / UNFINISHED).exists() and not hasattr(error, "__notes__"):
            error.add_note(
                f"the models in {directory} are kept: the same command with `resume` goes on"
            )
        raise
    (directory / UNFINISHED).unlink(missing_ok=True)


def _train_compared(
    log: Interactions,
    report: DataReport,
    recipe: DataRecipe,
    config: TrainConfig,
    directory: Path,
    allow_users: bool,
    resume: bool,
    watch: Watch | None,
    tick: Tick | None,
) -> ModelComparison:
    """`compare_models` in a folder that was checked."""
    files: list[Path] = []
    seconds: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name, (model, settings) in COMPARED_MODELS.items():
        member = replace(config, model=model, settings=settings)
        reason = _unfit(member, recipe, allow_users=allow_users)
        run = _finished(directory / name, member, recipe, log) if resume else None
        if reason is None and run is not None:
            logger.warning("%s is there already: kept", run.directory)
        begun = checkpoint_files(unfinished_directory(directory / name))
        try:
            if reason is None and run is None:
                started = time.monotonic()
                with nullcontext() if watch is None else watch(name) as progress:
                    run = train_log(
                        log,
                        report,
                        recipe,
                        member,
                        out=directory / name,
                        progress=progress,
                        resume=resume and bool(begun),
                    )
                (directory / UNFINISHED).touch()
                seconds[name] = time.monotonic() - started
            if reason is None and run is not None:
                file = run.directory / MODEL_FILE
                if not file.is_file():
                    export(run, file, allow_users=allow_users)
                files.append(file)
        except (AttnrecError, ValueError) as error:
            # Its remedies are settings of one model, and the family is trained as it is.
            reason = error.problem if isinstance(error, DataError) else str(error)
        if reason is not None:
            logger.warning("%s is left out: %s", name, reason)
            left_out[name] = reason
    if not files:
        raise ValueError(f"no model could be trained on this log: {left_out}")
    family = ModelComparison(compare(files, tick=tick), seconds, left_out)
    with replace_file(directory / FIGURES) as path:
        path.write_text(json.dumps(family.to_json(), indent=1) + "\n", encoding="utf-8")
    draw_comparison(family.comparison, directory / PICTURE)
    return family


def _unfit(config: TrainConfig, recipe: DataRecipe, *, allow_users: bool) -> str | None:
    """Why a model is not trained at all; None: it is."""
    asks_for_users = any(f.name == "n_users" for f in fields(MODELS[config.model].config))
    if asks_for_users and not allow_users:
        return "its file would hold user ids; allow that with `allow_users`"
    if config.model == "personal-frequency" and not recipe.repeats:
        return "without `repeats` nobody has an item twice, and it is popularity"
    return None


def _finished(
    directory: Path, config: TrainConfig, recipe: DataRecipe, log: Interactions
) -> Run | None:
    """The run that is there already, if it is what would be trained."""
    try:
        run = Run.load(directory)
    except RunError:
        return None
    if run.recipe != recipe or _contents(run.split.interactions) != _contents(log):
        return None
    return run if run.config == config.with_recipe(run.split)[0] else None


def _contents(log: Interactions) -> tuple[Any, ...]:
    """All that a model and its file are made of: events, weights, tags, titles, attributes."""
    told = (log.titles, log.item_attributes)
    return log.fingerprint(extras=True), *(x if x is None else x.tolist() for x in told)

"""Every model on one log: trained, exported, and compared on what none of them has seen."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
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
from attnrec.train.models import COMPARED_MODELS, model_kind
from attnrec.train.run_files import checkpoint_files, unfinished_directory
from attnrec.train.runs.run import Run
from attnrec.train.runs.train import train_log
from attnrec.train.splits.split import divide

logger = logging.getLogger(__name__)

Watch = Callable[[str], AbstractContextManager[Progress]]
"""Something that shows the training of the model with that name."""


@dataclass(frozen=True)
class ModelComparison:
    """What became of every model."""

    comparison: Comparison
    """The figures of the exported files, on the test events."""
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
    models: Mapping[str, tuple[str, dict[str, Any]]] = COMPARED_MODELS,
    allow_users: bool = False,
    resume: bool = False,
    watch: Watch | None = None,
    tick: Tick | None = None,
) -> ModelComparison:
    """Train and export every model into a folder of `out`, and compare the files there.

    config: what they share, such as epochs and seed; models: model and settings of each, by name.
    allow_users: also the models whose files hold user ids. resume: keep what an earlier call
    finished. A model that this log is not made for is left out, with the reason; `ValueError` if
    that is all of them, `RunError` for a folder that holds something else.
    """
    directory = Path(out)
    check_comparison_directory(directory, resume=resume, names=tuple(models))
    divide(log, config.split, time_unit=report.time_unit)  # refused once, not for every model
    made = _Models(log, report, recipe, directory, allow_users, resume, watch)
    with _kept_until_compared(directory):
        for name, (model, settings) in models.items():
            made.add(name, replace(config, model=model, settings=settings))
        if not made.files:
            raise ValueError(f"no model could be trained on this log: {made.left_out}")
        found = ModelComparison(compare(made.files, tick=tick), made.seconds, made.left_out)
        with replace_file(directory / FIGURES) as path:
            path.write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
        draw_comparison(found.comparison, directory / PICTURE)
    return found


@contextmanager
def _kept_until_compared(directory: Path) -> Iterator[None]:
    """For a block that trains the models: an error of it says how to go on with what is done."""
    try:
        yield
    except BaseException as error:
        if (directory / UNFINISHED).exists() and not hasattr(error, "__notes__"):
            error.add_note(
                f"the models in {directory} are kept: the same command with `resume` goes on"
            )
        raise
    (directory / UNFINISHED).unlink(missing_ok=True)


@dataclass
class _Models:
    """Trains and exports model after model; those that the log is not made for are left out."""

    log: Interactions
    report: DataReport
    recipe: DataRecipe
    directory: Path
    allow_users: bool
    resume: bool
    watch: Watch | None
    files: list[Path] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, config: TrainConfig) -> None:
        """Export a run of this configuration, which is trained unless it is there already."""
        try:
            self._check(config)
            run = self._finished(name, config) if self.resume else None
            if run is None:
                run = self._train(name, config)
            else:
                logger.warning("%s is there already: kept", run.directory)
            file = run.directory / MODEL_FILE
            if not file.is_file():
                export(run, file, allow_users=self.allow_users)
            self.files.append(file)
        except (AttnrecError, ValueError) as error:
            # The remedies are settings of one model, and here each is trained as it is.
            reason = error.problem if isinstance(error, DataError) else str(error)
            logger.warning("%s is left out: %s", name, reason)
            self.left_out[name] = reason

    def _check(self, config: TrainConfig) -> None:
        """`ValueError` for a model that is not trained at all."""
        names = {f.name for f in fields(model_kind(config.model).config)}
        if "n_users" in names and not self.allow_users:
            raise ValueError("its file would hold user ids; allow that with `allow_users`")
        if config.model == "personal-frequency" and not self.recipe.repeats:
            raise ValueError("without `repeats` no user has an item twice, and it is popularity")

    def _finished(self, name: str, config: TrainConfig) -> Run | None:
        """The run that is there already, if it is what would be trained."""
        try:
            run = Run.load(self.directory / name)
        except RunError:
            return None
        contents, own = (
            log.fingerprint(extras=True) for log in (self.log, run.split.interactions)
        )
        if run.recipe != self.recipe or own != contents:
            return None
        return run if run.config == config.with_recipe(run.split)[0] else None

    def _train(self, name: str, config: TrainConfig) -> Run:
        out = self.directory / name
        is_begun = bool(checkpoint_files(unfinished_directory(out)))
        started = time.monotonic()
        with nullcontext() if self.watch is None else self.watch(name) as progress:
            run = train_log(
                self.log, self.report, self.recipe, config, out=out, progress=progress,
                resume=self.resume and is_begun,
            )  # fmt: skip
        (self.directory / UNFINISHED).touch()
        self.seconds[name] = time.monotonic() - started
        return run

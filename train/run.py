"""A run directory: everything about one trained model, complete by itself."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import safetensors
import safetensors.torch

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import is_mount_point
from attnrec.runtime.version import __version__
from attnrec.train.checkpoint import checkpoint_files, unfinished_directory
from attnrec.train.config import TrainConfig
from attnrec.train.interactions import EVENTS_FILE, ITEMS_FILE, Interactions
from attnrec.train.learning_curve import draw_learning_curve
from attnrec.train.models import MODELS
from attnrec.train.models.protocol import RecommenderModel
from attnrec.train.recipe import DataRecipe
from attnrec.train.replacing import replace_directory, tidy_after_kill, work_directory
from attnrec.train.run_report.page import run_report
from attnrec.train.split import Catalogue, Split, all_events, divide
from attnrec.train.tuning_store import search_file
from attnrec.train.unseen import after_time, newest_time

_CONFIG, _DATA, _METRICS = "config.json", "data.json", "metrics.json"
_WEIGHTS, _CATALOGUE, _CURVE = "weights.safetensors", "catalogue.parquet", "learning_curve.png"
REPORT_FILE = "report.html"
"""What a person looks at, where a report was asked for."""
MODEL_FILE = "model.onnx"
"""Where a run is exported to unless told otherwise."""


def reports_of(file: str | Path) -> tuple[Path, Path]:
    """Where attnrec-export keeps the figures of the profiles beside a file, and their picture."""
    return Path(file).with_suffix(".profiles.json"), Path(file).with_suffix(".profiles.png")


OF_DESKTOPS = {".DS_Store", "Thumbs.db", "desktop.ini", ".directory", ".ipynb_checkpoints"}
"""What file managers and notebooks leave in any directory that somebody looks at."""
_OWN_FILES = {
    _CONFIG, _DATA, _METRICS, _WEIGHTS, _CATALOGUE, _CURVE, EVENTS_FILE, ITEMS_FILE, MODEL_FILE,
    REPORT_FILE, *(path.name for path in reports_of(MODEL_FILE)),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A trained model with the data and settings that made it."""

    directory: Path
    """Where it is kept."""
    config: TrainConfig
    """How it was trained."""
    recipe: DataRecipe
    """How its log was read; the same recipe reads another log for `attnrec-evaluate --data`."""
    data: Mapping[str, Any]
    """What the log held and what was dropped: `DataReport.to_json`; and "seen_before", where the
    run went on from one of another log: Unix seconds of the newest event that had been seen."""
    split: Split
    """The prepared log, divided as the model saw it."""
    model: RecommenderModel
    """In eval mode."""
    metrics: Mapping[str, Any]
    """Held-out figures and the learning curve."""

    def seen_until(self) -> int | None:
        """Unix seconds of the newest event of its log that was seen; None: that has only an order.

        Of a final run all events are seen, of another one all but the test targets.
        """
        if self.data["time_unit"] == "order":
            return None
        return newest_time(self.split.interactions, self.split.n_seen())

    @classmethod
    def load(cls, directory: str | Path) -> "Run":
        """Read a run directory. `RunError` if it is missing, incomplete or damaged."""
        path = Path(directory)
        if not (path / _CONFIG).is_file():
            raise RunError(
                f"{path} is not a run directory: it has no {_CONFIG}. "
                "Train one with attnrec-train, or name the directory that attnrec-train wrote"
            )
        stored = _read_json(path / _CONFIG)
        data = _read_json(path / _DATA)
        log = Interactions.load(path)
        metrics = _read_json(path / _METRICS)
        try:
            config = TrainConfig.from_json(stored["train"])
            recipe = DataRecipe.from_json(data["recipe"])
            report = data["report"]
            split = all_events(log) if stored["final"] else divide(log, config.split)
            if (before := report.get("seen_before")) is not None:
                split = replace(split, unseen=after_time(log, before, "the run before"))
            kind = MODELS[config.model]
            model = kind.model(kind.config(**stored["model_config"]))
            # Everything is derived from the log; the stored catalogue proves that it still is.
            if split.catalogue.item_ids.tolist() != _stored_item_ids(path):
                raise RunError(f"{path}: {_CATALOGUE} does not follow from the interactions")
            model.load_state_dict(safetensors.torch.load_file(path / _WEIGHTS))
            for key in ("valid", "best_epoch"):
                if key not in metrics:
                    raise RunError(f"{path / _METRICS} has no {key!r}; train again")
        except (AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise RunError(f"{path} is damaged ({error!r}); train again") from error
        except safetensors.SafetensorError as error:
            raise RunError(f"{path / _WEIGHTS} is damaged ({error}); train again") from error
        return cls(path, config, recipe, report, split, model.eval(), metrics)

    def save(self) -> None:
        """Write the whole directory, replacing an earlier run there only when all is written."""
        with replace_directory(self.directory) as path:
            _write_json(
                path / _CONFIG,
                {
                    "attnrec": __version__,
                    "train": self.config.to_json(),
                    "model_config": vars(self.model.config),
                    "final": self.split.final,
                },
            )
            _write_json(path / _DATA, {"recipe": self.recipe.to_json(), "report": self.data})
            _write_json(path / _METRICS, self.metrics)
            self.split.interactions.save(path)
            _save_catalogue(self.split.catalogue, path / _CATALOGUE)
            # Not save_file: a full disk is then the OSError that it is, not a SafetensorError.
            (path / _WEIGHTS).write_bytes(safetensors.torch.save(self.model.state_dict()))
            if len(self.metrics.get("epochs", ())) > 1:
                draw_learning_curve(self.metrics["epochs"], path / _CURVE)
            if "report" in self.metrics:
                page = run_report(
                    self.config, self.model.config, self.recipe, self.data, self.metrics
                )
                (path / REPORT_FILE).write_text(page, "utf-8", errors="backslashreplace")


def check_target(directory: Path, *, resume: bool = False, tuning: bool = False) -> None:
    """Refuse, before hours of training, a target that holds something else than a run.

    resume: it may have an unfinished training beside it; tuning: an unfinished search.
    """
    real, unfinished = Path(os.path.realpath(directory)), unfinished_directory(directory)
    for place in (directory, unfinished):
        if os.path.exists(place) and not place.is_dir():  # a name too long is found below
            raise RunError(f"{place} is a file; name a directory for the run with --out")
    try:
        str(real).encode()
    except UnicodeEncodeError as error:  # Arrow opens files by names in UTF-8
        raise RunError(f"{str(directory)!a} is not valid Unicode; name another --out") from error
    if is_mount_point(real):
        raise RunError(
            f"{directory} is a mount point, which cannot be replaced as a whole when the run is "
            f"done; name a directory in it, such as --out {directory / 'run'}"
        )
    if os.path.isdir(directory):
        foreign = sorted(filter(_is_foreign, (path.name for path in directory.iterdir())))
        if foreign:
            raise RunError(
                f"{directory} holds {foreign[0]!r}, which is not part of a run and would be lost; "
                "move it away, or name another directory with --out"
            )
    if not real.parent.is_dir():
        raise RunError(f"{real.parent} does not exist; make it first, or name another --out")
    _check_writable(real, unfinished)
    tidy_after_kill(directory)
    _check_unfinished(directory, resume=resume, tuning=tuning)


def _is_foreign(name: str) -> bool:
    """Whether a run directory may not hold it; a killed export leaves `.01234567.model.onnx`."""
    return re.sub(r"\A\.[0-9a-f]{8}\.", "", name) not in _OWN_FILES and name not in OF_DESKTOPS


def _check_writable(target: Path, unfinished: Path) -> None:
    """Make what will be made, and remove it: names too long and full tables are found as well."""
    if os.path.isdir(target) and not os.access(target, os.W_OK):
        raise RunError(f"{target} is not writable; name another --out")
    for place in (work_directory(target), unfinished):
        try:
            if os.path.exists(place):
                place = work_directory(place / "checkpoint")
            place.mkdir()
            place.rmdir()
        except OSError as error:
            raise RunError(
                f"{place.parent} is not writable; name another --out ({error.strerror})"
            ) from error


def _check_unfinished(directory: Path, *, resume: bool, tuning: bool) -> None:
    """Refuse to begin anew what was interrupted, or to go on with it as something else."""
    unfinished = unfinished_directory(directory)
    if search_file(directory).exists() and not (resume and tuning):
        raise RunError(
            f"{unfinished} holds a search that was interrupted: go on with --tune MINUTES "
            "--resume (tune(..., resume=True)), or delete that directory to train anew"
        )
    if tuning and checkpoint_files(unfinished):
        raise RunError(
            f"{unfinished} holds a training that was interrupted, not a search: go on without "
            "--tune, or delete that directory to search anew"
        )
    if not resume and checkpoint_files(unfinished):
        raise RunError(
            f"{unfinished} holds a training that was interrupted: go on with --resume "
            "(resume=True), or delete that directory to train anew"
        )


def _save_catalogue(catalogue: Catalogue, path: Path) -> None:
    columns = {
        "item_id": pa.array(catalogue.item_ids.tolist()),
        "n_training_events": pa.array(catalogue.n_events),
    }
    if catalogue.titles is not None:
        columns["title"] = pa.array(catalogue.titles.tolist(), pa.string())
    pyarrow.parquet.write_table(pa.table(columns), path)


def _stored_item_ids(path: Path) -> list[int] | list[str]:
    table = pyarrow.parquet.read_table(path / _CATALOGUE, columns=["item_id"])
    ids: list[int] | list[str] = table["item_id"].to_pylist()
    return ids


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is missing or damaged ({error}); train again") from error
    return value

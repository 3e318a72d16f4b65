"""A run directory: everything about one trained model, complete by itself."""

import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import safetensors
import safetensors.torch

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import sync_directory, sync_file
from attnrec.runtime.version import __version__
from attnrec.train.checkpoint import checkpoint_files, unfinished_directory
from attnrec.train.config import TrainConfig
from attnrec.train.device import torch_as_it_was
from attnrec.train.interactions import EVENTS_FILE, ITEMS_FILE, Interactions
from attnrec.train.learning_curve import draw_learning_curve
from attnrec.train.models import MODELS
from attnrec.train.models.protocol import RecommenderModel
from attnrec.train.recipe import DataRecipe
from attnrec.train.run_report.page import run_report
from attnrec.train.split import Catalogue, Split, all_events, divide
from attnrec.train.tuning_store import search_file

_CONFIG, _DATA, _METRICS = "config.json", "data.json", "metrics.json"
_WEIGHTS, _CATALOGUE, _CURVE = "weights.safetensors", "catalogue.parquet", "learning_curve.png"
REPORT_FILE = "report.html"
"""What a person looks at, where a report was asked for."""
MODEL_FILE = "model.onnx"
"""Where a run is exported to unless told otherwise."""
_OWN_FILES = {
    _CONFIG, _DATA, _METRICS, _WEIGHTS, _CATALOGUE, _CURVE, EVENTS_FILE, ITEMS_FILE, MODEL_FILE,
    REPORT_FILE,
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
    """What the log held and what was dropped: `DataReport.to_json`."""
    split: Split
    """The prepared log, divided as the model saw it."""
    model: RecommenderModel
    """In eval mode."""
    metrics: Mapping[str, Any]
    """Held-out figures and the learning curve."""

    @classmethod
    @torch_as_it_was()  # a model draws weights before it gets its own
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
            if (model_name := stored["train"]["model"]) not in MODELS:
                raise _unregistered(path, model_name)
            config = TrainConfig.from_json(stored["train"])
            recipe = DataRecipe.from_json(data["recipe"])
            split = all_events(log) if stored["final"] else divide(log, config.split)
            kind = MODELS[config.model]
            model = kind.model(kind.config(**stored["model_config"]))
            # Everything is derived from the log; the stored catalogue proves that it still is.
            if split.catalogue.item_ids.tolist() != _stored_item_ids(path):
                raise RunError(f"{path}: {_CATALOGUE} does not follow from the interactions")
            model.load_state_dict(safetensors.torch.load_file(path / _WEIGHTS))
            report = data["report"]
            for key in ("valid", "best_epoch"):
                if key not in metrics:
                    raise RunError(f"{path / _METRICS} has no {key!r}; train again")
        except (AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise _unreadable(path, stored, error) from error
        except safetensors.SafetensorError as error:
            raise RunError(f"{path / _WEIGHTS} is damaged ({error}); train again") from error
        return cls(path, config, recipe, report, split, model.eval(), metrics)

    def save(self) -> None:
        """Write the whole directory, replacing an earlier run there only when all is written."""
        with _replace_directory(self.directory) as path:
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


def _unregistered(path: Path, model: str) -> RunError:
    return RunError(
        f"{path} was trained with the model {model!r}, which is not registered here: import the "
        f"module with its line MODELS[{model!r}] = ... first. The commands know the models of "
        f"attnrec alone: {', '.join(MODELS)}"
    )


def _unreadable(path: Path, stored: object, error: Exception) -> RunError:
    """Damaged, or written by a version that has other settings."""
    written = stored.get("attnrec") if isinstance(stored, dict) else None
    if isinstance(written, str) and written != __version__:
        return RunError(
            f"{path} was written by attnrec {written}, and attnrec {__version__} cannot read it "
            f"({error!r}): install attnrec {written}, or train again"
        )
    return RunError(f"{path} is damaged ({error!r}); train again")


def check_target(directory: Path, *, resume: bool = False, tuning: bool = False) -> None:
    """Refuse, before hours of training, a target that holds something else than a run.

    resume: it may have an unfinished training beside it; tuning: an unfinished search.
    """
    parent, unfinished = directory.absolute().parent, unfinished_directory(directory)
    for place in (directory, unfinished):
        if place.exists() and not place.is_dir():
            raise RunError(f"{place} is a file; name a directory for the run with --out")
    if directory.is_dir():
        foreign = sorted({path.name for path in directory.iterdir()} - _OWN_FILES)
        if foreign:
            raise RunError(
                f"{directory} holds {foreign[0]!r}, which is not part of a run and would be lost; "
                "move it away, or name another directory with --out"
            )
    if not parent.is_dir():
        raise RunError(f"{parent} does not exist; make it first, or name another --out")
    try:
        str(directory.absolute()).encode()
    except UnicodeEncodeError as error:  # Arrow opens files by names in UTF-8
        raise RunError(f"{str(directory)!a} is not valid Unicode; name another --out") from error
    for place in (parent, unfinished):
        if place.exists() and not os.access(place, os.W_OK):
            raise RunError(f"{place} is not writable; name another --out")
    _tidy_after_kill(directory)
    _check_unfinished(directory, resume=resume, tuning=tuning)


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


@contextmanager
def _replace_directory(target: Path) -> Iterator[Path]:
    """Yield a new directory beside `target` that takes its name when the block succeeds."""
    target = target.absolute()
    token = secrets.token_hex(4)
    fresh = target.with_name(f".{token}.{target.name}")
    old = target.with_name(f".{token}.old.{target.name}")
    fresh.mkdir()
    try:
        yield fresh
        # On the disk before the checkpoints of its training go: a power cut must not take both.
        for path in fresh.iterdir():
            sync_file(path)
        sync_directory(fresh)
        if target.exists():
            os.replace(target, old)
        # Killed here, a process leaves no run under this name: see _tidy_after_kill.
        os.replace(fresh, target)
        sync_directory(target.parent)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _tidy_after_kill(target: Path) -> None:
    """Put right what a process left that was killed while it replaced `target`."""
    target = target.absolute()
    token, name = "." + 8 * "[0-9a-f]", glob.escape(target.name)
    for old in target.parent.glob(f"{token}.old.{name}"):
        if not target.exists():
            os.replace(old, target)  # the new run is made again from its last checkpoint
        shutil.rmtree(old, ignore_errors=True)
    for fresh in target.parent.glob(f"{token}.{name}"):
        shutil.rmtree(fresh, ignore_errors=True)


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

"""A run directory: everything about one trained model, complete by itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import safetensors
import safetensors.torch

from attnrec.runtime.errors import RunError
from attnrec.runtime.version import __version__
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.side_tables import read_catalogue
from attnrec.train.data.tables import TableSource
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.device import torch_as_it_was
from attnrec.train.fitting.run_metrics import RunMetrics
from attnrec.train.models import MODELS, ModelKind, model_kind
from attnrec.train.models.base import RecommenderModel, TableModel
from attnrec.train.run_files import (
    CATALOGUE_FILE,
    CONFIG_FILE,
    DATA_FILE,
    METRICS_FILE,
    REPORT_FILE,
    WEIGHTS_FILE,
    is_first_process,
)
from attnrec.train.runs.going_on import EPOCHS, LEARNING_RATE
from attnrec.train.runs.new_catalogue import for_catalogue, has_item_vectors
from attnrec.train.runs.newer_events import for_newer_events, knows_popularity
from attnrec.train.runs.replacing import replace_directory
from attnrec.train.runs.target import check_run
from attnrec.train.splits.held_out import newest_time
from attnrec.train.splits.split import Catalogue, Split, all_events, divide


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
    metrics: RunMetrics
    """Held-out figures and the learning curve."""

    def seen_until(self) -> int | None:
        """Unix seconds of the newest event of its log that was seen; None: that has only an order.

        Of a final run all events are seen, of another one all but the test targets.
        """
        if self.metrics.newer is not None:
            return int(self.metrics.newer["until"])
        if self.data["time_unit"] == "order":
            return None
        return newest_time(self.split.interactions, self.split.n_seen())

    def config_again(self) -> TrainConfig:
        """The same model and settings from scratch on another log, to be read by `recipe`.

        It differs from `config` where the run began from another one.
        """
        begun = self.metrics.init_from
        if begun is None:
            return self.config
        epochs, rate = begun["epochs_from_scratch"], begun["learning_rate_from_scratch"]
        return replace(self.config, epochs=epochs, learning_rate=rate)

    def config_to_go_on(self) -> TrainConfig:
        """The same model and settings for `train(..., init_from=run)`: few epochs, small steps."""
        return replace(self.config, epochs=EPOCHS, learning_rate=LEARNING_RATE)

    def with_catalog(self, table: TableSource, *, allow_smaller: bool = False) -> "Run":
        """The same model for the items of a table, without training, to be exported.

        Trained items stay as they are, those that the table lacks are gone, and new ones get the
        vectors and neighbours of what they resemble by the columns that described the trained
        ones. Raises `DataError`, also where a fifth of the trained items is gone unless
        `allow_smaller`, and ``ValueError`` for a model without item vectors.
        """
        if not (isinstance(self.model, TableModel) and has_item_vectors(self.model)):
            raise ValueError(
                f"{self.config.model} has no item vectors that new items could resemble: train it "
                "again, or train fusion, sasrec or an attention-pool"
            )
        if self.metrics.catalogue is not None:
            raise ValueError(
                "this run has another catalogue already: give the new one to the run that was "
                "trained, Run.load(directory)"
            )
        columns, ids = self.data.get("item_columns"), self.split.catalogue.item_ids
        described = read_catalogue(table, self.recipe, ids, columns)
        split, model, counts = for_catalogue(
            self.split, self.model, described, allow_smaller=allow_smaller
        )
        metrics = replace(self.metrics, of="the catalogue of the training", catalogue=counts)
        return replace(self, split=split, model=model, metrics=metrics)

    def with_recent(self, events: TableSource) -> "Run":
        """The same model with the popularity, or the trend, of newer events, to be exported.

        Read as its log was; of an overlap the log counts, and items that it does not know are left
        out. No training, and nothing to measure it with: the test events of its log are counted as
        well. Raises `DataError` for events that are not newer, ``ValueError`` for a model that
        knows neither.
        """
        if not knows_popularity(self.model):
            raise ValueError(
                f"newer events change nothing in {self.directory}: {self.config.model} has no "
                "trend. Train popularity, or fusion with `split=time`, which has one where "
                "validation gains by it"
            )
        if self.seen_until() is None or self.metrics.newer is not None:
            raise ValueError(
                f"{self.directory} has an order and no times, so nothing is newer"
                if self.metrics.newer is None
                else "this run has newer events already: give all of them at once"
            )
        model, newer = for_newer_events(self.split, self.model, self.recipe, events)
        of = self.metrics.of or "the model before newer events were counted"
        metrics = replace(self.metrics, newer=newer, of=of)
        return replace(self, model=model, metrics=metrics, split=replace(self.split, by=None))

    @classmethod
    @torch_as_it_was()  # a model draws weights before it gets its own
    def load(cls, directory: str | Path) -> "Run":
        """Read a run directory. `RunError` if it is missing, incomplete or damaged."""
        path = Path(directory)
        check_run(path)
        stored = _read_json(path / CONFIG_FILE)
        data = _read_json(path / DATA_FILE)
        log = Interactions.load(path)
        figures = _read_json(path / METRICS_FILE)
        try:
            kind = _kind_of(path, stored["train"]["model"])
            config = TrainConfig.from_json(stored["train"])
            recipe = DataRecipe.from_json(data["recipe"])
            report = data["report"]
            split = all_events(log) if stored["final"] else divide(log, config.split)
            model = kind.model(kind.config(**stored["model_config"]))
            # Everything is derived from the log; the stored catalogue proves that it still is.
            if split.catalogue.item_ids.tolist() != _stored_item_ids(path):
                raise RunError(f"{path}: {CATALOGUE_FILE} does not follow from the interactions")
            _load_weights(model, path)
            for key in ("valid", "best_epoch"):
                if key not in figures:
                    raise RunError(f"{path / METRICS_FILE} has no {key!r}; train again")
            metrics = RunMetrics.from_json(figures)
        except (AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise _unreadable(path, stored, error) from error
        except safetensors.SafetensorError as error:
            raise RunError(f"{path / WEIGHTS_FILE} is damaged ({error}); train again") from error
        return cls(path, config, recipe, report, split, model.eval(), metrics)

    def save(self, report: str | None = None) -> None:
        """Write the whole directory, replacing an earlier run there only when all is written.

        report: the HTML page about it. Of processes that train together the first writes.
        """
        if not is_first_process():
            return
        with replace_directory(self.directory) as path:
            _write_json(
                path / CONFIG_FILE,
                {
                    "attnrec": __version__,
                    "train": self.config.to_json(),
                    "model_config": vars(self.model.config),
                    "final": self.split.final,
                },
            )
            _write_json(path / DATA_FILE, {"recipe": self.recipe.to_json(), "report": self.data})
            _write_json(path / METRICS_FILE, self.metrics.to_json())
            self.split.interactions.save(path)
            _save_catalogue(self.split.catalogue, path / CATALOGUE_FILE)
            # Not save_file: a full disk is then the OSError that it is, not a SafetensorError.
            (path / WEIGHTS_FILE).write_bytes(safetensors.torch.save(self.model.state_dict()))
            if report is not None:
                (path / REPORT_FILE).write_text(report, "utf-8", errors="backslashreplace")


def _load_weights(model: RecommenderModel, path: Path) -> None:
    """`RunError` for weights of a model with other settings; torch names them all in one line."""
    weights = safetensors.torch.load_file(path / WEIGHTS_FILE)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        stored = {name: tuple(value.shape) for name, value in weights.items()}
        name = next(n for n in {**shapes, **stored} if shapes.get(n) != stored.get(n))
        raise RunError(
            f"{path / CONFIG_FILE} does not belong to the weights in {WEIGHTS_FILE}: {name} is "
            f"{stored.get(name, 'not there')}, not {shapes.get(name, 'wanted')}; train again"
        ) from error


def _kind_of(path: Path, model: str) -> ModelKind:
    """`RunError` for a model that is not registered here, or that cannot be imported."""
    try:
        return model_kind(model)
    except ValueError as error:
        remedy = (
            f"which is not there: {error}"
            if ":" in model
            else "which is not registered here: import the module with its line "
            f"MODELS[{model!r}] = ... first. The commands know by name the models of attnrec "
            f"alone: {', '.join(MODELS)}"
        )
        raise RunError(f"{path} was trained with the model {model!r}, {remedy}") from error


def _unreadable(path: Path, stored: object, error: Exception) -> RunError:
    """Damaged, or written by a version that has other settings."""
    written = stored.get("attnrec") if isinstance(stored, dict) else None
    if isinstance(written, str) and written != __version__:
        return RunError(
            f"{path} was written by attnrec {written}, and attnrec {__version__} cannot read it "
            f"({error!r}): install attnrec {written}, or train again"
        )
    return RunError(f"{path} is damaged ({error!r}); train again")


def _save_catalogue(catalogue: Catalogue, path: Path) -> None:
    columns = {
        "item_id": pa.array(catalogue.item_ids.tolist()),
        "n_training_events": pa.array(catalogue.n_events),
    }
    if catalogue.titles is not None:
        columns["title"] = pa.array(catalogue.titles.tolist(), pa.string())
    pyarrow.parquet.write_table(pa.table(columns), path)


def _stored_item_ids(path: Path) -> list[int] | list[str]:
    table = pyarrow.parquet.read_table(path / CATALOGUE_FILE, columns=["item_id"])
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

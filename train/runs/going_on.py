"""Going on from another run: its weights for the items of a longer log, then a few epochs.

    item of both            its vector
    new, and described      mean of the vectors of the trained items that it resembles
    new, not described      mean of the vectors of the items that precede its first events
    new, nothing before it  as in any training
    everything else         the weights of the run; counts are made again, and validation chooses
                            their weights near those of the run

A new vector has the length of a trained one: where logits are cosines the length decides nothing
but how fast a vector turns.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from attnrec.runtime.errors import DataError, RunError, kind_of_ids
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import IdTypes, load_interactions
from attnrec.train.data.recipe import DataRecipe, DataReport
from attnrec.train.data.sources import recognise
from attnrec.train.data.tables import TableSource
from attnrec.train.data.tables import shown as quoted
from attnrec.train.fitting.config import TrainConfig, value_text
from attnrec.train.models.base import (
    LearnedModel,
    RecommenderModel,
    TableModel,
    learned_tensors,
)
from attnrec.train.models.content_based import Describer
from attnrec.train.runs.new_catalogue import ITEM_VECTORS, alike, has_item_vectors, rows_of
from attnrec.train.splits.config import TimeSplit
from attnrec.train.splits.split import Catalogue, Split
from attnrec.train.splits.time_split import cuts_of, shown

if TYPE_CHECKING:
    from attnrec.train.runs.run import Run  # which knows these epochs

EPOCHS, LEARNING_RATE = 3, 1e-3
"""Of a training that goes on, where nothing else is given."""
_FIRST_PLACES, _EVENTS_BEFORE = 10, 10  # of a new item, and before each
_AGAIN = "train from scratch with its settings (attnrec-train --like)"


def check_apart(out: Path, run: "Run") -> None:
    """`RunError` where a new run would replace the one that it follows."""
    if out.resolve() == run.directory.resolve():
        raise RunError(f"{out} is the run that this one begins from; name another `out`")


def check_going_on(run: "Run", config: TrainConfig, recipe: DataRecipe, out: Path) -> None:
    """`ValueError` for a run, settings or a split that cannot go on; before a log is read."""
    check_apart(out, run)
    if not (isinstance(run.model, TableModel) and has_item_vectors(run.model)):
        raise ValueError(
            "`init_from` goes on with fusion, sasrec and attention-pool, whose weights belong to "
            f"items; {run.config.model} is another kind of model: {_AGAIN}"
        )
    own = {"model": config.model, **config.settings, **recipe.to_json()}
    its = {"model": run.config.model, **run.config.settings, **run.recipe.to_json()}
    for name in sorted({*own, *its}, key="model".__ne__):
        if own.get(name) != its.get(name):
            raise ValueError(
                f"`{name}` is {value_text(own.get(name))}, and in {run.directory}, with which "
                f"`init_from` goes on, {value_text(its.get(name))}: give run.config_to_go_on() "
                "and recipe=run.recipe"
            )
    if run.seen_until() is None:
        raise ValueError(
            f"the log of {run.directory} has an order and no times, so `init_from` cannot tell "
            f"what is new: {_AGAIN}"
        )
    if not isinstance(config.split, TimeSplit):
        raise ValueError(
            f"`init_from` needs `split=time`: {run.directory} has trained on most of what "
            f"{config.split} asks for"
        )


def load_like(
    run: "Run", source: TableSource, *, items: TableSource | None, users: TableSource | None
) -> tuple[Interactions, DataReport]:
    """A later log of the same kind as that of a run, read by its recipe. Raises `DataError`."""
    if run.data.get("item_columns") and items is None and not recognise(source)[1]:
        raise DataError(
            f"the items of {run.directory} are described by a table, and none is given",
            "name the table of the items with `items`",
        )
    # Of text ids, another log may hold only those that look like numbers.
    kind = run.recipe.id_type
    types = IdTypes(kind, "string" if run.split.catalogue.id_type == "string" else "auto")
    try:
        return load_interactions(source, run.recipe, items=items, users=users, of_run=types)
    except DataError as error:
        raise DataError(
            f"{error.problem} (read by the recipe of {run.directory}: a log for it must have the "
            "columns, ids and times of the log that it was trained on)"
        ) from error


def check_log(run: "Run", log: Interactions, time_unit: str, by: TimeSplit | None) -> None:
    """`DataError` for a log that brings the run nothing new, or the answers that it knows.

    by: how it will be divided; None: all of it is trained on.
    """
    seen, directory = run.seen_until(), run.directory
    if seen is None:  # then it does not go on
        return
    if time_unit == "order":
        raise DataError(
            f"the log has an order and no times, and {directory} has seen events until "
            f"{shown(seen)}",
            f"give a log with times, or {_AGAIN}",
        )
    end = shown(int(log.timestamps.max()))
    if log.timestamps.max() <= seen:
        raise DataError(
            f"the log ends at {end}, and {directory} has seen events until {shown(seen)}: there "
            "is nothing new",
            "give the log with the events since then",
        )
    if by is not None and (start := cuts_of(by, log).valid_from) <= seen:
        is_longer = log.timestamps.max() > run.split.interactions.timestamps.max()
        remedy = "give fewer `test_days` or `valid_days`, or a later `test_from`"
        raise DataError(
            f"the validation window begins at {shown(start)}, and {directory} has seen events "
            f"until {shown(seen)}: it knows what would be asked for; the log ends at {end}"
            + ("" if is_longer else ", as its own did"),
            remedy if is_longer else "give the log with the events since then",
        )


def begin_from(model: RecommenderModel, run: "Run", split: Split) -> dict[str, Any]:
    """Give a new model the weights of a run; the figures of `RunMetrics.init_from`."""
    _check_ids(run, split.catalogue)
    assert isinstance(model, LearnedModel)  # as that of the run
    weights, own = learned_tensors(_model_of(run)), learned_tensors(model)
    for name, tensor in weights.items():
        if name != ITEM_VECTORS and (name not in own or own[name].shape != tensor.shape):
            raise ValueError(
                f"{name} of {run.directory} has the shape {tuple(tensor.shape)}, which depends on "
                f"the log, and `init_from` finds the rows of items alone: {_AGAIN}"
            )
    model.chosen_before = vars(run.model.config)
    vectors, counts = _vectors(own[ITEM_VECTORS], run, split)
    model.load_state_dict({**weights, ITEM_VECTORS: vectors}, strict=False)
    seen, first = run.seen_until(), run.config_again()
    assert seen is not None
    return {
        "run": run.directory.absolute().name,
        "seen_until": shown(seen),
        **counts,
        # For `Run.config_again` of the new run.
        "epochs_from_scratch": first.epochs,
        "learning_rate_from_scratch": first.learning_rate,
    }


def _vectors(fresh: Tensor, run: "Run", split: Split) -> tuple[Tensor, dict[str, int]]:
    """Vectors of row 0 and of the items (N + 1, D), and how many items have theirs from where.

    fresh: those of the new model.
    """
    model, its = _model_of(run), run.split.catalogue
    old_row = np.append(0, rows_of(split.catalogue.item_ids, its))  # (N + 1,)
    is_new = np.append(False, old_row[1:] == 0)
    learned, table = model.state_dict()[ITEM_VECTORS], model.item_table().detach()
    made = torch.zeros_like(fresh)
    if is_new.any() and its.is_described() and split.catalogue.is_described():
        share = getattr(model.config, "content_vectors", None)
        new, describer = split.catalogue.some(is_new[1:]), Describer(its, shared=True)
        made[torch.from_numpy(is_new)] = alike(describer, new, its, share, table)[0]
    n_alike = int(made.any(dim=1).sum())
    made = torch.where(made.any(dim=1, keepdim=True), made, _preceding(split, old_row, table))
    is_made = made.any(dim=1, keepdim=True)
    made = learned[1:].norm(dim=1).mean() * F.normalize(made, dim=1)
    vectors = torch.where(is_made, made, fresh)
    vectors[~is_new] = learned[old_row[~is_new]]
    n_made, n_new = int(is_made.sum()), int(is_new.sum())
    n_kept = len(old_row) - 1 - n_new
    return vectors, {
        "n_kept": n_kept,
        "n_from_content": n_alike,
        "n_from_history": n_made - n_alike,
        "n_fresh": n_new - n_made,
        "n_gone": its.n_items - n_kept,
    }


def _model_of(run: "Run") -> TableModel:
    assert isinstance(run.model, TableModel)
    return run.model


def _preceding(split: Split, old_row: NDArray[np.int64], table: Tensor) -> Tensor:
    """For each new row (N + 1, D) the sum of what precedes its first events; zeros for others.

    old_row: of the run for each row (N + 1,), 0 for a new one.
    """
    events = split.sequences
    assert events.timestamps is not None
    places = np.flatnonzero(old_row[events.rows] == 0)
    places = places[np.lexsort((events.timestamps[places], events.rows[places]))]
    item = events.rows[places]
    is_early = np.arange(len(item)) - np.searchsorted(item, item) < _FIRST_PLACES
    places, item = places[is_early], item[is_early]
    start = np.repeat(events.offsets[:-1], np.diff(events.offsets))[places]
    before = places[:, None] - np.arange(1, _EVENTS_BEFORE + 1)  # (n_places, 10)
    known = np.where(before >= start[:, None], old_row[events.rows[before]], 0)
    n_before = (known > 0).sum(axis=1)
    shape = len(old_row), len(table)
    counts = sparse.csr_matrix(
        (np.ones(n_before.sum(), np.float32), (np.repeat(item, n_before), known[known > 0])), shape
    )
    return torch.from_numpy(counts @ table.numpy())


def _check_ids(run: "Run", catalogue: Catalogue) -> None:
    """`DataError` for items that are not those of the run."""
    own, its = catalogue, run.split.catalogue
    if own.id_type != its.id_type:
        raise DataError(
            f"the log has {kind_of_ids(own.id_type)} item ids such as "
            f"{quoted(own.item_ids[:1].tolist()[0])}, and {run.directory} "
            f"{kind_of_ids(its.id_type)} ids such as {quoted(its.item_ids[:1].tolist()[0])}",
            f"give a log with the ids of that run, or {_AGAIN}",
        )
    if not rows_of(own.item_ids, its).any():
        raise DataError(
            f"none of the {its.n_items:,} items of {run.directory}, such as "
            f"{quoted(its.item_ids[:1].tolist()[0])}, has a training event here, and the log has "
            f"{quoted(own.item_ids[:1].tolist()[0])}",
            f"give a later log of the same items, or {_AGAIN}",
        )
    for name, vectors in its.vectors.items():
        found = own.vectors[name].shape[1] if name in own.vectors else "none"
        if found != vectors.shape[1]:
            raise DataError(
                f"column {name!r} of the items of {run.directory} has vectors of "
                f"{vectors.shape[1]:,} numbers, and for the log it has {found}",
                "give an `items` table with vectors of the same encoder",
            )


def identity_of(run: "Run | None") -> str | None:
    """What a training that begins from it takes over, as sha256 (hex)."""
    if run is None:
        return None
    digest = hashlib.sha256(run.split.interactions.fingerprint(extras=True).encode())
    digest.update(str(vars(run.model.config)).encode())
    for name, tensor in learned_tensors(_model_of(run)).items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()

"""Measure an exported file through the runtime: what is measured is what is shipped."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from attnrec.runtime import Recommender, RunError
from attnrec.train.evaluation import Metrics, evaluate_answers
from attnrec.train.interactions import EVENTS_FILE, Interactions
from attnrec.train.loading import load_interactions
from attnrec.train.read_table import Source
from attnrec.train.recipe import DataRecipe
from attnrec.train.split import ItemIds, Part, leave_one_out_targets


def evaluate(path: str | Path, data: Source | None = None, part: Part = "test") -> Metrics:
    """Rank the held-out event of every user with the model file at `path`.

    data: a log, read by the recipe in the file; None: the log of the run directory that the file
    lies in. A file of a final run has seen every event of its own log, so that is refused.
    """
    recommender = Recommender.load(path)
    info = recommender.info
    log = _log_of_run(Path(path)) if data is None else _read_as_in_training(recommender, data)
    if info.final and log.fingerprint() == info.data["fingerprint"]:
        raise ValueError(
            f"{path} was trained on every event of this log, the held-out ones included: figures "
            "on it would flatter. Evaluate the run before it, or other data with --data"
        )
    held_out = leave_one_out_targets(log, part)
    if held_out.targets.dtype != _catalogue(recommender).dtype:
        raise ValueError(
            f"the log has {held_out.targets.dtype} item ids, the file {info.id_type} ids: "
            "this is not the kind of log that the file was trained on"
        )
    return evaluate_answers(
        recommender,
        held_out,
        _catalogue(recommender),
        exclude_seen=not info.repeats,
        inputs=info.inputs,
    )


def _log_of_run(path: Path) -> Interactions:
    directory = path.absolute().parent
    if not (directory / EVENTS_FILE).is_file():
        raise RunError(
            f"{path} does not lie in a run directory: there is no {EVENTS_FILE} beside it. "
            "Name the log with --data"
        )
    return Interactions.load(directory)


def _read_as_in_training(recommender: Recommender, data: Source) -> Interactions:
    recipe = DataRecipe.from_json(recommender.info.data["recipe"])
    # These only matter for learning: another log need not have every type of event, nor tables.
    recipe = replace(recipe, event_weights={}, attribute_cols=(), tag_cols=())
    log, _ = load_interactions(data, recipe)
    if recommender.info.id_type == "string" and log.item_ids.dtype == np.int64:
        # Among text ids, another log may hold those alone that look like numbers.
        return replace(log, item_ids=log.item_ids.astype(str).astype(object))
    return log


def _catalogue(recommender: Recommender) -> ItemIds:
    """Every item id of the file: all of them, in the order for a newcomer."""
    info = recommender.info
    ids = recommender.recommend([], info.n_items, exclude_seen=False).item_ids
    catalogue: ItemIds = np.array(ids, dtype=np.int64 if info.id_type == "int64" else object)
    return catalogue

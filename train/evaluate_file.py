"""Measure an exported file through the runtime: what is measured is what is shipped."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from attnrec.runtime import DataError, ModelInfo, Recommender, RunError
from attnrec.train.evaluation import Metrics, evaluate_answers
from attnrec.train.exported_file import exported_file
from attnrec.train.ids import IdArray, other_spelling
from attnrec.train.interactions import EVENTS_FILE, Interactions
from attnrec.train.loading import IdTypes, load_interactions
from attnrec.train.read_table import Source
from attnrec.train.recipe import DataRecipe, IdType
from attnrec.train.split import PROTOCOLS, ItemIds, Part, Split, SplitName, divide

logger = logging.getLogger(__name__)


def evaluate(
    path: str | Path,
    data: Source | None = None,
    part: Part = "test",
    split: SplitName | None = None,
) -> Metrics:
    """Rank what was held out of every user's log with the model file at `path`.

    path: the file, or the run directory that it was exported in.
    data: a log, read by the recipe in the file; None: the log of the run directory that the file
    lies in. split: how the log is divided; None: as in the training of the file.
    """
    path = exported_file(path)
    recommender = Recommender.load(path)
    info = recommender.info
    divided = divide_fairly(path, info, log_to_ask(path, info, data), split)
    return evaluate_answers(
        recommender,
        divided.held_out(part),
        catalogue_ids(recommender),
        exclude_seen=not info.repeats,
        inputs=info.inputs,
    )


def log_to_ask(path: str | Path, info: ModelInfo, data: Source | None) -> Interactions:
    """`data` read by the recipe in the file, or the log of the run directory around it."""
    log = _log_of_run(Path(path)) if data is None else _read_as_in_training(path, info, data)
    if info.id_type != ("int64" if log.item_ids.dtype == np.int64 else "string"):
        raise ValueError(
            f"the log has {log.item_ids.dtype} item ids, the file {info.id_type} ids: "
            "this is not the kind of log that the file was trained on"
        )
    if info.user_id_type == "int64" and log.user_ids.dtype != np.int64:
        raise ValueError(
            f"the log has text user ids such as {_first_text(log.user_ids)!r}, the file int64 "
            "ids: this is not the kind of log that the file was trained on"
        )
    return log


def divide_fairly(
    path: str | Path, info: ModelInfo, log: Interactions, split: SplitName | None
) -> Split:
    """The log, divided so that the file has not trained on what is held out.

    Refused is the log of a final run, which has trained on all of it, and another split of the
    log that the file was trained on.
    """
    trained: SplitName = info.metrics.get("split", "leave-one-out")
    name = split or trained
    if name not in PROTOCOLS:
        raise ValueError(f"no split {name!r}; there are: {', '.join(PROTOCOLS)}")
    if log.fingerprint() == info.data["fingerprint"]:
        if info.final:
            raise ValueError(
                f"{path} was trained on every event of this log, the held-out ones included: "
                "figures on it would flatter. Evaluate the run before it, or other data with "
                "--data"
            )
        if name != trained:
            raise ValueError(
                f"{path} was trained with --split {trained} on this log, and on events that "
                f"{name} holds out: figures would flatter. Leave --split out here, or train with "
                f"attnrec-train --split {name}"
            )
    return divide(log, name)


def _log_of_run(path: Path) -> Interactions:
    directory = path.absolute().parent
    if not (directory / EVENTS_FILE).is_file():
        raise RunError(
            f"{path} does not lie in a run directory: there is no {EVENTS_FILE} beside it. "
            "Name the log with --data"
        )
    return Interactions.load(directory)


def _read_as_in_training(path: str | Path, info: ModelInfo, data: Source) -> Interactions:
    recipe = DataRecipe.from_json(info.data["recipe"])
    # These only matter for learning: another log need not have every type of event, nor tables.
    recipe = replace(recipe, event_weights={}, attribute_cols=(), tag_cols=())
    # Among text ids, another log may hold those alone that look like numbers.
    as_in_file = IdTypes(_at_least(info.user_id_type), _at_least(info.id_type))
    try:
        log, _ = load_interactions(data, recipe, of_run=as_in_file)
    except DataError as error:
        raise DataError(
            f"{error.problem} (read by the recipe in {path}: a log to measure it on must have the "
            "columns, ids and times of the log it was trained on)"
        ) from error
    return _spelled_as_in(path, log) if info.id_type == "string" else log


def _at_least(kind: str | None) -> IdType:
    """How to read ids for a file that has ids of this kind, or no such ids."""
    return "string" if kind == "string" else "auto"


def _spelled_as_in(path: str | Path, log: Interactions) -> Interactions:
    """Item ids such as "12" as "12.0", or the reverse, where the file knows them only so."""
    other = other_spelling(log.item_ids)
    if other is None:
        return log
    known = set(catalogue_ids(Recommender.load(path)))
    if not known.isdisjoint(log.item_ids) or known.isdisjoint(other):
        return log
    logger.warning(
        "item ids such as %r are read as %r, as they are in %s", log.item_ids[0], other[0], path
    )
    return replace(log, item_ids=other)


def _first_text(ids: IdArray) -> str:
    """One that is no whole number."""
    return next(text for text in map(str, ids) if not text.lstrip("-").isdigit())


def catalogue_ids(recommender: Recommender) -> ItemIds:
    """Every item id of the file: all of them, in the order for a newcomer."""
    info = recommender.info
    ids = recommender.recommend([], info.n_items, exclude_seen=False).item_ids
    catalogue: ItemIds = np.array(ids, dtype=np.int64 if info.id_type == "int64" else object)
    return catalogue

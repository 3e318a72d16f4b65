"""Which log, and which events of it, an exported file can fairly be evaluated on."""

import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from attnrec.runtime import DataError, ModelInfo, Recommender, RunError
from attnrec.runtime.arguments import IdArray
from attnrec.runtime.errors import kind_of_ids
from attnrec.train.data.ids import spelled_as
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import IdTypes, load_interactions
from attnrec.train.data.recipe import ITEM_KINDS, DataRecipe, IdType
from attnrec.train.data.tables import TableSource
from attnrec.train.run_files import EVENTS_FILE
from attnrec.train.splits.config import Part, SplitName, TimeSplit
from attnrec.train.splits.held_out import HeldOut, Unseen, after_sequences, after_time
from attnrec.train.splits.split import Catalogue, Split, all_events, divide
from attnrec.train.splits.time_split import DAY, shown

logger = logging.getLogger(__name__)


class Log(NamedTuple):
    """A log to evaluate a file on."""

    events: Interactions
    has_times: bool
    """False: it has only an order, and `timestamps` are places in it."""


def log_to_evaluate(path: str | Path, info: ModelInfo, data: TableSource | None) -> Log:
    """`data` read by the recipe in the file, or the log of the run directory around it."""
    log = _log_of_run(path, info) if data is None else _read_as_in_training(path, info, data)
    kind = "int64" if log.events.item_ids.dtype == np.int64 else "string"
    if info.id_type != kind:
        raise ValueError(
            f"the log has {kind_of_ids(kind)} item ids, the file {kind_of_ids(info.id_type)} ids: "
            "this is not the kind of log that the file was trained on"
        )
    if info.user_id_type == "int64" and log.events.user_ids.dtype != np.int64:
        raise ValueError(
            f"the log has text user ids such as {_first_text(log.events.user_ids)!r}, the file "
            "int64 ids: this is not the kind of log that the file was trained on"
        )
    return log


def divide_fairly(path: str | Path, info: ModelInfo, log: Log, split: SplitName | None) -> Split:
    """The log, divided so that the file is evaluated only on events that it has not seen.

    A file that is not final has its own split of the log that it was trained on; another split
    of it is refused, and so is the log of a final file. Of every other log only targets count
    that come after all that the file has seen.
    """
    trained: SplitName = info.metrics.get("split", "leave-one-out")
    name = split or trained
    if name not in get_args(SplitName):
        raise ValueError(f"no split {name!r}; there are: {', '.join(get_args(SplitName))}")
    if log.events.fingerprint() != info.data["fingerprint"]:
        if name == "time":
            return divide(log.events, _after_all_seen(path, info, log))
        return replace(divide(log.events, name), unseen=_unseen(path, info, log))
    if info.final:
        raise ValueError(
            f"{path} was trained on every event of this log, the held-out ones included: "
            "figures on it would flatter. Evaluate the run before it, or a log that goes on "
            "after this one, with `data`"
        )
    if name != trained:
        raise ValueError(
            f"{path} was trained with `split={trained}` on this log, and on events that "
            f"{name} holds out: figures would flatter. Leave `split` out here, or train with "
            f"attnrec-train --split {name}"
        )
    return divide(log.events, _time_split(info) if name == "time" else name)


def fair_targets(divided: Split, part: Part) -> HeldOut:
    """The held-out events that the file has not seen; `ValueError` where there are none."""
    held_out = divided.held_out(part)
    if held_out.n_left_out and not held_out.histories:
        assert divided.unseen is not None  # else nothing is left out
        raise ValueError(
            f"the {part} targets of all {held_out.n_left_out:,} users of this log are "
            f"{divided.unseen.reason}: figures on them would flatter. Name a log that goes on "
            "after that with `data`, or evaluate a run that is not final on its own log"
        )
    return held_out


def _time_split(info: ModelInfo) -> TimeSplit:
    """Where the log of a file was cut; the default where it was not cut in time."""
    known = {f.name for f in fields(TimeSplit)}
    stored = info.metrics.get("time_split", {})
    return TimeSplit(**{name: value for name, value in stored.items() if name in known})


def _after_all_seen(path: str | Path, info: ModelInfo, log: Log) -> TimeSplit:
    """A cut of another log behind the last event that a file has seen."""
    times = log.events.timestamps
    first, last, seen = int(times.min()), int(times.max()), _seen_until(path, info)
    if not log.has_times:
        raise ValueError("the log has an order and no times: it has no part after a cut in time")
    if last <= seen:
        raise ValueError(
            f"{path} has seen events until {shown(seen)}, and this log ends at {shown(last)}: "
            "name a log that goes on after that with `data`"
        )
    if first >= seen:
        raise ValueError(
            f"this log begins at {shown(first)}, after all that {path} has seen, so nobody in it "
            "has a history to ask with: name a log with the events before that as well"
        )
    cut = str(np.datetime64(seen + 1, "s"))
    given = replace(_time_split(info), test_days=None, test_share=None)
    # No window to validate: all before the cut says what is known, and what is frequent.
    return replace(given, test_from=cut, valid_days=1 / DAY)


def _seen_until(path: str | Path, info: ModelInfo) -> int:
    last = info.data.get("seen_until")
    if not isinstance(last, int):
        raise ValueError(
            f"{path} does not hold the time of the last event it has seen, so it can be evaluated "
            "only on the log it was trained on: export its run again"
        )
    return last


def _unseen(path: str | Path, info: ModelInfo, log: Log) -> Unseen:
    """The part of another log than that of its training that a file has not seen."""
    if not log.has_times or info.data["time_unit"] == "order":
        before = _log_around(path, info)
        if before is None:
            raise ValueError(
                f"{path} and this log have no times in common that show what the file has seen, "
                f"and the run directory of the file, whose {EVENTS_FILE} would show it, is not "
                "around it: evaluate the file where attnrec-export wrote it"
            )
        seen = all_events(before) if info.final else divide(before, info.metrics["split"])
        return after_sequences(log.events, before, seen.n_seen(), str(path))
    return after_time(log.events, _seen_until(path, info), str(path))


def _log_around(path: str | Path, info: ModelInfo) -> Interactions | None:
    """The log of the run directory that a file lies in, if it is that of the file."""
    directory = Path(path).absolute().parent
    if not (directory / EVENTS_FILE).is_file():
        return None
    log = Interactions.load(directory)
    return log if log.fingerprint() == info.data["fingerprint"] else None


def _log_of_run(path: str | Path, info: ModelInfo) -> Log:
    log = _log_around(path, info)
    if log is None:
        raise RunError(
            f"{path} does not lie in the run directory it was exported from: there is no "
            f"{EVENTS_FILE} of its log next to it. Name the log with `data`"
        )
    return Log(log, info.data["time_unit"] != "order")


def _read_as_in_training(path: str | Path, info: ModelInfo, data: TableSource) -> Log:
    recipe = DataRecipe.from_json(info.data["recipe"])
    # These only matter for learning: another log need not have every type of event, nor tables.
    no_items: dict[str, Any] = dict.fromkeys(ITEM_KINDS, ())
    recipe = replace(recipe, event_weights={}, tag_cols=(), **no_items)
    # Of text ids, another log may hold only those that look like numbers.
    as_in_file = IdTypes(_at_least(info.user_id_type, recipe), _at_least(info.id_type, recipe))
    try:
        log, report = load_interactions(data, recipe, of_run=as_in_file)
    except DataError as error:
        raise DataError(
            f"{error.problem} (read by the recipe in {path}: a log to evaluate it on must have "
            "the columns, ids and times of the log it was trained on)"
        ) from error
    if "string" in (info.id_type, info.user_id_type):
        stored = Recommender.load(path).stored()
        if info.id_type == "string":
            items = _spelled_as_in(path, "item", log.item_ids, stored.item_ids())
            log = replace(log, item_ids=items)
        if info.user_id_type == "string":
            users = _spelled_as_in(path, "user", log.user_ids, stored.user_ids())
            log = replace(log, user_ids=users)
    return Log(log, report.time_unit != "order")


def _at_least(kind: str | None, recipe: DataRecipe) -> IdType:
    """How to read ids for a file with ids of this kind; None: it has no such ids."""
    return "string" if "string" in (kind, recipe.id_type) else "auto"


def _spelled_as_in(path: str | Path, kind: str, ids: IdArray, known: list[Any]) -> IdArray:
    """Ids such as "12" become "12.0", or the reverse, where the file then knows more of them."""
    spelled = spelled_as(np.array(known, np.object_), ids)
    changed = np.flatnonzero(spelled != ids)
    if len(changed):
        first = changed[0]
        logger.warning(
            "%s ids such as %r are read as %r, as they are in %s",
            kind, ids[first], spelled[first], path,
        )  # fmt: skip
    return spelled


def _first_text(ids: IdArray) -> str:
    """One that is no whole number."""
    return next(text for text in map(str, ids) if not text.lstrip("-").isdigit())


def with_titles(catalogue: Catalogue, recommender: Recommender) -> Catalogue:
    """The catalogue with the titles that the file has: a log that is read anew has none."""
    if not recommender.info.has_titles:
        return catalogue
    known = recommender.items()
    titles = [known.get(item_id) or "" for item_id in catalogue.item_ids.tolist()]
    return replace(catalogue, titles=np.array(titles, object))


def catalogue_ids(recommender: Recommender) -> IdArray:
    """Every item id of the file, in the order of the answer to an empty history."""
    info = recommender.info
    ids = recommender.recommend([], info.n_items, exclude_seen=False).item_ids
    catalogue: IdArray = np.array(ids, dtype=np.int64 if info.id_type == "int64" else object)
    return catalogue

"""Evaluate exported files through the runtime, on the same held-out events, and compare them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime import Recommender
from attnrec.runtime.files import exported_file
from attnrec.train.data.tables import TableSource
from attnrec.train.evaluation.aging import AgeWindow, age_figures, age_windows
from attnrec.train.evaluation.exposure import KnownItems, by_diversity, exposure
from attnrec.train.evaluation.files import (
    catalogue_ids,
    divide_fairly,
    fair_targets,
    log_to_evaluate,
    with_titles,
)
from attnrec.train.evaluation.metrics import (
    Interval,
    Metrics,
    Tick,
    bootstrap_intervals,
    metrics_of,
    rank_targets,
    user_gains,
)
from attnrec.train.evaluation.slices import Masks, slice_figures, slice_masks
from attnrec.train.splits.config import Part, SplitName, TimeSplit
from attnrec.train.splits.held_out import HeldOut
from attnrec.train.splits.split import Split
from attnrec.train.splits.time_split import cuts_of


@dataclass(frozen=True)
class FileFigures:
    """The figures of one file."""

    path: str
    """As given."""
    model: str
    """Name of the model in it."""
    profile: str
    """"fp32" or "int8"."""
    metrics: Metrics
    """Over all users."""
    slices: Mapping[str, Mapping[str, Any]]
    """Over some of the targets, as `slice_figures` names them."""
    n_bytes: int
    """Size of the file."""
    us_per_user: float
    """Microseconds of the processor a user, as measured here: one thread, batches of 64, lists
    of 21 items or, for sessions, more."""
    lists: Mapping[str, float] = field(default_factory=dict)
    """What the lists are like, as `exposure` names it."""
    by_diversity: Sequence[Mapping[str, float]] = ()
    """The same and NDCG@10, by how varied lists are asked to be."""
    by_age: Sequence[Mapping[str, Any]] = ()
    """On a log that goes on after the training and is cut in time: figures by days since then."""
    to_best: float = 0.0
    """NDCG@10 less that of the best file; 0 for the best itself."""
    to_best_interval: Interval = (0.0, 0.0)
    """Paired 95 % bootstrap interval of it: the same users are drawn for both."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict, figures rounded to 6 places."""
        return {
            "file": self.path,
            "model": self.model,
            "profile": self.profile,
            **self.metrics.to_json(),
            "ndcg@10_to_best": round(self.to_best, 6),
            "ndcg@10_to_best_interval": [round(end, 6) for end in self.to_best_interval],
            "bytes": self.n_bytes,
            "microseconds_per_user": round(self.us_per_user, 1),
            "slices": dict(self.slices),
            "lists": dict(self.lists),
            **({"by_diversity": list(self.by_diversity)} if self.by_diversity else {}),
            **({"by_age": list(self.by_age)} if self.by_age else {}),
        }


@dataclass(frozen=True)
class Comparison:
    """Files that were evaluated on the same held-out events."""

    split: SplitName
    """How the log was divided."""
    part: Part
    """Which of the held-out events are the targets."""
    log_sha256: str
    """Fingerprint of the log."""
    files: Sequence[FileFigures]
    """In the order given."""
    left_out: str | None = None
    """What is wrong with the targets that were left out; "they are" goes before."""

    @property
    def best_first(self) -> list[FileFigures]:
        """By NDCG@10."""
        return sorted(self.files, key=lambda file: -file.metrics.values["ndcg@10"])

    def to_json(self) -> dict[str, Any]:
        """A plain dict; the files are its "models"."""
        return {
            "split": self.split,
            "part": self.part,
            "log_sha256": self.log_sha256,
            "models": [file.to_json() for file in self.files],
        }


def evaluate(
    path: str | Path,
    data: TableSource | None = None,
    part: Part = "test",
    split: SplitName | None = None,
) -> Metrics:
    """Rank what was held out of every user's log with one model file; arguments of `compare`.

    Targets that the file has seen are left out and counted; `ValueError` where none is left.
    """
    return compare([path], data, part=part, split=split).files[0].metrics


def compare(
    paths: Sequence[str | Path],
    data: TableSource | None = None,
    *,
    part: Part = "test",
    split: SplitName | None = None,
    tick: Tick | None = None,
    diversity: Sequence[float] = (),
) -> Comparison:
    """Rank what was held out of every user's log with every file.

    paths: the files, or the run directories that they were exported in.
    data: a log, read by the recipe in the files; None: that of the run directories they lie in.
    split: how it is divided; None: as in training. tick: called with (answers done, in all).
    diversity: values of `diversity` to make lists with, see `Slate`.
    Targets that any of the files has seen are left out. `ValueError` where none is left, or where
    the files would be evaluated on different events; before anything is measured.
    """
    if not paths:
        raise ValueError("no file to evaluate; name at least one")
    paths = [exported_file(path) for path in paths]
    divided = _same_events(paths, data, split)
    first = Recommender.load(paths[0])
    trained_on = first.info.data["fingerprint"]
    is_after = divided.interactions.fingerprint() != trained_on
    windows = age_windows(divided) if is_after and divided.name == "time" else []
    if windows and part == "valid":
        raise ValueError(
            "of a log that goes on after the training all is `part` test: leave it out"
        )
    held_out = fair_targets(divided, part)
    masks = slice_masks(held_out, with_titles(divided.catalogue, first))
    measured = []
    for place, path in enumerate(paths):

        def moved(done: int, n_users: int, place: int = place) -> None:
            if tick is not None:
                tick(place * n_users + done, len(paths) * n_users)

        measured.append(_measure(path, held_out, masks, windows, moved, divided, diversity))
    best = max((gain for _, gain in measured), key=lambda gain: float(gain.mean()))
    files = [_beside(figures, gain - best) for figures, gain in measured]
    assert divided.name is not None  # it was divided
    reason = divided.unseen.reason if divided.unseen is not None and held_out.n_left_out else None
    return Comparison(divided.name, part, divided.interactions.fingerprint(), files, reason)


def _same_events(
    paths: Sequence[str | Path], data: TableSource | None, split: SplitName | None
) -> Split:
    """The divided log that all files can be evaluated on."""
    infos = [Recommender.load(path).info for path in paths]
    log = log_to_evaluate(paths[0], infos[0], data)
    first = divide_fairly(paths[0], infos[0], log, split)
    for path, info in zip(paths[1:], infos[1:], strict=True):
        if data is None or info.data["recipe"] != infos[0].data["recipe"]:
            log = log_to_evaluate(path, info, data)
        other = divide_fairly(path, info, log, split)
        if other.name != first.name:
            raise ValueError(
                f"{paths[0]} is evaluated by {first.name}, {path} by {other.name}: their figures "
                "cannot stand in one table. Compare files that were trained with one `split`"
            )
        if other.interactions.fingerprint() != first.interactions.fingerprint():
            recipe = infos[0].data["recipe"]
            apart = [n for n in recipe if recipe[n] != info.data["recipe"].get(n)]
            remedy = (
                f"They read a log differently ({', '.join(apart)}): train them alike"
                if apart
                else "Name one log for all with `data`"
            )
            raise ValueError(
                f"{paths[0]} and {path} are evaluated on different logs: their figures cannot "
                f"stand in one table. {remedy}"
            )
        if isinstance(first.by, TimeSplit) and isinstance(other.by, TimeSplit):
            first = _later_cut(paths[0], first, path, other)
        if other.unseen is not None:
            first = replace(first, unseen=other.unseen.and_of(first.unseen))
    return first


def _later_cut(path: str | Path, first: Split, other_path: str | Path, other: Split) -> Split:
    """Of two cuts of a log the later one: neither file has seen what comes after it."""
    assert isinstance(first.by, TimeSplit) and isinstance(other.by, TimeSplit)
    log = first.interactions
    first_cut, other_cut = (cuts_of(by, log).test_from for by in (first.by, other.by))
    if (first.by.targets, first.by.ask_at) != (other.by.targets, other.by.ask_at):
        raise ValueError(
            f"{path} was trained with targets {first.by.targets}, asked at {first.by.ask_at}, and "
            f"{other_path} with targets {other.by.targets}, asked at {other.by.ask_at}: their "
            "figures cannot stand in one table. Evaluate each alone, or train them alike"
        )
    return first if first_cut >= other_cut else other


def _measure(
    path: str | Path,
    held_out: HeldOut,
    masks: Masks,
    windows: Sequence[AgeWindow],
    tick: Tick,
    divided: Split,
    diversity: Sequence[float],
) -> tuple[FileFigures, NDArray[np.float64]]:
    """The figures of a file, and NDCG@10 of each user (n_users,)."""
    recommender = Recommender.load(path)
    info = recommender.info
    asked: dict[str, Any] = {"exclude_seen": not info.repeats, "inputs": info.inputs}
    ranking = rank_targets(recommender, held_out, **asked, tick=tick)
    ids = catalogue_ids(recommender)
    known = KnownItems.of(recommender, divided.catalogue)
    histories = [history.tolist() for history in held_out.histories]
    figures = FileFigures(
        path=str(path),
        model=info.model,
        profile=info.profile,
        metrics=metrics_of(ranking, held_out, ids),
        slices=slice_figures(ranking.ranks, held_out, masks),
        n_bytes=Path(path).stat().st_size,
        us_per_user=1e6 * ranking.seconds / len(held_out.histories),
        lists=exposure(ranking.lists, histories, known),
        by_diversity=by_diversity(recommender, held_out, known, diversity, **asked),
        by_age=age_figures(recommender, windows, ids, **asked),
    )
    return figures, user_gains(ranking.ranks, held_out.n_targets())["ndcg@10"]


def _beside(figures: FileFigures, difference: NDArray[np.float64]) -> FileFigures:
    """With the difference to the best file, (n_users,)."""
    interval = bootstrap_intervals({"difference": difference})["difference"]
    return replace(figures, to_best=float(difference.mean()), to_best_interval=interval)

"""Models on several cuts in time: does a figure hold on other days as well?"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from attnrec.export.model_comparison import Watch, compare_models
from attnrec.runtime.errors import DataError, RunError
from attnrec.runtime.files import replace_file
from attnrec.train.checks import check_whole
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.recipe import DataRecipe, DataReport
from attnrec.train.evaluation.comparison import Comparison
from attnrec.train.evaluation.metrics import Interval, Tick
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.models import COMPARED_MODELS
from attnrec.train.splits.config import TimeSplit
from attnrec.train.splits.split import divide
from attnrec.train.splits.time_split import DAY, before, cuts_of, shown

FIGURES, PICTURE = "folds.json", "folds.png"
_MOST_FOLDS = 100


@dataclass(frozen=True)
class Fold:
    """One cut: the log as it was at the end of its test window."""

    log: Interactions
    split: TimeSplit
    test_from: int
    """Unix seconds."""


@dataclass(frozen=True)
class ModelFolds:
    """The figures of one model in all folds."""

    name: str
    ndcg: Sequence[float]
    """NDCG@10 in each fold, oldest first."""
    hit_rate: Sequence[float]

    @property
    def mean(self) -> float:
        """Mean of NDCG@10 over folds."""
        return float(np.mean(self.ndcg))

    @property
    def interval(self) -> Interval:
        """95 % interval of the mean over folds, by Student's t: wide where there are few."""
        n = len(self.ndcg)
        reach = stats.t.ppf(0.975, n - 1) * float(np.std(self.ndcg, ddof=1)) / math.sqrt(n)
        return self.mean - reach, self.mean + reach

    def to_json(self) -> dict[str, Any]:
        """A plain dict, figures rounded to 6 places."""
        return {
            "model": self.name,
            "ndcg@10": round(self.mean, 6),
            "ndcg@10_interval": [round(end, 6) for end in self.interval],
            "ndcg@10_folds": [round(value, 6) for value in self.ndcg],
            "hit_rate@10": round(float(np.mean(self.hit_rate)), 6),
        }


@dataclass(frozen=True)
class FoldComparison:
    """Models that were trained and tested at every cut."""

    tested_from: Sequence[str]
    """When each test window begins, oldest first."""
    models: Sequence[ModelFolds]
    """Those that could be trained in every fold, best first."""
    comparisons: Sequence[Comparison]
    """All figures of each fold."""
    left_out: Mapping[str, str]
    """Models that could not be trained in every fold, and why."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        folds = zip(self.tested_from, self.comparisons, strict=True)
        return {
            "models": [model.to_json() for model in self.models],
            "folds": [{"test_from": start, **found.to_json()} for start, found in folds],
            "left_out": dict(self.left_out),
        }


def compare_folds(
    log: Interactions,
    report: DataReport,
    recipe: DataRecipe,
    config: TrainConfig,
    *,
    folds: int,
    out: str | Path,
    models: Mapping[str, tuple[str, dict[str, Any]]] = COMPARED_MODELS,
    allow_users: bool = False,
    resume: bool = False,
    watch: Watch | None = None,
    tick: Tick | None = None,
) -> FoldComparison:
    """`compare_models` for the cut of `config.split` and for earlier ones, window by window.

    folds: how many. Each is a folder of `out`. `DataError` where the log is too short for so
    many, before anything is trained.
    """
    cuts = _folds(log, report, config.split, folds)
    directory = Path(out)
    if directory.exists() and not directory.is_dir():
        raise RunError(f"{directory} is a file; name a folder with `out`")
    directory.mkdir(exist_ok=True)
    comparisons: list[Comparison] = []
    left_out: dict[str, str] = {}
    for number, fold in enumerate(cuts, start=1):
        own = replace(
            report,
            n_users=fold.log.n_users,
            n_users_evaluable=int(np.count_nonzero(np.diff(fold.log.offsets) >= 3)),
            n_events=fold.log.n_events,
            last_time=shown(int(fold.log.timestamps.max())),
            fingerprint=fold.log.fingerprint(),
        )
        found = compare_models(
            fold.log, own, recipe, replace(config, split=fold.split),
            out=directory / f"fold-{number}", models=models, allow_users=allow_users,
            resume=resume, watch=watch, tick=tick,
        )  # fmt: skip
        comparisons.append(found.comparison)
        left_out |= found.left_out
    tested_from = [shown(fold.test_from) for fold in cuts]
    result = FoldComparison(tested_from, _by_model(comparisons), comparisons, left_out)
    with replace_file(directory / FIGURES) as path:
        path.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    draw_folds(result, directory / PICTURE)
    return result


def _folds(log: Interactions, report: DataReport, split: object, n_folds: int) -> list[Fold]:
    """The folds, oldest first, each checked."""
    check_whole("folds", n_folds, 2, _MOST_FOLDS)
    if not isinstance(split, TimeSplit):
        raise ValueError(f"`folds` are cuts in time, so `split` must be time, not {split!r}")
    divide(log, split, time_unit=report.time_unit)
    cuts = cuts_of(split, log)
    width, days = cuts.end - cuts.test_from, (cuts.test_from - cuts.valid_from) / DAY
    folds = []
    for back in reversed(range(n_folds)):
        test_from = cuts.test_from - back * width
        start = str(np.datetime64(test_from, "s"))
        own = replace(split, test_days=None, test_share=None, test_from=start, valid_days=days)
        part = before(log, cuts.end - back * width)
        try:
            if not part.n_events:
                raise DataError(
                    f"one would be tested from {shown(test_from)}, and the log begins at "
                    f"{shown(int(log.timestamps.min()))}"
                )
            divide(part, own, time_unit=report.time_unit)
        except DataError as error:
            raise DataError(
                f"the log is too short for {n_folds} folds of {width / DAY:g} days: "
                f"{error.problem}",
                "give fewer `folds`, or fewer `test_days`",
            ) from error
        folds.append(Fold(part, own, test_from))
    return folds


def _by_model(comparisons: Sequence[Comparison]) -> list[ModelFolds]:
    """The figures of the models that every fold has, best first."""
    found: dict[str, list[Any]] = {}
    for comparison in comparisons:
        for file in comparison.files:
            found.setdefault(Path(file.path).parent.name, []).append(file.metrics.values)
    models = [
        ModelFolds(name, [v["ndcg@10"] for v in own], [v["hit_rate@10"] for v in own])
        for name, own in found.items()
        if len(own) == len(comparisons)
    ]
    return sorted(models, key=lambda model: -model.mean)


def draw_folds(result: FoldComparison, path: Path) -> None:
    """NDCG@10 of each model over the folds, as PNG."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for model in result.models:
        axes.plot(range(len(model.ndcg)), model.ndcg, "o-", label=f"{model.name} {model.mean:.4f}")
    axes.set_xticks(range(len(result.tested_from)), [at[:10] for at in result.tested_from])
    axes.set_xlabel("first day of the test window")
    axes.set_ylabel("NDCG@10")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")

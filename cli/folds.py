"""What `compare --folds` and `evaluate --folds` do. Needs torch."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnrec.cli.console import out, say, with_options
from attnrec.cli.options import TrainingOptions
from attnrec.cli.results import plain_table
from attnrec.cli.training import comparison_bars, read_log_of
from attnrec.export.folds import PICTURE, FoldComparison, compare_folds
from attnrec.runtime.files import MODEL_FILE
from attnrec.train.data.recipe import DataReport
from attnrec.train.evaluation.comparison import evaluate
from attnrec.train.runs.run import Run
from attnrec.train.splits.config import TimeSplit


def compare_folds_and_print(
    options: TrainingOptions,
    directory: Path,
    n_folds: int,
    *,
    allow_users: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Every model at every cut; prints the table, or JSON."""
    log = read_log_of(options)
    with comparison_bars() as bars:
        found = compare_folds(
            *log, options.config, folds=n_folds, out=directory, allow_users=allow_users,
            resume=resume, **bars,
        )  # fmt: skip
    _print(found, directory, {}, as_json=as_json)


def evaluate_folds_and_print(
    path: Path, n_folds: int, test_days: float | None, *, resume: bool, as_json: bool
) -> None:
    """The model of a run, with its settings, at every cut, beside its own figures.

    test_days: of each window, where the run has no cut of its own.
    """
    run = Run.load(path)
    config, whole = run.config, path.absolute()
    split = config.split if isinstance(config.split, TimeSplit) else TimeSplit()
    if test_days is not None:
        if {split.test_days, split.test_from, split.test_share} != {None}:
            raise ValueError(f"{path} has a cut of its own, so --test-days cannot be given")
        split = replace(split, test_days=test_days)
    config = replace(config, split=split)
    directory = whole.with_name(f"{whole.name}-folds")
    report = DataReport(**run.data)
    with comparison_bars() as bars:
        found = compare_folds(
            run.split.interactions, report, run.recipe, replace(config, settings={}),
            folds=n_folds, out=directory,
            models={config.model: (config.model, dict(config.settings))}, allow_users=True,
            resume=resume, **bars,
        )  # fmt: skip
    own: dict[str, Any] = {}
    if run.metrics.split != "time" and (path / MODEL_FILE).is_file():
        values = evaluate(path / MODEL_FILE).values
        own = {"split": run.metrics.split}
        own |= {name: round(values[name], 6) for name in ("ndcg@10", "hit_rate@10")}
    _print(found, directory, own, as_json=as_json)


def _print(
    found: FoldComparison, directory: Path, own: Mapping[str, Any], *, as_json: bool
) -> None:
    """own: figures of the file of the run, if there is one."""
    if as_json:
        print(json.dumps({**found.to_json(), **({"run": own} if own else {})}))
        return
    table = plain_table()
    table.add_column("model", overflow="fold")
    days = (f"from\n{start[:10]}" for start in found.tested_from)
    for name in ("NDCG@10\nmean", "95 %\ninterval", "HitRate\n@10", *days):
        table.add_column(name, justify="right", no_wrap=True)
    for model in found.models:
        low, high = model.interval
        hits = sum(model.hit_rate) / len(model.hit_rate)
        table.add_row(
            model.name, f"{model.mean:.4f}", f"{low:.3f} {high:.3f}", f"{hits:.4f}",
            *(f"{value:.4f}" for value in model.ndcg),
        )  # fmt: skip
    out.print(table)
    for name, reason in found.left_out.items():
        print(f"left out: {name}: {with_options(reason)}")
    if own:
        print(
            f"the file of the run, {own['split']}: NDCG@10 {own['ndcg@10']:.4f}, "
            f"HitRate@10 {own['hit_rate@10']:.4f}"
        )
    say(f"a folder a fold in {directory}, with folds.json and {PICTURE}")

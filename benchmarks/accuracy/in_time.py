"""How well models recommend what comes after a cut in time, on several cuts.

    python benchmarks/accuracy/in_time.py --data DIR --work FOLDER --out in_time.jsonl

DIR holds the folders steam, amazon-beauty-titles and ml-1m; the other log comes with attnrec.
Every model is trained once at every cut, validated by all targets of the window before, and its
exported file is asked for all, the first and the last target of each user. Refit: the models that
--refit names are trained a second time, on everything before the window that is asked for. It goes
on where it was stopped.
Prints a table of test NDCG@10 / HitRate@10, means over cuts.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attnrec.export import export
from attnrec.export.folds import compare_folds
from attnrec.export.model_comparison import compare_models
from attnrec.runtime import Recommender
from attnrec.runtime.files import MODEL_FILE
from attnrec.train import Run, TimeSplit, TrainConfig, evaluate_answers, train_final
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.runs.train import read_log
from attnrec.train.splits.config import Targets
from attnrec.train.splits.held_out import HeldOut, held_out_targets
from attnrec.train.splits.time_split import before, cuts_of

LOGS = {
    "online-retail": (None, TimeSplit(test_days=30), 4),
    "steam": ("steam/interactions.csv.gz", TimeSplit(test_days=90), 4),
    "amazon-beauty-titles": (
        "amazon-beauty-titles/interactions.csv.gz", TimeSplit(test_days=60), 4,
    ),
    "ml-1m": ("ml-1m/interactions_with_times.csv.gz", TimeSplit(test_share=0.1), 1),
}  # fmt: skip
"""File, the last cut, and how many."""
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "fusion": ("fusion", {}),
    "sasrec": ("sasrec", {"time_gaps": True}),
    "markov-chain": ("markov-chain", {}),
    "ease": ("ease", {"history_decay": None}),
    "popularity-7-days": ("popularity", {"last_days": 7.0}),
    "popularity": ("popularity", {}),
}
TARGETS: tuple[Targets, ...] = ("all", "first", "last")
REFIT = ("markov-chain", "ease", "popularity-7-days", "popularity")


def trained(log: str, data: Path, folder: Path, threads: int) -> Iterator[Path]:
    """The runs of every model at every cut."""
    file, split, n_folds = LOGS[log]
    recipe = DataRecipe()
    source, out = None if file is None else data / file, folder / log
    config = TrainConfig(split=split, threads=threads)
    known: dict[str, Any] = {"models": MODELS, "resume": out.exists()}
    if n_folds > 1:
        compare_folds(*read_log(source), recipe, config, folds=n_folds, out=out, **known)
    else:
        compare_models(*read_log(source), recipe, config, out=out, **known)
    yield from (path.parent for path in sorted(out.rglob(MODEL_FILE)))


def questions(run: Run, targets: Targets) -> HeldOut:
    """What the window of the run asks for."""
    assert isinstance(run.split.by, TimeSplit)
    by = replace(run.split.by, targets=targets)
    return held_out_targets(run.split.interactions, by, "test")


def asked(run: Run, trained: Run) -> dict[str, Any]:
    """NDCG@10 and HitRate@10 of the file of a run, by what another one asks for."""
    recommender = Recommender.load(trained.directory / MODEL_FILE)
    ids = trained.split.catalogue.item_ids
    found: dict[str, Any] = {}
    for targets in TARGETS:
        metrics = evaluate_answers(
            recommender, questions(run, targets), ids, exclude_seen=True, inputs=run.model.inputs
        )
        found[targets] = [round(metrics.values[name], 5) for name in ("ndcg@10", "hit_rate@10")]
    return found


def refitted(run: Run) -> dict[str, Any]:
    """The same of the same settings, trained on everything before the window."""
    assert isinstance(run.split.by, TimeSplit)
    directory = run.directory / "refit"
    log = run.split.interactions
    known = before(log, cuts_of(run.split.by, log).test_from)
    if not (directory / MODEL_FILE).exists():
        cut = replace(run, split=replace(run.split, interactions=known))
        final = train_final(cut, out=directory, resume=directory.exists())
        export(final, directory / MODEL_FILE)
    return asked(run, Run.load(directory))


def figures(directory: Path, *, refit: bool) -> dict[str, Any]:
    """Everything that is kept of a run."""
    run = Run.load(directory)
    metrics, held_out = run.metrics, questions(run, "all")
    catalogue = run.split.catalogue.item_ids
    return {
        **asked(run, run),
        "refit": refitted(run) if refit else {},
        "valid": metrics.valid["ndcg@10"],
        "cuts": metrics.time_split and metrics.time_split["cuts"],
        "n_users": len(held_out.histories),
        "n_cold_users": held_out.n_cold_users,
        "cold_targets": round(float(np.mean(~np.isin(held_out.targets, catalogue))), 4),
        "settings": vars(run.model.config),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Means over cuts in Markdown."""
    names = [*TARGETS, *(f"{name}, refit" for name in TARGETS)]
    lines = [f"| log | model | {' | '.join(names)} | cuts |", "|---" * (len(names) + 3) + "|"]
    for log, model in dict.fromkeys((r["log"], r["model"]) for r in results):
        own = [r for r in results if (r["log"], r["model"]) == (log, model)]
        cells = []
        for part in (own, [r.get("refit", {}) for r in own]):
            for targets in TARGETS:
                known = [r[targets] for r in part if r]
                ndcg, hits = np.mean(known, axis=0) if known else (0, 0)
                cells.append(f"{ndcg:.4f} / {hits:.4f}" if known else "-")
        lines.append(f"| {log} | `{model}` | {' | '.join(cells)} | {len(own)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--logs", nargs="+", default=[*LOGS], choices=LOGS)
    parser.add_argument("--refit", nargs="*", default=REFIT, choices=MODELS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    given = parser.parse_args()
    given.work.mkdir(exist_ok=True)
    old = given.out.read_text().splitlines() if given.out.exists() else []
    results = [r for r in map(json.loads, old) if r["log"] not in given.logs]
    for log in given.logs:
        for directory in trained(log, given.data, given.work, given.threads):
            fold, model = directory.parent.name, directory.name
            found = figures(directory, refit=model in given.refit)
            results.append({"log": log, "fold": fold, "model": model, **found})
            given.out.write_text("".join(json.dumps(r) + "\n" for r in results))
        print(table(results), flush=True)


if __name__ == "__main__":
    main()

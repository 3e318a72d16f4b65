"""How well models recommend what comes after a cut in time, on several cuts.

    python benchmarks/accuracy/in_time.py --data DIR --work FOLDER --out in_time.jsonl

DIR holds the folders steam, amazon-beauty-titles and ml-1m; the other log comes with attnrec.
Every model is trained once at every cut, validated by all targets of the window before, and its
exported file is asked for all, the first and the last target of each user. It goes on where it was
stopped.
Prints a table of test NDCG@10 / HitRate@10, means over cuts.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attnrec.export.folds import compare_folds
from attnrec.export.model_comparison import compare_models
from attnrec.runtime import Recommender
from attnrec.runtime.files import MODEL_FILE
from attnrec.train import Run, TimeSplit, TrainConfig, evaluate_answers
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.runs.train import read_log
from attnrec.train.splits.held_out import held_out_targets

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
TARGETS = ("all", "first", "last")


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


def figures(directory: Path) -> dict[str, Any]:
    """NDCG@10 and HitRate@10 of a file by what it is asked for."""
    run, found = Run.load(directory), dict[str, Any]()
    recommender, ids = Recommender.load(directory / MODEL_FILE), run.split.catalogue.item_ids
    assert isinstance(run.split.by, TimeSplit)
    for targets in TARGETS:
        by = replace(run.split.by, targets=targets)
        held_out = held_out_targets(run.split.interactions, by, "test")
        metrics = evaluate_answers(
            recommender, held_out, ids, exclude_seen=True, inputs=run.model.inputs
        )
        values = [round(metrics.values[name], 5) for name in ("ndcg@10", "hit_rate@10")]
        found[targets] = values
    return {
        **found,
        "valid": run.metrics.valid["ndcg@10"],
        "cuts": run.metrics.time_split and run.metrics.time_split["cuts"],
        "n_users": metrics.n_users,
        "n_cold_users": metrics.n_cold_users,
        "cold_targets": round(metrics.missing_targets, 4),
        "settings": vars(run.model.config),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Means over cuts in Markdown."""
    lines = ["| log | model | all | first | last | cuts |", "|---|---|---|---|---|--:|"]
    for log, model in dict.fromkeys((r["log"], r["model"]) for r in results):
        own = [r for r in results if (r["log"], r["model"]) == (log, model)]
        cells = []
        for targets in TARGETS:
            ndcg, hits = np.mean([r[targets] for r in own], axis=0)
            cells.append(f"{ndcg:.4f} / {hits:.4f}")
        lines.append(f"| {log} | `{model}` | {' | '.join(cells)} | {len(own)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--logs", nargs="+", default=[*LOGS], choices=LOGS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    given = parser.parse_args()
    given.work.mkdir(exist_ok=True)
    old = given.out.read_text().splitlines() if given.out.exists() else []
    results = [r for r in map(json.loads, old) if r["log"] not in given.logs]
    for log in given.logs:
        for directory in trained(log, given.data, given.work, given.threads):
            fold, model = directory.parent.name, directory.name
            results.append({"log": log, "fold": fold, "model": model, **figures(directory)})
            given.out.write_text("".join(json.dumps(r) + "\n" for r in results))
        print(table(results), flush=True)


if __name__ == "__main__":
    main()

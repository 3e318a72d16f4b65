"""How well the default recommends: `attnrec-train LOG` without a flag, on logs of every kind.

    python benchmarks/accuracy/accuracy.py --data DIR --out benchmarks/accuracy/results.jsonl

DIR holds the folders ml-100k, ml-1m, amazon-beauty and amazon-sports; the other log comes with
attnrec. Figures are of the held-out last events, from the exported fp32 file through the runtime.
Beside them stand the targets at a later time than the event before ("later", with how many there
are), the same file asked without times, the same model without its counts and without EASE alone,
and, of the first seed, the file of a training with the same settings on train and validation
events together (refit). Each result is appended as it comes; what stands there is not measured
again. Prints the table.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attnrec.export import export
from attnrec.runtime import Recommender
from attnrec.train import (
    DataRecipe,
    Run,
    TrainConfig,
    evaluate_answers,
    train,
    train_final,
)
from attnrec.train.data.interactions import Interactions
from attnrec.train.evaluation.comparison import compare
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.splits.held_out import held_out_targets
from attnrec.train.splits.split import divide

_LOGS = {
    "online-retail": (None, 3),
    "ml-100k": ("ml-100k/interactions.csv.gz", 3),
    "amazon-beauty": ("amazon-beauty/interactions.csv.gz", 3),
    "amazon-sports": ("amazon-sports/interactions.csv.gz", 1),
    "ml-1m": ("ml-1m/interactions.csv.gz", 1),
    "ml-1m, by time and id": ("ml-1m/interactions_by_timestamp_then_movieid.csv.gz", 1),
    "ml-1m, with times": ("ml-1m/interactions_sasrec_order_with_times.csv.gz", 3),
}
"""File, and how many seeds."""
_EVENTS_ALONE = DataRecipe(title_col="")
"""The embedded log has titles, too; benchmarks/content.py measures what they bring."""
_LARGEST_REFIT = 500_000
"""Events; larger logs are not trained a second time."""
_MORE_FIGURES = ("mrr@10", "coverage@10", "ndcg@10_interval", "n_users", "bytes")


_HEAD = (
    "| log | model | NDCG@10 / HitRate@10 | asked without times | attention alone | without EASE "
    "| refit | processor minutes | seeds |",
    "|---|---|---|---|---|---|---|--:|--:|",
)


def without_test_events(log: Interactions) -> Interactions:
    """The log as it was before the last event of everyone who is asked."""
    lengths = np.diff(log.offsets)
    keep = np.ones(log.n_events, dtype=bool)
    keep[log.offsets[1:][lengths >= 3] - 1] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - (lengths >= 3))])
    events: dict[str, Any] = {
        "item_index": log.item_index[keep],
        "timestamps": log.timestamps[keep],
    }
    return replace(log, offsets=offsets, **events)


def test_figures(answers: Any, run: Run, *, times: bool = True) -> dict[str, float]:
    """NDCG@10 and HitRate@10 of whatever recommends; times: if it may know when it is asked."""
    held_out = held_out_targets(run.split.interactions, "leave-one-out", "test")
    ids = run.split.catalogue.item_ids
    inputs = run.model.inputs if times else ()
    values = evaluate_answers(answers, held_out, ids, exclude_seen=True, inputs=inputs).values
    return {name: round(values[name], 5) for name in ("ndcg@10", "hit_rate@10")}


def parts_alone(run: Run) -> dict[str, dict[str, float]]:
    """Attention without counts, and without EASE alone, by the torch model."""
    given = run.model.config
    if not hasattr(given, "count_weight"):
        return {}
    parts = {"attention": {"count_weight": 0.0, "ease_weight": 0.0}}
    if given.ease:
        parts["without_ease"] = {"ease_weight": 0.0}
    figures = {}
    for name, weights in parts.items():
        model = copy.deepcopy(run.model)
        model.config = model.counts.config = replace(given, **weights)
        reference = TorchRecommender(model, run.split.catalogue, users=run.split.users)
        figures[name] = test_figures(reference, run)
    return figures


def refitted(run: Run, folder: Path) -> dict[str, float]:
    """The same settings and epochs on train and validation events, asked for the test events."""
    log = without_test_events(run.split.interactions)
    before = replace(run, split=divide(log, "leave-one-out"))
    final = train_final(before, out=folder)
    export(final, folder / "model.onnx")
    return test_figures(Recommender.load(folder / "model.onnx"), run)


def measure(log: str, seed: int, data: Path | None, threads: int, model: str) -> dict[str, Any]:
    """One training with everything around it."""
    source = None if _LOGS[log][0] is None else data / _LOGS[log][0]
    with tempfile.TemporaryDirectory() as folder:
        began, processor = time.monotonic(), time.process_time()
        config = TrainConfig(model, seed=seed, threads=threads)
        run = train(source, config, recipe=_EVENTS_ALONE, out=Path(folder) / "run")
        minutes = (time.monotonic() - began) / 60
        processor = (time.process_time() - processor) / 60
        is_refitted = seed == 0 and len(run.split.sequences.rows) <= _LARGEST_REFIT
        file = run.directory / "model.onnx"
        report = export(run, file)
        found = compare([file]).files[0].to_json()
        return {
            "log": log,
            "model": model,
            "seed": seed,
            **test_figures(Recommender.load(file), run),
            "without_times": test_figures(Recommender.load(file), run, times=False),
            "later": found["slices"].get("target_later", {}),
            "valid_ndcg@10": run.metrics.valid["ndcg@10"],
            "alone": parts_alone(run),
            "refit": refitted(run, Path(folder) / "final") if is_refitted else {},
            "minutes": round(minutes, 1),
            "processor_minutes": round(processor, 1),
            "threads": threads,
            "best_epoch": run.metrics.best_epoch,
            "settings": vars(run.model.config),
            "epochs": [[e.seconds, e.valid["ndcg@10"]] for e in run.metrics.epochs],
            "identical_top_10": report.n_identical / report.n_test_users,
            **{key: found[key] for key in _MORE_FIGURES},
        }


def table(results: list[dict[str, Any]]) -> str:
    """A row of Markdown for each log and model: means over seeds, standard deviations."""
    rows = []
    for log, model in dict.fromkeys((r["log"], r["model"]) for r in results):
        own = [r for r in results if (r["log"], r["model"]) == (log, model)]

        def shown(figures: list[dict[str, float]]) -> str:
            figures = [own for own in figures if own]
            if not figures:
                return "-"
            ndcg, hits = ([f[name] for f in figures] for name in ("ndcg@10", "hit_rate@10"))
            spread = f" ± {statistics.stdev(ndcg):.4f}" if len(ndcg) > 1 else ""
            return f"{statistics.mean(ndcg):.4f}{spread} / {statistics.mean(hits):.4f}"

        alone = [r["alone"].get("attention", {}) for r in own]
        no_ease = [r["alone"].get("without_ease", {}) for r in own]
        blind = [r["without_times"] for r in own]
        minutes = statistics.median(r["processor_minutes"] for r in own)
        rows.append(
            f"| {log} | `{model}` | {shown(own)} | {shown(blind)} | {shown(alone)} "
            f"| {shown(no_ease)} | {shown([r['refit'] for r in own])} | {minutes:.0f} "
            f"| {len(own)} |"
        )
    return "\n".join([*_HEAD, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the logs")
    parser.add_argument("--logs", default=";".join(_LOGS), help="some of them, by semicolons")
    parser.add_argument("--seeds", type=int, help="fewer than usual")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", default=f"{TrainConfig.model},markov-chain")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.jsonl"))
    arguments = parser.parse_args()
    file = arguments.out
    results = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for log in arguments.logs.split(";"):
        for model in arguments.models.split(","):
            n_seeds = 1 if model == "markov-chain" else arguments.seeds or _LOGS[log][1]
            for seed in range(n_seeds):
                if any((r["log"], r["model"], r["seed"]) == (log, model, seed) for r in results):
                    continue
                results.append(measure(log, seed, arguments.data, arguments.threads, model))
                with file.open("a") as lines:
                    lines.write(json.dumps(results[-1]) + "\n")
                print(log, model, seed, results[-1]["ndcg@10"], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()

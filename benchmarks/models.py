"""Every model on several logs, several seeds: the table of docs/models.md.

    python benchmarks/models.py --data DIR --out docs/models
    python benchmarks/models.py --logs online-retail --only sasrec,markov-chain --seeds 1

DIR holds folders ml-100k and amazon-beauty with interactions.csv.gz and items.csv.gz; the third
log comes with attnrec. Each result is appended to OUT.jsonl as it comes, and what stands there is
not measured again. Figures come from the exported files, through the runtime, on the held-out last
event of every user; seconds are of the processor, on one thread. The default, `fusion`, is
measured by accuracy/accuracy.py, whose results are taken from there. Writes OUT.png and prints the
table.
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from attnrec.export import export
from attnrec.train import TrainConfig, train
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.evaluation.comparison import compare
from attnrec.train.models import COMPARED_MODELS, MODELS
from attnrec.train.models.base import CountModel

_LOGS = {
    "online-retail": {},
    "ml-100k": {"attribute_cols": ("genres",)},
    "amazon-beauty": {"attribute_cols": ("attribute_names",), "title_col": ""},
}
_DEFAULT, _OF_DEFAULT = "fusion", Path(__file__).parent / "accuracy" / "results.jsonl"
_FIGURES = ("ndcg@10", "hit_rate@10", "mrr@10", "coverage@10")


def measure(log: str, name: str, seed: int, data: Path | None, threads: int) -> dict[str, Any]:
    """Figures of one exported model."""
    model, settings = COMPARED_MODELS[name]
    source = items = None
    recipe = DataRecipe()
    if log != "online-retail":
        assert data is not None, f"{log} needs --data"
        source, items = (data / log / f"{part}.csv.gz" for part in ("interactions", "items"))
        recipe = DataRecipe(**_LOGS[log])
    if model != "content-based":  # nothing else looks at what items are
        items, recipe = (items if log == "online-retail" else None), DataRecipe()
    config = TrainConfig(model, settings=settings, seed=seed, threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        run = train(source, config, items=items, recipe=recipe, out=Path(folder) / "run")
        trained = time.process_time()
        file = run.directory / "model.onnx"
        report = export(run, file, allow_users=True).to_json()
        exported = time.process_time()
        (figures,) = compare([file]).files
        found = figures.to_json()
        return {
            "log": log,
            "name": name,
            "seed": seed,
            "valid_ndcg@10": run.metrics.valid["ndcg@10"],
            **{key: found[key] for key in (*_FIGURES, "ndcg@10_interval", "n_users", "bytes")},
            "microseconds_per_user": found["microseconds_per_user"],
            "train_seconds": round(trained - started, 1),
            "export_seconds": round(exported - trained, 1),
            "best_epoch": run.metrics.best_epoch,
            "parity": report,
        }


def results_of_default() -> list[dict[str, Any]]:
    """What accuracy.py measured on these logs."""
    results = [json.loads(line) for line in _OF_DEFAULT.read_text().splitlines()]
    return [
        {**result, "name": _DEFAULT, "train_seconds": 60 * result["processor_minutes"]}
        for result in results
        if result["model"] == _DEFAULT and result["log"] in _LOGS
    ]


def table(results: list[dict[str, Any]], log: str) -> str:
    """Rows of Markdown, best first: means over seeds."""
    rows = []
    for name in dict.fromkeys(result["name"] for result in results if result["log"] == log):
        own = [r for r in results if (r["log"], r["name"]) == (log, name)]
        ndcg, hits = ([r[key] for r in own] for key in ("ndcg@10", "hit_rate@10"))
        spread = f" ({min(ndcg):.4f} to {max(ndcg):.4f})" if len(own) > 1 else ""
        mean = {key: statistics.mean(r[key] for r in own) for key in ("coverage@10", "bytes")}
        seconds = statistics.median(r["train_seconds"] for r in own)
        rows.append(
            (
                -statistics.mean(ndcg),
                f"| `{name}` | {statistics.mean(ndcg):.4f}{spread} | {statistics.mean(hits):.4f} "
                f"| {mean['coverage@10']:.2f} | {mean['bytes'] / 1e6:.2f} | {seconds:.0f} "
                f"| {len(own)} |",
            )
        )
    return "\n".join(row for _, row in sorted(rows))


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """NDCG@10 of every model, a panel a log, seeds as dots."""
    logs = list(dict.fromkeys(result["log"] for result in results))
    names = [name for name in COMPARED_MODELS if any(result["name"] == name for result in results)]
    figure = Figure(figsize=(3.2 * len(logs) + 1.5, 0.32 * len(names) + 1), layout="constrained")
    panels = figure.subplots(1, len(logs), sharey=True, squeeze=False)[0]
    for axes, log in zip(panels, logs, strict=True):
        for place, name in enumerate(names):
            own = [r["ndcg@10"] for r in results if (r["log"], r["name"]) == (log, name)]
            learned = not issubclass(MODELS[COMPARED_MODELS[name][0]].model, CountModel)
            colour = "tab:blue" if learned else "tab:gray"
            if own:
                axes.barh(place, statistics.mean(own), height=0.7, color=colour, alpha=0.6)
                axes.plot(own, [place] * len(own), "|", color="black", markersize=6)
        axes.set_title(log)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.supxlabel("NDCG@10, whole catalogue ranked; blue: learned, gray: counted", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the logs")
    parser.add_argument("--logs", default=",".join(_LOGS))
    parser.add_argument("--only", default=",".join(COMPARED_MODELS), help="models, by commas")
    parser.add_argument("--seeds", type=int, default=3, help="of models that learn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("models"))
    arguments = parser.parse_args()
    file = arguments.out.with_suffix(".jsonl")
    results = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    # Every model once before any again: a run that is stopped leaves a whole table.
    for log, seed, name in product(
        arguments.logs.split(","), range(arguments.seeds), arguments.only.split(",")
    ):
        counted = issubclass(MODELS[COMPARED_MODELS[name][0]].model, CountModel)
        done = any((r["log"], r["name"], r["seed"]) == (log, name, seed) for r in results)
        # These logs are read without repeats, where personal-frequency is popularity.
        if done or (counted and seed) or name in (_DEFAULT, "personal-frequency"):
            continue
        results.append(measure(log, name, seed, arguments.data, arguments.threads))
        with file.open("a") as lines:
            lines.write(json.dumps(results[-1]) + "\n")
        print(log, name, seed, results[-1]["ndcg@10"], flush=True)
    results = results_of_default() + results
    draw(results, arguments.out.with_suffix(".png"))
    for log in arguments.logs.split(","):
        print(f"\n{log}\n{table(results, log)}")


if __name__ == "__main__":
    main()

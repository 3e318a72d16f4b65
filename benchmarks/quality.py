"""Train, export and measure the models on one log, and draw the comparison.

    python benchmarks/quality.py --seeds 3 --out docs/quality
    python benchmarks/quality.py --data DIR/interactions.csv.gz --items DIR/items.csv.gz

Figures come from the exported files, through the runtime, on the held-out last event of every
user. Writes OUT.json and OUT.png.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from attnrec.export import export
from attnrec.train import TrainConfig, evaluate, train

_METRICS = ("ndcg@10", "hit_rate@10")


def measure(model: str, seed: int, data: Path | None, items: Path | None) -> dict[str, Any]:
    """Figures of one exported model."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        run = train(data, TrainConfig(model, seed=seed), items=items, out=Path(folder) / "run")
        seconds = time.monotonic() - started
        file = run.directory / "model.onnx"
        report = export(run, file)
        metrics = evaluate(file).to_json()
        return {
            "model": model,
            "seed": seed,
            **{name: metrics[name] for name in _METRICS},
            "n_users": metrics["n_users"],
            "train_seconds": round(seconds, 1),
            "file_mb": round(file.stat().st_size / 1e6, 2),
            "parity": report.to_json(),
        }


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Bars of the mean over seeds."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(result["model"] for result in results))
    for offset, (name, colour) in enumerate(zip(_METRICS, ("tab:blue", "tab:gray"), strict=True)):
        means = [statistics.mean(r[name] for r in results if r["model"] == m) for m in models]
        places = [i + (offset - 0.5) * 0.35 for i in range(len(models))]
        bars = axes.barh(places, means, height=0.33, color=colour, label=name)
        axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.set_yticks(range(len(models)), models)
    axes.invert_yaxis()
    axes.set_xlim(right=axes.get_xlim()[1] * 1.08)
    axes.set_xlabel("held-out last event of every user, whole catalogue ranked")
    axes.legend(loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="log; default: the embedded Online Retail log")
    parser.add_argument("--items", type=Path, help="items table with titles")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of sasrec")
    parser.add_argument("--out", type=Path, default=Path("quality"))
    arguments = parser.parse_args()
    plan = [("sasrec", seed) for seed in range(arguments.seeds)]
    results = []
    for model, seed in [("popularity", 0), ("markov-chain", 0), *plan]:
        results.append(measure(model, seed, arguments.data, arguments.items))
        print(json.dumps(results[-1]), flush=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()

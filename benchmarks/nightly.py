"""What a night is worth: four windows, one after the other, and four ways to enter each.

    python benchmarks/nightly.py --data DIR --work FOLDER --out benchmarks/nightly.jsonl

DIR holds the folders steam, amazon-beauty-titles and ml-1m; the other log comes with attnrec. A
night knows the log up to its end: it trains on what lies before the last window, validates by
that window, and its exported file is asked for all that people take in the window to come.

    nothing    the file of the night before the first
    refresh    that file with the trend of all that the night knows
    init-from  trained on from the run of the night before
    scratch    trained anew, with the same settings

What is refreshed knows one window more than what is trained. Minutes are of one core, the export
included. A run that is there already is not trained again; its minutes lie beside it.
Prints a table, and draws a picture beside `--out`.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnrec.export import export
from attnrec.runtime import Recommender
from attnrec.train import Run, TimeSplit, TrainConfig
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.recipe import DataRecipe, DataReport
from attnrec.train.evaluation.metrics import rank_targets, user_gains
from attnrec.train.run_files import CONFIG_FILE
from attnrec.train.runs.newer_events import knows_popularity
from attnrec.train.runs.train import read_log, train_log
from attnrec.train.splits.held_out import HeldOut, held_out_targets
from attnrec.train.splits.time_split import DAY, before

LOGS = {
    "online-retail": (None, 30.0),
    "steam": ("steam/interactions.csv.gz", 90.0),
    "amazon-beauty-titles": ("amazon-beauty-titles/interactions.csv.gz", 60.0),
    "ml-1m": ("ml-1m/interactions_with_times.csv.gz", 60.0),
}
"""File, and days of a window."""
WAYS = ("nothing", "refresh", "init-from", "scratch")
Score = tuple[float, float, float]


class Night:
    """One log, window by window."""

    def __init__(self, log: Interactions, report: DataReport, days: float, folder: Path) -> None:
        self.log, self.report, self.days, self.folder = log, report, days, folder
        self.end = int(log.timestamps.max()) + 1

    def known(self, nights_left: int) -> Interactions:
        """The log at the end of a night with so many windows to come."""
        return before(self.log, self.end - round(nights_left * self.days * DAY))

    def questions(self, nights_left: int) -> HeldOut:
        """All that people take in the window to come."""
        later = self.known(nights_left - 1)
        window = TimeSplit(test_from=_iso(self.end - round(nights_left * self.days * DAY)))
        return held_out_targets(later, window, "test")

    def run(self, name: str, nights_left: int, base: Run | None, *, anew: bool) -> Run:
        """The run of a night; with a base from its weights, or `anew` with its settings."""
        out = self.folder / name
        if (out / CONFIG_FILE).exists():
            return Run.load(out)
        split = TimeSplit(test_days=self.days)  # the window to come, which nothing looks at
        config = TrainConfig(split=split, threads=1)
        start: dict[str, Any] = {}
        if base is not None:
            config = replace(base.config if anew else base.config_to_go_on(), split=split)
            start = {} if anew else {"init_from": base}
        resume, began = Path(f"{out}.unfinished").exists(), time.process_time()
        log = self.known(nights_left - 1)
        run = train_log(log, self.report, DataRecipe(), config, **start, out=out, resume=resume)
        _minutes_of(out).write_text(f"{(time.process_time() - began) / 60:.2f}")
        return run


def _minutes_of(directory: Path) -> Path:
    return Path(f"{directory}.minutes")


def _iso(seconds: int) -> str:
    return str(np.datetime64(seconds, "s"))


def asked(run: Run, file: Path, questions: HeldOut, trained: NDArray[Any]) -> Score:
    """NDCG@10 of a file: by all targets, by the trained and by the new items among them.

    trained: ids of the items that the first run knows.
    """
    answers = Recommender.load(file)
    ranking = rank_targets(answers, questions, exclude_seen=True, inputs=run.model.inputs)
    assert questions.offsets is not None  # all that people take
    user = np.repeat(np.arange(len(questions.histories)), np.diff(questions.offsets))
    is_old = np.isin(questions.targets, trained)

    def ndcg(chosen: NDArray[np.bool_]) -> float:
        n_targets = np.bincount(user, chosen).astype(np.int64)
        gains = user_gains(ranking.ranks[chosen], n_targets[n_targets > 0])
        return round(float(gains["ndcg@10"].mean()), 5) if chosen.any() else 0.0

    return ndcg(is_old | True), ndcg(is_old), ndcg(~is_old)


def nights(log: str, data: Path, folder: Path, n: int) -> Iterator[dict[str, Any]]:
    """Every night of a log by every way."""
    file, days = LOGS[log]
    night = Night(*read_log(None if file is None else data / file), days, folder / log)
    night.folder.mkdir(parents=True, exist_ok=True)
    first = last = night.run("night-0", n + 1, None, anew=True)
    trained = first.split.catalogue.item_ids
    for number in range(1, n + 1):
        left = n + 1 - number
        questions = night.questions(left)

        def refresh(left: int = left) -> Run:
            known = replace(first.split, interactions=night.known(n + 1))
            return replace(first, split=known).with_recent(frame(night.known(left)))

        def go_on(number: int = number, left: int = left, base: Run = last) -> Run:
            return night.run(f"night-{number}-on", left, base, anew=False)

        def again(number: int = number, left: int = left) -> Run:
            return night.run(f"night-{number}-scratch", left, first, anew=True)

        ways: dict[str, Callable[[], Run]] = {"nothing": lambda: first, "init-from": go_on}
        ways |= {"scratch": again}
        if knows_popularity(first.model):
            ways["refresh"] = refresh
        for way in sorted(ways, key=WAYS.index):
            began = time.process_time()
            run, path = ways[way](), night.folder / f"{number}-{way}.onnx"
            minutes = 0.0
            if way in ("init-from", "scratch"):
                minutes, began = float(_minutes_of(run.directory).read_text()), time.process_time()
            export(run, path)
            minutes += (time.process_time() - began) / 60
            score = asked(run, path, questions, trained)
            last = run if way == "init-from" else last
            yield {
                "log": log, "night": number, "way": way, "ndcg@10": score[0],
                "old": score[1], "new": score[2], "minutes": round(minutes, 2),
                "n_users": len(questions.histories),
                "trend": getattr(run.model.config, "trend_weight", None),
                "valid": run.metrics.valid["ndcg@10"], "begins": run.metrics.init_from,
            }  # fmt: skip


def frame(log: Interactions) -> pd.DataFrame:
    """A log as a table, to be read again."""
    users = np.repeat(log.user_ids, np.diff(log.offsets))
    columns = {"user_id": users, "item_id": log.item_ids[log.item_index]}
    return pd.DataFrame(columns | {"timestamp": log.timestamps})


def table(results: list[dict[str, Any]]) -> str:
    """Means over nights in Markdown."""
    lines = [
        "| log | way | NDCG@10 | old items | new items | minutes | nights |",
        "|---" * 7 + "|",
    ]
    for log, way in dict.fromkeys((r["log"], r["way"]) for r in results):
        own = [r for r in results if (r["log"], r["way"]) == (log, way)]
        figures = [f"{np.mean([r[n] for r in own]):.4f}" for n in ("ndcg@10", "old", "new")]
        minutes = f"{np.mean([r['minutes'] for r in own]):.1f}"
        lines.append("| " + " | ".join([log, way, *figures, minutes, str(len(own))]) + " |")
    return "\n".join(lines)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """NDCG@10 of every night, relative to doing nothing."""
    mpl.use("svg")
    from matplotlib import pyplot as plt

    logs = list(dict.fromkeys(r["log"] for r in results))
    figure, axes = plt.subplots(1, len(logs), figsize=(3.2 * len(logs), 3), squeeze=False)
    for ax, log in zip(axes[0], logs, strict=True):
        for way in WAYS:
            own = [r for r in results if (r["log"], r["way"]) == (log, way)]
            ax.plot([r["night"] for r in own], [r["ndcg@10"] for r in own], "o-", label=way)
        ax.set(title=log, xlabel="window", xticks=sorted({r["night"] for r in results}))
    axes[0][0].set_ylabel("NDCG@10")
    axes[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--logs", nargs="+", default=[*LOGS], choices=LOGS)
    parser.add_argument("--nights", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    given = parser.parse_args()
    old = given.out.read_text().splitlines() if given.out.exists() else []
    results = [r for r in map(json.loads, old) if r["log"] not in given.logs]
    for log in given.logs:
        for found in nights(log, given.data, given.work, given.nights):
            results.append(found)
            given.out.write_text("".join(json.dumps(r) + "\n" for r in results))
            print(found, flush=True)
        print(table(results), flush=True)
    draw(results, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()

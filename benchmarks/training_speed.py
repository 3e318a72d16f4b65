"""How long `sasrec` trains until it is as good as the best that RecTools' SASRec becomes.

    python benchmarks/training_speed.py --data DIR --log ml-100k --peer-python VENV/bin/python \\
        --minutes-peer 30 --minutes-own 30 --threads 2 --out results.jsonl --picture curves.png

VENV has 'rectools[torch]==0.19.0' and the torch of constraints.txt; DIR holds the folders ml-100k
and ml-1m. Both models have width 64, 2 blocks of 2 heads, length 100, dropout 0.2 and softmax over
the catalogue; ours has the decayed history as well, as in the default model. They learn
from the same training events and are asked for the same validation events, whole catalogue ranked,
what was seen left out, ties counting against the model. RecTools trains until 5 epochs brought
nothing, or for its minutes. Ours trains before it and after it, never beside it, and the slower
time counts. Seconds are those of training alone; validation is in `seconds` of the results. Both
get an allocator that keeps its memory, which RecTools needs.

Appends a line to the results, prints a Markdown table of all of them. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from attnrec.runtime.answers import Recommendations
from attnrec.train.evaluation.metrics import target_ranks, user_gains
from attnrec.train.runs.train import read_log
from attnrec.train.splits.split import Split, divide

PEERS = Path(__file__).parent / "training_speed_peers"
_BATCH_SIZE = {"ml-100k": 32, "ml-1m": 64}  # of the peer
# glibc gives big tensors back to the system after every step, and the pages are made anew.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(10**11)}

Result = dict[str, Any]


def write_questions(split: Split, path: Path) -> None:
    """Training events (offsets, rows) and targets: (n_users,) rows, 0 unknown, -1 not asked."""
    log, sequences = split.interactions, split.sequences
    row_of = {item_id: row for row, item_id in enumerate(split.catalogue.item_ids, start=1)}
    questions = split.held_out("valid")
    target = dict(zip(questions.users.tolist(), questions.targets.tolist(), strict=True))
    targets = [row_of.get(target[u], 0) if u in target else -1 for u in log.user_ids.tolist()]
    np.savez(path, offsets=sequences.offsets, rows=sequences.rows, targets=np.array(targets))


def evaluate_lists(split: Split, path: Path) -> float:
    """Validation NDCG@10 of lists of the peer, by the evaluator of attnrec."""
    lists = np.load(path)
    ids = split.catalogue.item_ids
    answers = [
        Recommendations(ids[items - 1].tolist(), scores.tolist(), None, n_known=0)
        for items, scores in zip(lists["items"], lists["scores"], strict=True)
    ]
    ranks = target_ranks(answers, split.held_out("valid"))
    return float(user_gains(ranks)["ndcg@10"].mean())


def run_side(command: list[str], threads: int) -> Result:
    """The curve that a process tells, and what it says at its end."""
    environment = {**os.environ, **_KEEP_MEMORY, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    lines = []
    for line in process.stdout:
        print(Path(command[1]).stem, line, end="", file=sys.stderr, flush=True)
        if line.startswith("{"):
            lines.append(json.loads(line))
    if process.wait():
        raise SystemExit(f"{command} failed")
    *curve, end = lines
    return {"curve": curve, **end}


def reached(side: Result, ndcg: float) -> Result | None:
    """The first epoch with that validation NDCG@10."""
    return next((point for point in side["curve"] if point["ndcg"] >= ndcg), None)


def best(side: Result) -> Result:
    """The first epoch with the best validation NDCG@10."""
    return max(side["curve"], key=lambda point: point["ndcg"])


def measure(arguments: argparse.Namespace) -> Result:
    """Ours, the peer, ours again."""
    file = arguments.data / arguments.log / "interactions.csv.gz"
    split = divide(read_log(file)[0], "leave-one-out")
    threads, minutes = arguments.threads, str(arguments.minutes_own)
    own = [sys.executable, str(PEERS / "attnrec_sasrec.py"), str(file), str(threads), minutes]
    with tempfile.TemporaryDirectory() as folder:
        questions, lists = Path(folder) / "questions.npz", Path(folder) / "lists.npz"
        write_questions(split, questions)
        batch_size = str(_BATCH_SIZE[arguments.log])
        peer = [arguments.peer_python, str(PEERS / "rectools_sasrec.py"), str(questions)]
        peer += [batch_size, str(arguments.minutes_peer), str(lists)]
        before, other, after = (run_side(command, threads) for command in (own, peer, own))
        other["best_by_our_evaluator"] = round(evaluate_lists(split, lists), 6)
    told = best(other)["ndcg"]
    if abs(told - other["best_by_our_evaluator"]) > 2e-6:
        raise SystemExit(f"the evaluators disagree: {told}, {other['best_by_our_evaluator']}")
    sides = {"rectools": other, "attnrec": [before, after]}
    return {"log": arguments.log, "threads": threads, **sides, **compare(other, before, after)}


def compare(peer: Result, *own: Result) -> Result:
    """How many times sooner the slower of ours is where the peer is at its best; None: never."""
    goal = best(peer)
    points = [reached(side, goal["ndcg"]) for side in own]
    if None in points:
        return {"times_faster": None}
    clocks = ("training_seconds", "processor_seconds", "seconds")
    ratios = {clock: goal[clock] / max(point[clock] for point in points) for clock in clocks}
    return {"times_faster": {clock: round(ratio, 1) for clock, ratio in ratios.items()}}


def table(results: list[Result]) -> str:
    """Rows of Markdown, two for each comparison."""
    rows = [
        "| log, threads | model | seconds to the best of RecTools | epochs | seconds an epoch "
        "| best validation NDCG@10 | seconds to it | stopped by | peak MB |",
        "|---|---|--:|--:|--:|--:|--:|---|--:|",
    ]
    for result in results:
        goal = best(result["rectools"])["ndcg"]
        slower = max(result["attnrec"], key=lambda side: side["curve"][-1]["training_seconds"])
        for name, side in (
            ("RecTools SASRec", result["rectools"]),
            ("attnrec `sasrec`, decayed history", slower),
        ):
            point, top, last = reached(side, goal), best(side), side["curve"][-1]
            there = f"{point['training_seconds']:.0f} | {point['epoch']}" if point else "never | -"
            rows.append(
                f"| {result['log']}, {result['threads']} | {name} | {there} "
                f"| {last['training_seconds'] / last['epoch']:.1f} | {top['ndcg']:.4f} "
                f"| {top['training_seconds']:.0f} | {side['stopped_by']} | {side['peak_mb']} |"
            )
        if times := result["times_faster"]:
            shown = (
                f"{times['training_seconds']}; by processor time {times['processor_seconds']}, "
                f"with validation {times['seconds']}"
            )
            rows.append(f"| | times sooner | {shown} | | | | | | |")
    return "\n".join(rows)


def draw(results: list[Result], path: Path) -> None:
    """A panel for each log: validation NDCG@10 over seconds of training."""
    logs = list(dict.fromkeys(result["log"] for result in results))
    figure = Figure(figsize=(4.6 * len(logs), 3.4), layout="constrained")
    for axes, log in zip(figure.subplots(1, len(logs), squeeze=False)[0], logs, strict=True):
        result = [r for r in results if r["log"] == log][-1]
        sides = [("RecTools SASRec", "tab:gray", result["rectools"])]
        sides += [("attnrec sasrec", "tab:blue", side) for side in result["attnrec"]]
        for name, colour, side in sides:
            seconds = [point["training_seconds"] for point in side["curve"]]
            quality = [point["ndcg"] for point in side["curve"]]
            again = side is result["attnrec"][1]
            axes.plot(seconds, quality, ".-", color=colour, label=None if again else name)
        axes.axhline(best(result["rectools"])["ndcg"], color="tab:gray", lw=0.8, ls=":")
        axes.set_title(f"{log}, threads: {result['threads']}")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
    figure.supxlabel("seconds of training", fontsize=10)
    figure.supylabel("validation NDCG@10", fontsize=10)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--log", choices=list(_BATCH_SIZE), required=True)
    parser.add_argument("--peer-python", required=True, help="of the venv with RecTools")
    parser.add_argument("--minutes-peer", type=float, required=True, help="most minutes to train")
    parser.add_argument("--minutes-own", type=float, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="results, a line each")
    parser.add_argument("--picture", type=Path, help="where to draw the curves")
    arguments = parser.parse_args()
    with arguments.out.open("a") as lines:
        lines.write(json.dumps(measure(arguments)) + "\n")
    results = [json.loads(line) for line in arguments.out.read_text().splitlines()]
    print(table(results))
    if arguments.picture is not None:
        draw(results, arguments.picture)


if __name__ == "__main__":
    main()

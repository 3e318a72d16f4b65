"""What a step of the default recipe costs, by items of the catalogue.

    OMP_NUM_THREADS=2 python benchmarks/step_cost.py --items 12000 100000 1000000

Width 128, 2 blocks, histories of at most 50 events, 800 events and 1,024 negatives a step, on a
generated log with items drawn by Zipf's law. Each catalogue has a process of its own, in turns;
the median over the turns counts, as a ratio to the first. Memory is the peak of the process less
table, moments and log. Prints a Markdown table. Linux only.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.device import freed_memory_is_kept
from attnrec.train.fitting.distributed import descent
from attnrec.train.fitting.state import TrainingState
from attnrec.train.models.configs import RecencyConfig
from attnrec.train.models.sasrec_recency import RecencySASRec
from attnrec.train.splits.batches import SequenceBatches
from attnrec.train.splits.split import Sequences

N_USERS, LONGEST, WIDTH, N_STEPS, WARM_UP = 3000, 60, 128, 60, 5


def generated(n_items: int) -> Sequences:
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], random.integers(5, LONGEST, N_USERS).cumsum()])
    rows = 1 + random.zipf(1.3, offsets[-1]) * 7919 % n_items
    return Sequences(offsets=offsets, rows=rows.astype(np.int32), weights=None, timestamps=None)


def measure(n_items: int) -> None:
    """In a process of its own; prints one JSON line."""
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    torch.manual_seed(0)
    config = RecencyConfig(
        n_items, 50, WIDTH, dropout=0.2, loss="sampled-softmax", n_negatives=1024,
        decayed_history=True,
    )  # fmt: skip
    model = RecencySASRec(config).train()
    state = TrainingState(model, TrainConfig("sasrec"))
    descend = descent(state, 0)
    batches = SequenceBatches(generated(n_items), 50, 800).epoch(np.random.default_rng(0))
    seconds, user, kernel = [], [], []
    with state.optimizer.catching_up(model), freed_memory_is_kept():
        for _, batch in zip(range(N_STEPS), batches, strict=False):
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            descend(batch)
            state.optimizer.step()
            seconds.append(time.perf_counter() - began)
            after = resource.getrusage(resource.RUSAGE_SELF)
            user.append(after.ru_utime - before.ru_utime)
            kernel.append(after.ru_stime - before.ru_stime)
    held = 3 * 4 * n_items * WIDTH / 2**20  # the table and both moments
    found = {
        "ms": 1e3 * statistics.median(seconds[WARM_UP:]),
        "processor_ms": 1e3 * statistics.median(map(sum, zip(user, kernel, strict=True))),
        "kernel": sum(kernel[WARM_UP:]) / sum(kernel[WARM_UP:] + user[WARM_UP:]),
        "mb": after.ru_maxrss / 1024 - held - idle,
    }
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[12_000, 100_000, 1_000_000])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        measure(given.alone)
        return
    found: dict[int, list[dict[str, float]]] = {n: [] for n in given.items}
    for _ in range(given.turns):
        for n_items, rows in found.items():
            command = [sys.executable, __file__, "--alone", str(n_items)]
            rows.append(json.loads(subprocess.check_output(command)))
    print("| items | ms a step | of the first | processor ms | of the first | kernel | MB more |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    first = found[given.items[0]]
    for n_items, rows in found.items():
        ratios = {
            name: statistics.median(a[name] / b[name] for a, b in zip(rows, first, strict=True))
            for name in ("ms", "processor_ms")
        }
        middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        print(
            f"| {n_items:,} | {middle['ms']:.0f} | {ratios['ms']:.2f} "
            f"| {middle['processor_ms']:.0f} | {ratios['processor_ms']:.2f} "
            f"| {middle['kernel']:.1%} | {middle['mb']:,.0f} |"
        )


if __name__ == "__main__":
    main()

"""Seconds and peak memory of reading, dividing and counting a log that fills the memory.

    python benchmarks/large_log.py generate /tmp/log --events 100_000_000 --users 2_000_000 \
        --items 300_000
    python benchmarks/large_log.py read /tmp/log
    python benchmarks/large_log.py read /tmp/log --count markov-chain

`generate` writes a folder of Parquet files. Each holds a time of its own and is not sorted, like
what Spark writes a day at a time. `read` prints seconds and the highest resident memory after each
step.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from attnrec.train import TrainConfig
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.evaluation.validation import Validation
from attnrec.train.models.base import fit_by_counting
from attnrec.train.runs.train import new_model
from attnrec.train.splits.batches import SequenceBatches
from attnrec.train.splits.split import divide

_TASTES = 64


def generate(
    folder: Path, *, n_events: int, n_users: int, n_items: int, n_files: int, texts: bool
) -> None:
    """Items are zipf (exponent 0.9) within the two tastes of a user, activity is log-normal.

    Ids are numbers, or `texts` of 12 characters. Times are unix seconds of two years.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    activity = np.cumsum(rng.lognormal(0, 1, n_users))
    tastes = rng.integers(0, _TASTES, (n_users, 2), dtype=np.int8)
    ranks = np.cumsum(np.arange(1, n_items // _TASTES + 1) ** -0.9)
    span = 2 * 365 * 86_400 // n_files
    for part in range(n_files):
        size = n_events * (part + 1) // n_files - n_events * part // n_files
        user = np.searchsorted(activity, rng.random(size) * activity[-1]).astype(np.int32)
        rank = np.searchsorted(ranks, rng.random(size) * ranks[-1])
        taste = tastes[user, rng.integers(0, 2, size)]
        item = (rank * _TASTES + taste).astype(np.int32)
        at = 1_650_000_000 + part * span + rng.integers(0, span, size)
        ids = {"user_id": pa.array(user), "item_id": pa.array(item)}
        if texts:
            ids = {name: _text(values) for name, values in ids.items()}
        table = pa.table({**ids, "timestamp": at, "price": rng.random(size, np.float32)})
        pyarrow.parquet.write_table(table, folder / f"part-{part:05}.parquet")


def _text(values: pa.Array) -> pa.Array:
    coded = values.dictionary_encode()
    texts = pa.array(
        [f"{number * 2_654_435_761 % 2**40:012d}" for number in coded.dictionary.to_pylist()]
    )
    return pa.DictionaryArray.from_arrays(coded.indices, texts).cast(pa.string())


class Steps:
    """Prints what each step took."""

    def __init__(self) -> None:
        self._began, self._worked = time.perf_counter(), time.process_time()

    def __call__(self, name: str) -> None:
        now, worked = time.perf_counter(), time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        megabytes = peak / (2**20 if sys.platform == "darwin" else 2**10)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
        print(
            f"{name:24} {now - self._began:8.1f} s {worked - self._worked:8.1f} s of CPU   "
            f"peak {megabytes:8,.0f} MB   now {resident:8,.0f} MB",
            flush=True,
        )
        self._began, self._worked = time.perf_counter(), time.process_time()


def read(source: Path, *, repeats: bool, count: list[str]) -> None:
    """Read, divide, make the batches of an epoch, and count the neighbours of these models."""
    done = Steps()
    done("start")
    log, report = load_interactions(source, DataRecipe(repeats=repeats))
    done("read")
    print(report)
    split = divide(log, "leave-one-out")
    done("divide")
    validation = Validation(split, repeats=repeats)
    done("validation")
    batches = SequenceBatches(split.sequences, 100, 3200)
    epoch = batches.epoch(np.random.default_rng(0))
    done(f"epoch of {len(epoch):,} batches")
    for _ in zip(range(1000), epoch, strict=False):
        pass
    done("1000 batches")
    for name in count:
        config = TrainConfig(name)
        model = new_model(config, config.model_config(**split.sizes()))
        fit_by_counting(model, split, None)
        done(name)
        validation.ndcg(model)
        done("validated")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("generate")
    make.add_argument("folder", type=Path)
    make.add_argument("--events", type=int, default=100_000_000)
    make.add_argument("--users", type=int, default=2_000_000)
    make.add_argument("--items", type=int, default=300_000)
    make.add_argument("--files", type=int, default=20)
    make.add_argument("--texts", action="store_true", help="ids of 12 characters")
    measure = commands.add_parser("read")
    measure.add_argument("source", type=Path)
    measure.add_argument("--repeats", action="store_true")
    measure.add_argument("--count", nargs="*", default=[], metavar="MODEL")
    given = parser.parse_args()
    if given.command == "generate":
        generate(
            given.folder, n_events=given.events, n_users=given.users, n_items=given.items,
            n_files=given.files, texts=given.texts,
        )  # fmt: skip
    else:
        read(given.source, repeats=given.repeats, count=given.count)


if __name__ == "__main__":
    main()

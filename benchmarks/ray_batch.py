"""Recommendations for a million users with Ray Data on this machine, by number of workers.

    python benchmarks/ray_batch.py tests/data/apps/int64-int8.onnx --users 1000000
    python benchmarks/ray_batch.py tests/data/apps/int64-int8.onnx --users 200000 --turns 3

The histories are made up: lengths are those of customers of the embedded log, items are drawn from
its events. Each turn runs examples/ray_batch.py with one worker and with two, and without Ray the
same reading, answering and writing in one process and in two at once, which is what the machine
can do. Writes benchmarks/ray_batch.json unless told otherwise.
"""

import argparse
import json
import os
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from attnrec.train.datasets import online_retail

EXAMPLES = Path(__file__).parents[1] / "examples"
N_PARTS = 100
PLAIN = """
import sys
from pathlib import Path
sys.path.insert(0, {examples!r})
from ray_batch import Answer
here = Answer(Path({model!r}), Path({target!r}))
for path in sorted(Path({histories!r}).glob("*.parquet"))[{first}::{step}]:
    print(here.try_to_answer(path), flush=True)
"""


def make_histories(folder: Path, n_users: int) -> int:
    """A folder of Parquet files; returns the number of events."""
    log = pd.read_parquet(online_retail()[0])
    codes, _ = pd.factorize(log["item_id"], sort=True)
    lengths = log.groupby("user_id").size().to_numpy()
    random, n_events = np.random.default_rng(0), 0
    for part, users in enumerate(np.array_split(np.arange(n_users), N_PARTS)):
        own = random.choice(lengths, len(users))
        starts = np.concatenate([[0], own.cumsum()]).astype(np.int32)
        history = pa.ListArray.from_arrays(starts, 2**53 + random.choice(codes, own.sum()))
        table = pa.table({"user_id": users, "history": history})
        pq.write_table(table, folder / f"part-{part:05}.parquet")
        n_events += int(own.sum())
    return n_events


class Watched:
    """What a command and its children use, seen from outside."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.peak = {"worker_rss": 0.0, "worker_pss": 0.0, "rest_pss": 0.0}
        self.seconds: dict[int, float] = {}
        """Processor time of each process so far, by its id."""
        self.workers: set[int] = set()

    def look(self) -> None:
        """Sum up once; a process that has ended keeps what it had."""
        now = dict.fromkeys(self.peak, 0.0)
        for one in [self.process, *self.process.children(recursive=True)]:
            try:
                is_worker = one.name().startswith("ray::MapWorker")
                used, times = one.memory_full_info(), one.cpu_times()
            except psutil.Error:  # it ended meanwhile
                continue
            self.seconds[one.pid] = times.user + times.system
            if is_worker:
                self.workers.add(one.pid)
                now["worker_rss"] = max(now["worker_rss"], used.rss / 1e6)
                now["worker_pss"] = max(now["worker_pss"], used.pss / 1e6)
            else:
                now["rest_pss"] += used.pss / 1e6
        self.peak = {name: max(now[name], self.peak[name]) for name in now}

    def worker_seconds(self) -> float:
        return sum(self.seconds[pid] for pid in self.workers or {self.process.pid})


def busy() -> float:
    """Seconds that all processors together have worked since the machine was started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def watch(commands: list[list[str]], n_users: int) -> dict[str, float]:
    """Run commands at once until all have ended: users a second, processor time, memory in MB.

    `steady` counts from the first file that is done to the last, so that starting is left out.
    `others` is how many processors were used by processes that are none of ours.
    """
    started, worked_before = time.perf_counter(), busy()
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # By default workers of Ray wait for every other process; plain ones do not.
    quiet["env"] = os.environ | {"RAY_worker_niceness": "0"}
    running = [psutil.Popen(command, text=True, **quiet) for command in commands]
    watched = [Watched(process) for process in running]
    done: list[tuple[float, float, int]] = []
    with selectors.DefaultSelector() as outputs:
        for process in running:
            outputs.register(process.stdout, selectors.EVENT_READ)
        while outputs.get_map():
            for key, _ in outputs.select():
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if not line:
                    outputs.unregister(key.fileobj)
                elif line.endswith(" users\n"):
                    for one in watched:
                        one.look()
                    worked = sum(one.worker_seconds() for one in watched)
                    done.append((time.perf_counter(), worked, int(line.split()[-2])))
    if any(process.wait() for process in running) or sum(n for *_, n in done) != n_users:
        raise SystemExit(f"not everybody was answered: {commands}")
    seconds, n_later = time.perf_counter() - started, n_users - done[0][2]
    ours = sum(sum(one.seconds.values()) for one in watched)
    return {
        "seconds": round(seconds, 1),
        "users_a_second": round(n_users / seconds),
        "steady_users_a_second": round(n_later / (done[-1][0] - done[0][0])),
        "worker_us_a_user": round((done[-1][1] - done[0][1]) / n_later * 1e6, 1),
        "others": round(max(0.0, busy() - worked_before - ours) / seconds, 2),
        **{name: round(mb, 1) for name, mb in watched[0].peak.items()},
    }


def turn(model: Path, histories: Path, n_users: int) -> dict[str, dict[str, float]]:
    """Every way once, each into a new folder."""
    found = {}
    for n in (1, 2):
        for way in ("ray", "plain"):
            with tempfile.TemporaryDirectory() as target:
                script = str(EXAMPLES / "ray_batch.py")
                places = [str(model), str(histories), target]
                commands = [[sys.executable, script, *places, "--workers", str(n)]]
                if way == "plain":
                    names = dict(zip(("model", "histories", "target"), places, strict=True))
                    names["examples"] = str(EXAMPLES)
                    commands = [
                        [sys.executable, "-c", PLAIN.format(**names, first=first, step=n)]
                        for first in range(n)
                    ]
                found[f"{way}-{n}"] = watch(commands, n_users)
                written = sum(path.stat().st_size for path in Path(target).iterdir())
                found[f"{way}-{n}"]["written_mb"] = round(written / 1e6, 1)
                print(f"{way}-{n}: {found[f'{way}-{n}']}", flush=True)
    return found


def scaling_of(way: str, turns: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Two beside one, medians over the turns: with and without starting, and if each user took
    what a user takes of a processor, so that other processes do not count."""
    ratios = {
        name: [one[f"{way}-2"][name] / one[f"{way}-1"][name] for one in turns]
        for name in ("users_a_second", "steady_users_a_second", "worker_us_a_user")
    }
    ratios["worker_us_a_user"] = [2 / ratio for ratio in ratios["worker_us_a_user"]]
    return {name: round(statistics.median(values), 2) for name, values in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        n_events = make_histories(Path(folder), args.users)
        read_mb = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
        model, histories = args.model.absolute(), Path(folder)
        turns = [turn(model, histories, args.users) for _ in range(args.turns)]
    scaling = {way: scaling_of(way, turns) for way in ("ray", "plain")}
    result = {
        "model": args.model.name,
        "users": args.users,
        "events": n_events,
        "read_mb": round(read_mb, 1),
        "files": N_PARTS,
        "scaling": scaling,
        "turns": turns,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(scaling))


if __name__ == "__main__":
    main()

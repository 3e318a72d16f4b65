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


def memory(process: psutil.Process) -> dict[str, float]:
    """MB of the process and its children now: the largest worker, and the rest together."""
    workers, rest = [(0, 0)], 0
    for one in [process, *process.children(recursive=True)]:
        try:
            is_worker = one.name().startswith("ray::MapWorker")
            used = one.memory_full_info()
        except psutil.Error:  # it ended meanwhile
            continue
        if is_worker:
            workers.append((used.rss, used.pss))
        else:
            rest += used.pss
    rss, pss = max(workers)
    return {"worker_rss": rss / 1e6, "worker_pss": pss / 1e6, "rest_pss": rest / 1e6}


def watch(commands: list[list[str]], n_users: int) -> dict[str, float]:
    """Run commands at once until all have ended: users a second, memory.

    `steady` counts from the first file that is done to the last, so that starting is left out.
    """
    started, done, peak = time.perf_counter(), [], dict[str, float]()
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, text=True, **quiet) for command in commands]
    # Lines of the first are read while it runs; the others have room for theirs in a pipe.
    for first, process in enumerate(running):
        assert process.stdout is not None
        for line in process.stdout:
            if not line.strip().endswith("users"):
                continue
            done.append((time.perf_counter(), int(line.split()[-2])))
            if first == 0 and len(done) % 10 == 1:
                now = memory(psutil.Process(process.pid))
                peak = {name: max(now[name], peak.get(name, 0)) for name in now}
    if any(process.wait() for process in running) or sum(n for _, n in done) != n_users:
        raise SystemExit(f"not everybody was answered: {commands}")
    seconds = time.perf_counter() - started
    found = {"seconds": seconds, "users_a_second": n_users / seconds}
    if len(commands) == 1:
        at, counts = zip(*done, strict=True)
        found["steady_users_a_second"] = sum(counts[1:]) / (at[-1] - at[0])
        found |= peak
    return {name: round(value, 1) for name, value in found.items()}


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
        load, turns = os.getloadavg()[0], []
        for _ in range(args.turns):
            turns.append(turn(args.model.absolute(), Path(folder), args.users))
    scaling = {
        way: round(
            statistics.median(
                one[f"{way}-2"]["users_a_second"] / one[f"{way}-1"]["users_a_second"]
                for one in turns
            ),
            2,
        )
        for way in ("ray", "plain")
    }
    result = {
        "model": args.model.name,
        "users": args.users,
        "events": n_events,
        "read_mb": round(read_mb, 1),
        "files": N_PARTS,
        "load_before": round(load, 1),
        "scaling": scaling,
        "turns": turns,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(scaling))


if __name__ == "__main__":
    main()

"""Recommendations for a million users with Ray Data on this machine, by number of workers.

    python benchmarks/ray_batch.py tests/data/apps/int64-int8.onnx --users 1000000
    python benchmarks/ray_batch.py tests/data/apps/int64-int8.onnx --users 200000 --turns 3

The histories are synthetic: lengths are those of customers of the embedded log, items are
drawn from its events. Each turn runs examples/ray_batch.py with one worker and with two,
without Ray the same reading, answering and writing in one process and in two at once, which is
what the machine can do, and `attnrec recommend --batch` with one process and with two. `--ways
plain,command` leaves Ray out. Adds a line to benchmarks/ray_batch.jsonl, or to the file of
`--out`.
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
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from attnrec.train.data.online_retail import online_retail

EXAMPLES = Path(__file__).parents[1] / "examples"
N_PARTS = 100
WAYS = ("ray", "plain", "command")
COMMAND = """
import threading, time
from pathlib import Path
import pyarrow.parquet as pq
from attnrec.cli.recommend.command import recommend
from attnrec.cli.console import run_command
def tell():
    seen = set()
    while len(seen) < {n_parts}:
        for path in {{*Path({target!r}).glob("[!.]*.parquet")}} - seen:
            print(f"{{path.name}}: {{pq.read_metadata(path).num_rows}} users", flush=True)
            seen.add(path)
        time.sleep(0.05)
threading.Thread(target=tell).start()
options = ["--batch", {histories!r}, "--out", {target!r}, "--processes", "{step}", "--json"]
run_command(recommend, [{model!r}, *options])
"""
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


class Snapshot(NamedTuple):
    """What commands and all their children have used so far."""

    at: float
    """Seconds on a clock."""
    worked: dict[int, float]
    """Processor time of each process, by its id."""
    threads: dict[int, dict[str, tuple[int, int]]]
    """Of each worker, by thread: nanoseconds that it ran, and that it waited for a processor."""
    busy: float
    """Processor time of the whole machine since it was started."""
    memory: dict[str, float]
    """MB: resident and proportional of the largest worker, proportional of all the rest."""

    @classmethod
    def of(cls, started: list[psutil.Popen]) -> "Snapshot":
        worked, threads = dict[int, float](), dict[int, dict[str, tuple[int, int]]]()
        memory = {"worker_rss": 0.0, "worker_pss": 0.0, "rest_pss": 0.0}
        for process in started:
            children = process.children(recursive=True)
            for one in [process, *children]:
                used, times = one.memory_full_info(), one.cpu_times()
                worked[one.pid] = times.user + times.system
                is_worker = one.name().startswith("ray::MapWorker") or "spawn_main" in str(
                    one.cmdline()
                )
                if is_worker or not children:
                    threads[one.pid] = schedule(one.pid)
                    memory["worker_rss"] = max(used.rss / 1e6, memory["worker_rss"])
                    memory["worker_pss"] = max(used.pss / 1e6, memory["worker_pss"])
                else:
                    memory["rest_pss"] += used.pss / 1e6
        return cls(time.perf_counter(), worked, threads, busy(), memory)


def schedule(pid: int) -> dict[str, tuple[int, int]]:
    """Linux: nanoseconds that each thread ran, and that it was ready while others ran."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        ran, waited, _ = (thread / "schedstat").read_text().split()
        found[thread.name] = (int(ran), int(waited))
    return found


def run(commands: list[list[str]]) -> tuple[Snapshot, Snapshot, int]:
    """Run commands at once until all have ended.

    Returns what was used when a tenth of the files was done, and when nine tenths were, and the
    number of users between.
    """
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # By default workers of Ray wait for every other process; plain ones do not.
    quiet["env"] = os.environ | {"RAY_worker_niceness": "0"}
    started = [psutil.Popen(command, text=True, **quiet) for command in commands]
    snapshots, counts = [], []
    with selectors.DefaultSelector() as outputs:
        for process in started:
            outputs.register(process.stdout, selectors.EVENT_READ)
        while outputs.get_map():
            for key, _ in outputs.select():
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if not line:
                    outputs.unregister(key.fileobj)
                elif line.endswith(" users\n"):
                    counts.append(int(line.split()[-2]))
                    if len(counts) in (N_PARTS // 10, N_PARTS - N_PARTS // 10):
                        snapshots.append(Snapshot.of(started))
    if any(process.wait() for process in started) or len(counts) != N_PARTS:
        raise SystemExit(f"failed: {commands}")
    first, last = snapshots
    return first, last, sum(counts[N_PARTS // 10 : N_PARTS - N_PARTS // 10])


def measure(commands: list[list[str]], n_users: int) -> dict[str, float]:
    """Users a second, processor time and memory of commands that run at once.

    steady: between a tenth and nine tenths of the files, so without starting. undisturbed: and
    without the time in which the thread that answers was ready to run and others had the
    processors, which it would have on a machine of its own. rest, others: processors used
    meanwhile by Ray outside its workers, and by processes that are none of ours.
    """
    began = time.perf_counter()
    first, last, n_between = run(commands)
    seconds, steady = time.perf_counter() - began, last.at - first.at
    waited = [waiting(first.threads[pid], threads) for pid, threads in last.threads.items()]
    undisturbed = steady - statistics.mean(waited)
    used = {pid: worked - first.worked.get(pid, 0) for pid, worked in last.worked.items()}
    by_workers = sum(used[pid] for pid in last.threads)
    by_rest = sum(used.values()) - by_workers
    return {
        "seconds": round(seconds, 1),
        "users_a_second": round(n_users / seconds),
        "steady_users_a_second": round(n_between / steady),
        "undisturbed_users_a_second": round(n_between / undisturbed),
        "worker_us_a_user": round(by_workers / n_between * 1e6, 1),
        "rest": round(by_rest / undisturbed, 3),
        "others": round((last.busy - first.busy - by_workers - by_rest) / steady, 2),
        **{name: round(mb, 1) for name, mb in last.memory.items()},
    }


def waiting(first: dict[str, tuple[int, int]], last: dict[str, tuple[int, int]]) -> float:
    """Seconds that the busiest thread waited for a processor."""
    of = {thread: first.get(thread, (0, 0)) for thread in last}
    used = [(last[name][0] - of[name][0], last[name][1] - of[name][1]) for name in last]
    return max(used)[1] / 1e9


def busy() -> float:
    """Seconds that all processors together have worked since the machine was started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def turn(
    model: Path, histories: Path, n_users: int, ways: list[str]
) -> dict[str, dict[str, float]]:
    """Every way once, each into a new folder."""
    found = {}
    for n in (1, 2):
        for way in ways:
            with tempfile.TemporaryDirectory() as target:
                script = str(EXAMPLES / "ray_batch.py")
                places = [str(model), str(histories), target]
                commands = [[sys.executable, script, *places, "--workers", str(n)]]
                if way != "ray":
                    names = dict(zip(("model", "histories", "target"), places, strict=True))
                    names |= {"examples": str(EXAMPLES), "n_parts": str(N_PARTS)}
                    script, n_started = (PLAIN, n) if way == "plain" else (COMMAND, 1)
                    commands = [
                        [sys.executable, "-c", script.format(**names, first=first, step=n)]
                        for first in range(n_started)
                    ]
                found[f"{way}-{n}"] = measure(commands, n_users)
                written = sum(path.stat().st_size for path in Path(target).iterdir())
                found[f"{way}-{n}"]["written_mb"] = round(written / 1e6, 1)
                print(f"{way}-{n}: {found[f'{way}-{n}']}", flush=True)
    return found


def scaling_of(way: str, turns: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Two beside one, medians over the turns."""
    names = ("users_a_second", "steady_users_a_second", "undisturbed_users_a_second")
    ratios = {
        name: [one[f"{way}-2"][name] / one[f"{way}-1"][name] for one in turns] for name in names
    }
    return {name: round(statistics.median(values), 2) for name, values in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        n_events = make_histories(Path(folder), args.users)
        read_mb = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
        model, histories = args.model.absolute(), Path(folder)
        ways = args.ways.split(",")
        turns = [turn(model, histories, args.users, ways) for _ in range(args.turns)]
    scaling = {way: scaling_of(way, turns) for way in ways}
    result = {
        "model": args.model.name,
        "users": args.users,
        "events": n_events,
        "read_mb": round(read_mb, 1),
        "files": N_PARTS,
        "scaling": scaling,
        "turns": turns,
    }
    with args.out.open("a") as file:
        file.write(json.dumps(result) + "\n")
    print(json.dumps(scaling))


if __name__ == "__main__":
    main()

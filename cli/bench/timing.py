"""How fast model files answer on this machine, and what a fresh process takes to answer.

Other programs use the machine as well, so what is compared takes turns in short blocks: a
disturbance affects all of it alike. Ratios repeat; times depend on the machine.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from attnrec.cli.bench import cold_start
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.recommender import Recommender

BATCHES = (1, 8, 64)
_LENGTHS = (0, 1, 10, 50, 200)
_BLOCK_NS = 20_000_000
_IN_A_ROW = 8  # calls of a thread between two meetings with the others

Ask = Callable[[list[list[int | str]]], Any]
Call = Callable[[], Any]
Figures = dict[str, float | None]
_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Subject:
    """What is timed: a model file, or a model that answers like one."""

    name: str
    """Path of the file, as given."""
    info: ModelInfo
    """Facts of the file."""
    item_ids: list[int | str]
    """Its catalogue, sorted: equal catalogues get equal histories."""
    ask: Mapping[int, Ask]
    """Answers a list of histories; by the threads that compute the answer."""

    @classmethod
    def of_file(cls, path: str | Path) -> "Subject":
        """Load a file for 1, 2, 4... threads, up to the cores. `ModelFileError` if that fails."""
        affinity = getattr(os, "sched_getaffinity", None)  # neither on macOS nor on Windows
        n_cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        counts = [*(2**i for i in range(10) if 2**i < n_cores), n_cores]
        loaded = {n: Recommender.load(path, n_threads=n) for n in counts}
        info = loaded[1].info
        item_ids = loaded[1].recommend([], info.n_items, exclude_seen=False).item_ids
        return cls(str(path), info, sorted(item_ids), {n: _asking(r) for n, r in loaded.items()})

    def call(self, history: int, batch: int, n_threads: int = 1, askers: int = 1) -> Call:
        """A call as in `Timing`, for synthetic histories, other ones every time."""
        rng, shape = np.random.default_rng(history), (max(BATCHES), history)
        rows = rng.integers(len(self.item_ids), size=shape).tolist()
        histories = [[self.item_ids[i] for i in row] for row in rows]
        batches = cycle([histories[i : i + batch] for i in range(0, len(histories), batch)])
        ask = self.ask[n_threads]
        if askers == 1:
            return lambda: ask(next(batches))
        pool = ThreadPoolExecutor(askers)

        def some(_: int) -> None:
            for _ in range(_IN_A_ROW):
                ask(next(batches))

        return lambda: list(pool.map(some, range(askers)))


def _asking(recommender: Recommender) -> Ask:
    """What an application calls."""

    def ask(histories: list[list[int | str]]) -> Any:
        if len(histories) == 1:
            return recommender.recommend(histories[0])
        return recommender.recommend_batch(histories)

    return ask


@dataclass(frozen=True)
class Timing:
    """Calls of one kind."""

    history: int
    """Events of each history."""
    batch: int
    """Histories of a call."""
    n_threads: int
    """Threads that compute an answer, as in `Recommender.load`."""
    askers: int
    """Python threads that share the Recommender, each making one call after the other."""
    p50_us: float
    """Median of a call, microseconds; with several askers of the mean over a few in a row."""
    p99_us: float
    """99th percentile of a call."""
    histories_per_second: float
    """By the 10th percentile of a call, which neighbours on the machine disturb least."""


def measure(
    subjects: Sequence[Subject], seconds: float, tick: Call = lambda: None
) -> list[list[Timing]]:
    """Time all subjects in turn, a list for each, the same kinds of calls in the same order.

    By history length, up to the longest that counts and once beyond; by batch; by threads.
    tick: called now and then, between what is timed.
    """
    longest = max(subject.info.max_len for subject in subjects)
    usual = min(50, longest)
    kinds = [(n, 1, 1, 1) for n in (*(n for n in _LENGTHS if n < longest), longest, 2 * longest)]
    kinds += [(usual, batch, 1, 1) for batch in BATCHES[1:]]
    for n in list(subjects[0].ask)[1:]:
        kinds += [(usual, 1, n, 1), (usual, max(BATCHES), n, 1), (usual, 1, 1, n)]
    calls = {
        (kind, place): subject.call(*kind)
        for kind in kinds
        for place, subject in enumerate(subjects)
        if max(kind[2:]) in subject.ask
    }
    timings: list[list[Timing]] = [[] for _ in subjects]
    for (kind, place), us in take_turns(calls, seconds, tick).items():
        _, batch, _, askers = kind
        us = us / (1 if askers == 1 else _IN_A_ROW)
        p10, p50, p99 = np.percentile(us, [10, 50, 99]).tolist()
        timings[place].append(Timing(*kind, p50, p99, 1e6 * batch * askers / p10))
    return timings


def take_turns(
    calls: Mapping[_Key, Call],
    seconds: float,
    tick: Call = lambda: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[_Key, NDArray[np.float64]]:
    """Microseconds of the single calls of each kind, in blocks of 20 ms, at least one of each.

    clock: nanoseconds, such as `time.thread_time_ns` for the processor time of this thread.
    """
    times: dict[_Key, list[int]] = {key: [] for key in calls}
    end = time.perf_counter() + seconds
    while not all(times.values()) or time.perf_counter() < end:
        for key, call in calls.items():
            call()  # finds the caches full of the block before, so it does not count
            now = time.perf_counter_ns()
            block_end = now + _BLOCK_NS
            while now < block_end:
                start = clock()
                call()
                times[key].append(clock() - start)
                now = time.perf_counter_ns()
        tick()
    return {key: np.array(taken) / 1e3 for key, taken in times.items()}


def cold_starts(
    files: Sequence[Subject], seconds: float, tick: Call = lambda: None
) -> list[Figures]:
    """Medians over fresh processes, at least 3 for each file, in turn.

    Milliseconds: python_numpy_ms (interpreter and import), onnxruntime_ms, attnrec_ms (imports),
    load_ms, first_answer_ms, total_ms; load_check_ms: reading and checking the file, once more.
    Resident megabytes: imports_mb, load_mb, answer_mb; None where the system has none.
    pages_mb, where it has them: the part of answer_mb read from files since the imports, the model
    or parts of libraries, and can be dropped and read again.
    """
    found: list[list[Figures]] = [[] for _ in files]
    end = time.perf_counter() + seconds
    while len(found[-1]) < 3 or time.perf_counter() < end:
        for file, rows in zip(files, found, strict=True):
            rows.append(_cold_start(file.name, json.dumps(file.item_ids[:50])))
            tick()
    return [{name: _median([row[name] for row in rows]) for name in rows[0]} for rows in found]


def _cold_start(path: str, history: str) -> Figures:
    # -P: the folder of the program, with its format.py, is no place to look for modules.
    command = [sys.executable, "-P", cold_start.__file__, path, history]
    command.append(repr(time.perf_counter()))
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        reason = result.stderr.strip().rpartition("\n")[2]
        raise ModelFileError(f"{path}: a fresh process could not answer from it: {reason}")
    figures: Figures = json.loads(result.stdout)
    return figures


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None

"""Processes of peers that take turns on one core, and their cold starts."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM = Path(__file__).with_name("answering.py")
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONUNBUFFERED": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
_QUICK_MS, _MORE = 2000, 5  # so many times as many cold starts
Figures = dict[str, float]
Times = list[tuple[float, float]]
"""Microseconds of single calls, by the clock and of the processor."""


@dataclass(frozen=True)
class Row:
    """Something that answers."""

    name: str
    """In the results."""
    title: str
    """In the table."""
    venv: str
    """Environment of `venvs.py`."""
    module: str
    """File beside this one, with its variant: `attnrec_recommend:sasrec-int8`."""


class Worker:
    """A process that has loaded, and answers when it is told to."""

    def __init__(self, python: str, row: Row, folder: Path) -> None:
        self.row, self._log = row, folder / f"{row.name}.log"
        self._process = _start(python, row, "turns", folder)
        self._told()

    def order(self, what: str, **options: Any) -> Any:
        """What it tells after it has done so."""
        self._process.stdin.write(json.dumps({"what": what, **options}) + "\n")
        self._process.stdin.flush()
        return self._told()

    def end(self) -> None:
        """Let it end by itself."""
        self._process.stdin.close()
        self._process.wait()

    def _told(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise SystemExit(_failure(self.row, self._log))
        return json.loads(line)


def prepare(python: str, row: Row, folder: Path) -> None:
    """What a peer itself has to make, once."""
    _finished(_start(python, row, "prepare", folder), row, folder)


def cold_starts(
    pythons: Mapping[str, str], rows: Sequence[Row], folder: Path, times: int
) -> dict[str, dict[str, Any]]:
    """For each row the medians over fresh processes, in turn: of the quick ones more."""
    found: dict[str, list[dict[str, Any]]] = {row.name: [] for row in rows}
    for turn in range(times * _MORE):
        for row in rows:
            if turn >= times and found[row.name][0]["total_ms"] > _QUICK_MS:
                continue
            clock = repr(time.perf_counter())  # one for all processes of a machine
            process = _start(pythons[row.venv], row, "start", folder, clock)
            found[row.name].append(json.loads(_finished(process, row, folder)))
    return {name: _medians(starts) for name, starts in found.items()}


def in_turn(
    workers: Sequence[Worker], what: str, seconds: float, block: float
) -> dict[str, Times]:
    """Single calls, in blocks of so many seconds, about so many seconds a worker."""
    times: dict[str, Times] = {worker.row.name: [] for worker in workers}
    for _ in range(max(1, round(seconds / block))):
        for worker in workers:
            times[worker.row.name] += worker.order(what, seconds=block)
    return times


def summary(times: Times) -> Figures:
    """Milliseconds of single calls by the clock, and the median of the processor."""
    clock, processor = np.array(times).T / 1e3
    p10, p50, p99 = np.percentile(clock, [10, 50, 99]).tolist()
    used = float(np.median(processor))
    return {"p10_ms": p10, "p50_ms": p50, "p99_ms": p99, "processor_ms": used, "n": len(times)}


def _start(python: str, row: Row, what: str, folder: Path, *more: str) -> "subprocess.Popen[str]":
    with (folder / f"{row.name}.log").open("w") as log:  # a pipe that nobody reads would fill up
        return subprocess.Popen(
            [python, str(PROGRAM), row.module, what, str(folder), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            env={**os.environ, **_ONE_THREAD},
        )  # fmt: skip


def _finished(process: "subprocess.Popen[str]", row: Row, folder: Path) -> str:
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(_failure(row, folder / f"{row.name}.log"))
    return output


def _failure(row: Row, log: Path) -> str:
    return f"{row.name} failed; the end of {log}:\n{log.read_text()[-2000:]}"


def _medians(starts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of numbers; the rest is the same every time."""
    return {
        name: float(np.median([start[name] for start in starts]))
        if isinstance(value, float)
        else value
        for name, value in starts[0].items()
    }

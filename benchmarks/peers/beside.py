"""attnrec beside what people would use instead: latency, throughput, cold start, memory, size.

    python benchmarks/peers/beside.py
    python benchmarks/peers/beside.py --settings 3k --only onnxruntime sasrec-fp32

Makes an environment for each peer (`venvs.py`), lets each make its own model, of the same width,
depth, length and catalogue, with random weights: only time and memory are measured. A request is a
history of 50 raw ids, int64, and is answered by the 10 best raw ids that are not in it. All have a
process each on the same core, with one thread, and take turns in short blocks: what disturbs the
machine meets all alike. Cold starts and memory are of fresh processes.

Replaces in results.json the settings that were measured, and draws the table and picture anew.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from catalogues import N_HISTORIES, SETTINGS, Setting, prepare, sasrec_run
from scale import any_run
from tables import RESULTS, table, write_tables
from turns import Row, Worker, cold_starts, in_turn, summary
from turns import prepare as prepare_peer
from venvs import VENVS, python_of

from attnrec.train.run import Run

PEERS = (
    Row("rectools", "RecTools 0.19 `recommend`", "rectools", "rectools_recommend"),
    Row(
        "replay", "RePlay 0.22 compiled (OpenVINO), the rest by hand", "replay", "replay_compiled"
    ),
    Row(
        "onnxruntime",
        "onnxruntime on RePlay's file, the rest by hand",
        "onnxruntime",
        "onnxruntime_by_hand",
    ),
    Row("torch", "torch eager, the training module of `sasrec`", "here", "torch_eager"),
)
_CHECKED = 50  # answers
_EXACT = {"replay": "onnxruntime", "torch": "sasrec-fp32"}  # has the same weights
_MADE = {"rectools": "rectools.model", "replay": "replay.onnx"}
_MADE_FOR = {"replay": "onnxruntime"}
_BLOCK, _BATCH_BLOCK = 0.1, 0.5  # seconds


def own_rows(profiles: Sequence[str]) -> list[Row]:
    """Rows of attnrec."""
    rows = [(f"sasrec-{profile}", f"attnrec `sasrec`, {profile}") for profile in profiles]
    rows.append(("fusion-int8", "attnrec `fusion`, the default model, int8"))
    return [Row(name, title, "attnrec", f"attnrec_recommend:{name}") for name, title in rows]


def measure(setting: Setting, small: Run, rows: Sequence[Row], options: argparse.Namespace) -> Any:
    """Everything of one setting, as it goes into the results."""
    folder = options.venvs / "files" / setting.name
    pythons = {row.venv: python_of(row.venv, options.venvs) for row in rows}
    own = {row.module.partition(":")[2] for row in rows if row.venv == "attnrec"}
    is_old = prepare(sasrec_run(small, setting), setting, folder, own)
    for row in PEERS:
        is_needed = {row.name, _MADE_FOR.get(row.name)} & {row.name for row in rows}
        if (
            row.name in _MADE
            and is_needed
            and not (is_old and (folder / _MADE[row.name]).exists())
        ):
            prepare_peer(python_of(row.venv, options.venvs), row, folder)
    starts = cold_starts(pythons, rows, folder, options.starts)
    workers = [Worker(pythons[row.venv], row, folder) for row in rows]
    answers = checked_answers(workers, folder)
    one = in_turn(workers, "one", options.seconds, _BLOCK)
    batch = in_turn(workers, "batch", options.seconds, _BATCH_BLOCK)
    for worker in workers:
        worker.end()
    return {
        "setting": asdict(setting),
        "title": setting.title,
        "rows": {
            row.name: {
                "title": row.title,
                "one": summary(one[row.name]),
                "batch": summary(batch[row.name]),
                "batch_size": N_HISTORIES,
                "users_per_second": 1e6 * N_HISTORIES / float(np.median(batch[row.name])),
                "start": starts[row.name],
                "overlap@10": overlap(answers, row.name),
            }
            for row in rows
        },
    }


def checked_answers(workers: Sequence[Worker], folder: Path) -> dict[str, list[list[Any]]]:
    """The first answers of all; exits 1 where one is not what was asked for."""
    ids = set(np.load(folder / "ids.npy").tolist())
    histories = np.load(folder / "histories.npy").tolist()
    answers = {worker.row.name: worker.order("answers", n=_CHECKED) for worker in workers}
    for name, lists in answers.items():
        for answer, history in zip(lists, histories, strict=False):
            new = set(answer) & ids - set(history)
            if len(answer) != 10 or len(new) != 10:
                raise SystemExit(f"{name}: {answer} are not 10 items that are not in the history")
    return answers


def overlap(answers: dict[str, list[list[Any]]], name: str) -> float | None:
    """Mean share of the 10 items that a row of the same weights answers as well."""
    exact = answers.get(_EXACT.get(name, "sasrec-fp32" if name.startswith("sasrec") else ""))
    if exact is None:
        return None
    shares = [len({*a} & {*b}) / 10 for a, b in zip(answers[name], exact, strict=True)]
    return float(np.mean(shares))


def processor() -> str:
    """Its name, on Linux."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--only", nargs="+", help="rows by name; by default all")
    parser.add_argument("--profiles", nargs="+", default=["fp32", "int8"], help="of `sasrec`")
    parser.add_argument(
        "--seconds", type=float, default=4, help="of each row, one by one and batch"
    )
    parser.add_argument("--starts", type=int, default=3, help="cold starts of each row")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--venvs", type=Path, default=VENVS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = {row.name: row for row in (*PEERS, *own_rows(options.profiles))}
    if unknown := set(options.only or ()) - set(rows):
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(rows)}")
    chosen = [row for name, row in rows.items() if options.only is None or name in options.only]
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    results = json.loads(options.out.read_text()) if options.out.exists() else {"settings": {}}
    results["machine"] = {"processor": processor(), "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder:
        small = any_run(Path(folder))
    for name in options.settings:
        results["settings"][name] = measure(SETTINGS[name], small, chosen, options)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
        print(table(results["settings"][name]), flush=True)
    write_tables(options.out)


if __name__ == "__main__":
    main()

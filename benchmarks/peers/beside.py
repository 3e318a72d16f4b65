"""attnrec beside what people would use instead: latency, throughput, cold start, memory, size.

    python benchmarks/peers/beside.py
    python benchmarks/peers/beside.py --settings 3k --only onnxruntime sasrec-fp32

Makes an environment for each peer (`venvs.py`), lets each make its own model, of the same width,
depth, length and catalogue, with random weights: only time and memory are measured. A request is a
history of 50 raw ids, int64, and is answered by the 10 best raw ids that are not in it. All have a
process each on the same core, with one thread, and take turns in short blocks: what disturbs the
machine meets all alike. Cold starts and memory are of fresh processes.

Replaces in results.json the settings that were measured, and makes docs/peers.md and its picture
anew. Linux only.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_eager
from catalogues import SETTINGS, Setting, prepare, sasrec_run
from rows import PEERS, machine, mean_overlap, own_row
from scale import any_run
from tables import RESULTS, table, write_tables
from turns import Row, Worker, cold_starts, in_turn, summary
from turns import prepare as prepare_peer
from venvs import VENVS, python_of

from attnrec.train.runs.run import Run

_CHECKED = 50  # answers
_SAME_WEIGHTS = {"replay": "onnxruntime", "torch": "sasrec-fp32"}
# What a peer makes for itself, or for the row whose name is said.
_MADE = {"rectools": ("rectools.model", "rectools"), "replay": ("replay.onnx", "onnxruntime")}
_BLOCK, _BATCH_BLOCK = 0.1, 0.5  # seconds


def make_all(run: Run, setting: Setting, folder: Path, rows: Sequence[Row], venvs: Path) -> None:
    """Every file that is loaded; those of peers only if they are not there of this catalogue."""
    own = [row.name for row in rows if row.venv == "attnrec"]
    is_old = prepare(run, setting, folder, own)
    torch_eager.save(run.model, folder)
    chosen = {row.name for row in rows}
    for peer in PEERS:
        file, reader = _MADE.get(peer.name, ("", ""))
        is_wanted = file and chosen & {peer.name, reader}
        if is_wanted and not (is_old and (folder / file).exists()):
            prepare_peer(python_of(peer.venv, venvs), peer, folder)


def measure(
    folder: Path, rows: Sequence[Row], pythons: Mapping[str, str], seconds: float, starts: int
) -> dict[str, Any]:
    """Everything that is measured of one catalogue, for each row."""
    started = cold_starts(pythons, rows, folder, starts)
    workers = [Worker(pythons[row.venv], row, folder) for row in rows]
    answers = checked_answers(workers, folder)
    one = in_turn(workers, "one", seconds, _BLOCK)
    batch = in_turn(workers, "batch", seconds, _BATCH_BLOCK)
    for worker in workers:
        worker.end()
    return {
        row.name: {
            "title": row.title,
            "one": summary(one[row.name]),
            "batch": summary(batch[row.name]),
            "start": started[row.name],
            "overlap@10": overlap(answers, row.name),
        }
        for row in rows
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
    """With the row that has the same weights, exact; None without one."""
    other = "sasrec-fp32" if name.startswith("sasrec") else _SAME_WEIGHTS.get(name, "")
    return mean_overlap(answers[name], answers[other]) if other in answers else None


def options_of_line() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--only", nargs="+", help="rows by name; by default all")
    parser.add_argument("--profiles", nargs="+", default=["fp32", "int8"], help="of `sasrec`")
    parser.add_argument("--seconds", type=float, default=2, help="of a row, single and batch each")
    parser.add_argument(
        "--starts", type=int, default=1, help="cold starts; of quick rows 5 times as many"
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--venvs", type=Path, default=VENVS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    own = [own_row(f"sasrec-{profile}") for profile in options.profiles]
    rows = {row.name: row for row in (own_row("fusion-int8"), *PEERS, *own)}
    if unknown := set(options.only or ()) - set(rows):
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(rows)}")
    options.rows = [rows[name] for name in rows if options.only is None or name in options.only]
    return options


def main() -> None:
    options = options_of_line()
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    pythons = {row.venv: python_of(row.venv, options.venvs) for row in options.rows}
    results = json.loads(options.out.read_text()) if options.out.exists() else {"settings": {}}
    results["machine"] = machine()
    with tempfile.TemporaryDirectory() as folder:
        small = any_run(Path(folder))
    for setting in (SETTINGS[name] for name in options.settings):
        folder = options.venvs / "files" / setting.name
        run = sasrec_run(small, setting)
        make_all(run, setting, folder, options.rows, options.venvs)
        rows = measure(folder, options.rows, pythons, options.seconds, options.starts)
        found = {"title": setting.title, "setting": asdict(setting), "rows": rows}
        results["settings"][setting.name] = found
        options.out.write_text(json.dumps(results, indent=1) + "\n")
        print(table(found), flush=True)
    write_tables(options.out)


if __name__ == "__main__":
    main()

"""A million items: attnrec beside exact scans of faiss, one thread, in turn.

    python benchmarks/peers/faiss_scan.py
    python benchmarks/peers/faiss_scan.py --items 100000 --profiles fp32 int8

The catalogue is made up, that of `scale.py`. attnrec answers a whole request, ids, model and what
was seen left out; faiss only scans for a state that is there already. Overlap is with the exact
scan of the same side. Writes faiss.json, and the page of `beside.py` anew.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from catalogues import Setting, prepare, sasrec_run
from rows import FAISS, machine, mean_overlap, own_row
from scale import any_run
from tables import FAISS_RESULTS, faiss_table, write_tables
from turns import Row, Worker, cold_starts, in_turn, summary
from turns import prepare as prepare_peer
from venvs import VENVS, python_of

from attnrec.export.build import PROFILES
from attnrec.train.runs.run import Run

_CHECKED = 200  # answers
_BLOCK = 0.2  # seconds


def write_vectors(run: Run, folder: Path) -> None:
    """The item vectors (N, D), and the states (B, D) after the histories."""
    ids, histories = (np.load(folder / f"{name}.npy") for name in ("ids", "histories"))
    order = np.argsort(ids)
    rows = torch.from_numpy(1 + order[np.searchsorted(ids, histories, sorter=order)])
    with torch.inference_mode():
        table = run.model.item_table()
        state = run.model.state(torch.nn.functional.embedding(rows, table), rows > 0)
    np.save(folder / "table.npy", table[1:].numpy())
    np.save(folder / "states.npy", state.numpy())


def measure(setting: Setting, rows: Sequence[Row], options: argparse.Namespace) -> dict[str, Any]:
    """A catalogue, with a row for each side."""
    folder = options.venvs / "files" / setting.name
    pythons = {venv: python_of(venv, options.venvs) for venv in ("faiss", "attnrec")}
    with tempfile.TemporaryDirectory() as small:
        run = sasrec_run(any_run(Path(small)), setting)
    prepare(run, setting, folder, [row.name for row in rows if row.venv == "attnrec"])
    write_vectors(run, folder)
    del run
    prepare_peer(pythons["faiss"], rows[0], folder)
    starts = cold_starts(pythons, rows, folder, options.starts)
    workers = [Worker(pythons[row.venv], row, folder) for row in rows]
    answers = {worker.row.name: worker.order("answers", n=_CHECKED) for worker in workers}
    times = in_turn(workers, "one", options.seconds, _BLOCK)
    for worker in workers:
        worker.end()
    exact = {"faiss": answers["faiss-flat"], "attnrec": answers["sasrec-fp32"]}
    found = {
        row.name: {
            "title": row.title,
            "one": summary(times[row.name]),
            "start": starts[row.name],
            "overlap@10": mean_overlap(answers[row.name], exact[row.venv]),
        }
        for row in rows
    }
    return {"title": setting.title, "machine": machine(), "rows": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES))
    parser.add_argument("--seconds", type=float, default=6, help="of each row")
    parser.add_argument("--starts", type=int, default=1, help="cold starts of each row")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--venvs", type=Path, default=VENVS)
    parser.add_argument("--out", type=Path, default=FAISS_RESULTS)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    profiles = dict.fromkeys(("fp32", *options.profiles))
    rows = [*FAISS, *(own_row(f"sasrec-{profile}") for profile in profiles)]
    setting = Setting("faiss", options.items, 50, options.dim)
    results = measure(setting, rows, options)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(faiss_table(results))
    if options.out == FAISS_RESULTS:
        write_tables()


if __name__ == "__main__":
    main()

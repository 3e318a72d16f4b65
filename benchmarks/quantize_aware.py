"""What training for int4 keeps: int4 files of both runs beside the exact file of the first.

    python benchmarks/quantize_aware.py RUN ... --out quantize_aware.jsonl

RUN is a directory of `attnrec-train`. Its own int4 file, and that of the run that `attnrec-train
--init-from RUN --quantize-aware int4` makes of it, are compared with the fp32 file of RUN on every
test user: overlap@10, first item the same, NDCG@10 with its paired 95 % interval, size.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from attnrec.export.build import Drafts
from attnrec.export.quantize.cost import Limits, price
from attnrec.train import Run
from attnrec.train.tuning.fine_tuning import fine_tune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="JSON lines are appended")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for directory in given.runs:
        run = Run.load(directory)
        drafts = Drafts(run)
        exact = drafts.of("fp32")
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            made = fine_tune(run, out=Path(folder) / "run")
        seconds = time.process_time() - began
        files = {"int4": drafts.of("int4"), "int4, trained for it": Drafts(made).of("int4")}
        for name, draft in files.items():
            size = len(draft.file) / len(exact.file)
            cost = price(exact.recommender(), draft.recommender(), run, size=size)
            row = {
                "log": directory.name,
                "model": run.config.model,
                "profile": name,
                "file_mb": round(len(draft.file) / 1e6, 3),
                "seconds": 0.0 if name == "int4" else round(seconds, 1),
                **cost.to_json(),
                "refused": cost.too_high("int4", Limits()),
            }
            line = json.dumps(row)
            print(line, flush=True)
            if given.out is not None:
                with open(given.out, "a", encoding="utf-8") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()

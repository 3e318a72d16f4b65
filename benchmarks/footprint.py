"""What a device pays: import time, load time beyond the session, and memory.

    python benchmarks/footprint.py attnrec-run/model.onnx

Run it with the python of a device install (numpy, onnxruntime, attnrec) for figures of a device.
Imports and memory are medians over fresh processes. The load is measured warm, in turn with
making the session alone; of both the 10th percentile, which neighbours disturb least.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from attnrec.cli.bench.timing import Subject, cold_starts, take_turns
from attnrec.runtime import Recommender
from attnrec.runtime.session import make_session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="model file from attnrec-export")
    parser.add_argument("--seconds", type=float, default=5, help="of fresh processes, about")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    file = arguments.file
    content = Path(file).read_bytes()
    (figures,) = cold_starts([Subject.of_file(file)], arguments.seconds)
    times = take_turns(
        {"session": lambda: make_session(content), "load": lambda: Recommender.load(file)},
        arguments.seconds / 2,
    )
    session, load = (float(np.percentile(times[name], 10)) / 1e3 for name in ("session", "load"))
    figures |= {"warm_load_ms": load, "load_beyond_session_ms": load - session}
    if arguments.json:
        print(json.dumps(figures))
        return
    targets = {"attnrec_ms": 25, "load_beyond_session_ms": 10, "answer_mb": 70}
    for name, value in figures.items():
        target = f"   target <= {targets[name]}" if name in targets else ""
        print(f"{name:24} {'not told' if value is None else f'{value:8.1f}'}{target}")


if __name__ == "__main__":
    main()

"""What a device pays: import time, load time and memory, each in fresh processes.

    python benchmarks/footprint.py attnrec-run/model.onnx

Run it with the python of a device install (numpy, onnxruntime, attnrec) for figures of a device.
Medians over `--repeat` processes.
"""

import argparse
import json
import statistics
import subprocess
import sys

_IMPORT = """
import time, json
import numpy, onnxruntime
start = time.perf_counter()
import attnrec.runtime
print(json.dumps({"import_ms": (time.perf_counter() - start) * 1e3}))
"""

_LOAD = """
import time, json, sys
import numpy, onnxruntime
from attnrec.runtime import Recommender
from attnrec.runtime.session import make_session
content = open(sys.argv[1], "rb").read()
make_session(content)  # warm: libraries are loaded, pages are in memory
def ms(call):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3
session, load = [], []
for _ in range(15):
    session.append(ms(lambda: make_session(content)))
    load.append(ms(lambda: Recommender.load(sys.argv[1])))
session.sort(), load.sort()
print(json.dumps({"session_ms": session[7], "load_ms": load[7]}))
"""

_ANSWER = """
import sys, json, time
start = time.perf_counter()
from attnrec.runtime import Recommender
recommender = Recommender.load(sys.argv[1])
known = recommender.recommend([], 50, exclude_seen=False).item_ids
recommender.recommend(known, 10)
done = time.perf_counter()
try:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    rss = int(status["VmRSS"].split()[0]) / 1024
except OSError:
    rss = float("nan")  # no /proc on this system
print(json.dumps({"first_answer_ms": (done - start) * 1e3, "rss_mb": rss}))
"""


def medians(code: str, file: str, repeat: int) -> dict[str, float]:
    """Run the code in `repeat` fresh processes and take the median of each figure."""
    results = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code, file], check=True, capture_output=True, text=True
            ).stdout
        )
        for _ in range(repeat)
    ]
    return {name: statistics.median(r[name] for r in results) for name in results[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="model file from attnrec-export")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for code in (_IMPORT, _LOAD, _ANSWER):
        figures.update(medians(code, arguments.file, arguments.repeat))
    figures["load_beyond_session_ms"] = figures["load_ms"] - figures["session_ms"]
    if arguments.json:
        print(json.dumps(figures))
        return
    targets = {"import_ms": 25, "load_beyond_session_ms": 10, "rss_mb": 70}
    for name, value in figures.items():
        target = f"   target <= {targets[name]}" if name in targets else ""
        print(f"{name:24} {value:8.1f}{target}")


if __name__ == "__main__":
    main()

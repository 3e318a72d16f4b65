"""Checks a kit on its device and prints a table; the exit code is 1 if anything is wrong."""

import argparse
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
N_WARM = 20  # answers before the clock runs

Row = tuple[str, str, str, bool]
"""Name of the check, what was found, what is wanted, whether they agree."""


def versions() -> Iterator[Row]:
    """The installed packages against the lock."""
    lock = (HERE / "requirements.lock").read_text(encoding="utf-8")
    yield "python", f"{platform.python_version()}, {platform.machine()}", "", True
    for name, wanted in re.findall(r"^(\w+)==(\S+)", lock, re.MULTILINE):
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "not installed"
        yield name, found, wanted, found == wanted


def answers(options: argparse.Namespace) -> Iterator[Row]:
    """The seal, the golden vectors, memory and latency of the model file."""
    # attnrec first: it keeps onnxruntime from reporting its use to its maker.
    from attnrec.runtime import Recommender
    from attnrec.runtime.memory import resident_mb

    before = resident_mb()
    recommender = Recommender.load(HERE / "model.onnx")  # refuses a file with a broken seal
    info = recommender.info
    yield "file", f"{info.model}, {info.n_items:,} items, {info.profile}", "", True
    yield "seal", f"{(info.sha256 or '')[:16]}...", "intact", True
    yield "selftest", f"{recommender.selftest()} golden vectors reproduced", "all", True
    history = recommender.recommend([], 50, exclude_seen=False).item_ids
    ms = milliseconds(lambda: recommender.recommend(history), options.requests)
    now = resident_mb()
    if before is not None and now is not None:
        found = f"{now:.0f} MB resident, {now - before:.0f} of it since the imports"
        yield "memory", found, f"at most {options.max_mb:g} MB", now <= options.max_mb
    p99 = statistics.quantiles(ms, n=100)[98]
    found = f"median {statistics.median(ms):.3f} ms, p99 {p99:.3f} ms, {len(ms)} answers"
    limit = options.max_ms
    wanted = "" if limit is None else f"p99 at most {limit:g} ms"
    yield "latency", found, wanted, limit is None or p99 <= limit


def milliseconds(call: Callable[[], Any], n: int) -> list[float]:
    """How long each of `n` calls takes."""
    taken = []
    for _ in range(N_WARM + n):
        start = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - start))
    return taken[N_WARM:]


def memory_of_unit() -> float:
    """MemoryMax of the systemd unit, in MB of 2^20 bytes."""
    unit = (HERE / "attnrec.service").read_text(encoding="utf-8")
    return float(re.findall(r"^MemoryMax=(\d+)M", unit, re.MULTILINE)[0])


def main() -> int:
    """Run every check and print it; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    limit = memory_of_unit()
    add("--max-mb", type=float, default=limit, help="resident; default: MemoryMax of the unit")
    add("--max-ms", type=float, help="of the 99th percentile of an answer; default: no limit")
    add("--requests", type=int, default=1000, help="answers that are timed (default: 1000)")
    add("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args()
    if options.requests < 100:
        parser.error(f"--requests {options.requests}: a 99th percentile needs 100 or more")
    rows = list(versions())
    if all(ok for *_, ok in rows):
        try:
            rows.extend(answers(options))
        except Exception as error:  # whatever it is, this device cannot answer
            found, wanted = f"{type(error).__name__}: {error}", "an answer without an error"
            # By its name: the class cannot be imported where onnxruntime is broken.
            if type(error).__name__ == "ModelFileError":
                found, wanted = str(error), "an intact model.onnx of this kit"
            rows.append(("answers", found, wanted, False))
    else:
        install = f"{sys.executable} -m pip install --no-deps -r requirements.lock"
        rows.append(("answers", "not asked", install, False))
    wrong = [name for name, *_, ok in rows if not ok]
    if options.json:
        keys = ("name", "found", "wanted", "ok")
        table = [dict(zip(keys, row, strict=True)) for row in rows]
        print(json.dumps({"ok": not wrong, "rows": table}))
    else:
        for name, found, wanted, ok in rows:
            mark = "ok" if ok else "WRONG"
            print(f"{name:12} {mark if wanted else '':6} {found}" + f"  ({wanted})" * bool(wanted))
        print(f"wrong: {', '.join(wrong)}" if wrong else "all is well")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

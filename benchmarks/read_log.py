"""Seconds and peak memory of reading a log, by size and format.

Makes logs like those of a shop (zipf items, a few heavy users), reads each in a fresh process,
and prints a table. `--json` prints the figures for a program.

    python benchmarks/read_log.py --events 100000 1000000 10000000
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from attnrec.train.data.load import load_interactions

FORMATS = ("parquet", "csv.gz")


def make_log(n_events: int, folder: Path, texts: bool, seed: int = 0) -> dict[str, Path]:
    """Write one log in each format; returns the paths by format.

    An item's rank is zipf (exponent 1.1) among n/100 items (50,000 at most); the length of a
    history is log-normal around 30. Items are texts, users numbers, times unix seconds in order.
    `texts`: users are UUIDs and times ISO 8601 with milliseconds instead, the slowest usual kind.
    """
    rng = np.random.default_rng(seed)
    lengths = np.maximum(rng.lognormal(np.log(20), 1.0, n_events // 10), 1).astype(np.int64)
    users = np.repeat(np.arange(len(lengths)), lengths)[:n_events]
    users = rng.permutation(np.resize(users, n_events)) * 7 + 100_000
    n_items = min(max(n_events // 100, 500), 50_000)
    weights = 1.0 / np.arange(1, n_items + 1) ** 1.1
    items = rng.choice(n_items, n_events, p=weights / weights.sum())
    names = pa.array([f"sku-{number * 7919 % 1_000_003:06d}" for number in range(n_items)])
    times = pa.array(1_600_000_000 + np.sort(rng.integers(0, 10**8, n_events)))
    if texts:
        uuids = pa.array([str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(len(lengths))])
        users = uuids.take(pa.array((users - 100_000) // 7))
        times = times.cast(pa.timestamp("s", "UTC")).cast(pa.timestamp("ms", "UTC"))
        times = times.cast(pa.string())
    names = names.take(pa.array(items))
    log = pa.table({"user_id": users, "item_id": names, "timestamp": times})
    paths = {form: folder / f"log-{n_events}.{form}" for form in FORMATS}
    pyarrow.parquet.write_table(log, paths["parquet"])
    with pa.CompressedOutputStream(paths["csv.gz"], "gzip") as stream:
        pyarrow.csv.write_csv(log, stream)
    return paths


def measure(path: Path) -> dict[str, object]:
    """Read `path` in a fresh process; its own report of seconds, events and peak memory."""
    command = [sys.executable, __file__, "--read", str(path)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"file_mb": round(path.stat().st_size / 2**20, 1), **json.loads(result.stdout)}


def read_once(path: Path) -> dict[str, object]:
    """Read `path` here and report."""
    start = time.perf_counter()
    _, report = load_interactions(path)
    seconds = time.perf_counter() - start
    return {
        "rows": report.rows_read,
        "users": report.n_users,
        "items": report.n_items,
        "seconds": round(seconds, 2),
        "events_per_second": round(report.rows_read / seconds),
        "peak_mb": round(peak_megabytes()),
        "fingerprint": report.fingerprint,
    }


def peak_megabytes() -> float:
    """Highest resident memory of this process so far; Linux and macOS count differently."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--texts", action="store_true", help="UUID users and ISO times")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read_once(options.read)))
        return
    figures: list[dict[str, object]] = []
    for n_events in options.events:
        with tempfile.TemporaryDirectory() as folder:
            for form, path in make_log(n_events, Path(folder), options.texts).items():
                figures.append({"format": form, **measure(path)})
    if options.json:
        machine = {"platform": platform.platform(), "cpus": os.cpu_count()}
        print(json.dumps({"machine": machine, "figures": figures}, indent=2))
        return
    heads = ("events", "file MB", "seconds", "events/s", "peak MB")
    print(f"{'format':8}" + "".join(f" {head:>11}" for head in heads))
    for row in figures:
        print(
            f"{row['format']:8} {row['rows']:>11,} {row['file_mb']:>11} {row['seconds']:>11} "
            f"{row['events_per_second']:>11,} {row['peak_mb']:>11,}"
        )


if __name__ == "__main__":
    main()

"""What the default model costs beside `sasrec` of the same length and width, in one run.

    python benchmarks/default_cost.py --out cost.json

Weights are random, as are neighbours: only time and memory are measured, int8, one thread. Calls
of `Recommender.recommend` take turns in short blocks, with the time of every event and without;
the 10th percentile of each counts. Then batches of 256, fresh processes, and the sizes of the
files. Ratios repeat, microseconds belong to the machine.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from attnrec.cli.bench.timing import Subject, cold_starts, take_turns
from attnrec.export.build import FileBuilder
from attnrec.runtime import Recommender

sys.path.append(str(Path(__file__).parent / "peers"))
from catalogues import Setting, fusion_run, sasrec_run
from scale import any_run

SETTINGS = (
    Setting("3k", 3652, 100, 64),  # Online Retail
    Setting("12k", 12_000, 50, 64),
    Setting("12k-wide", 12_000, 50, 128),
    Setting("100k", 100_000, 50, 64),
    Setting("100k-wide", 100_000, 50, 128),
)
_HISTORIES = (1, 10, 50, 100, 200)
_ASKED, _BATCH, _NOW = 64, 256, 1_700_000_000


def calls_of(name: str, asked: Recommender, length: int) -> dict[str, Any]:
    """Calls for histories of that length, without times and, where the file takes them, with."""
    ids = np.array([*asked.items()])
    rng = np.random.default_rng(length)
    histories = [rng.choice(ids, length).tolist() for _ in range(_ASKED)]
    times = [(_NOW - np.sort(rng.integers(0, 10**7, length))[::-1]).tolist() for _ in histories]
    turn = iter(range(10**12))

    def without_times() -> None:
        asked.recommend(histories[next(turn) % _ASKED])

    def with_times() -> None:
        n = next(turn) % _ASKED
        asked.recommend(histories[n], timestamps=times[n], request_time=_NOW)

    if "timestamps" not in asked.info.inputs:
        return {name: without_times}
    return {name: without_times, f"{name}, with times": with_times}


def batch_of(asked: Recommender, length: int) -> Any:
    """A call for 256 histories."""
    ids, rng = np.array([*asked.items()]), np.random.default_rng(0)
    histories = [rng.choice(ids, length).tolist() for _ in range(_BATCH)]
    return lambda: asked.recommend_batch(histories)


def measured(run: Any, setting: Setting, folder: Path, seconds: float) -> dict[str, Any]:
    """Microseconds, bytes, milliseconds and megabytes of both files."""
    files = {}
    plain = sasrec_run(run, setting)
    for name, own in (("sasrec", plain), ("fusion", fusion_run(plain))):
        files[name] = folder / f"{setting.name}-{name}.onnx"
        files[name].write_bytes(FileBuilder(own).of("int8").file)
    asked = {name: Recommender.load(file) for name, file in files.items()}
    one = {}
    for length in _HISTORIES:
        calls = {}
        for name, recommender in asked.items():
            calls |= calls_of(name, recommender, length)
        times = take_turns(calls, seconds)
        one[length] = {name: float(np.percentile(us, 10)) for name, us in times.items()}
    batches = {name: batch_of(recommender, 50) for name, recommender in asked.items()}
    batch = take_turns(batches, 2 * seconds)
    starts = cold_starts([Subject.of_file(file) for file in files.values()], 4 * seconds)
    return {
        "setting": setting.title,
        "one_us": one,
        "batch_ms": {n: float(np.percentile(us, 10)) / 1e3 for n, us in batch.items()},
        "bytes": {name: file.stat().st_size for name, file in files.items()},
        "start_ms": {n: s["total_ms"] for n, s in zip(files, starts, strict=True)},
        "answer_mb": {n: s["answer_mb"] for n, s in zip(files, starts, strict=True)},
    }


def table(results: list[dict[str, Any]]) -> str:
    """Ratios of the default to `sasrec` in Markdown, and in brackets those with times."""
    head = "".join(f" {length} |" for length in _HISTORIES)
    lines = [f"| |{head} users a second, batches | file | cold start, ms | memory, MB |"]
    lines.append("|---|" + "--:|" * (len(_HISTORIES) + 4))
    for result in results:
        cells = [result["setting"]]
        for us in result["one_us"].values():
            timed = us["fusion, with times"] / us["sasrec"]
            cells.append(f"{us['fusion'] / us['sasrec']:.2f} ({timed:.2f})")
        both = {key: [*result[key].values()] for key in ("batch_ms", "bytes")}
        cells.append(f"{both['batch_ms'][0] / both['batch_ms'][1]:.2f}")
        cells.append(f"{both['bytes'][1] / both['bytes'][0]:.2f}")
        for key in ("start_ms", "answer_mb"):
            sasrec, fusion = result[key].values()
            cells.append(f"{fusion:.0f} of {sasrec:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", nargs="+", default=[s.name for s in SETTINGS])
    parser.add_argument("--seconds", type=float, default=5, help="for each kind of call")
    parser.add_argument("--out", type=Path, help="JSON of all figures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, results = any_run(folder), []
        for setting in SETTINGS:
            if setting.name in given.settings:
                results.append(measured(run, setting, folder, given.seconds))
                print(table(results[-1:]), flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()

"""Memory of a server: as the export reports it, and no more after reloads than before."""

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.cli.bench.served_memory import served_memory
from attnrec.export.build import FileBuilder
from attnrec.runtime import Recommender
from attnrec.runtime.serving.answers import ServedFile
from attnrec.train import TrainConfig, train
from attnrec.train.models.configs import SASRecConfig
from attnrec.train.models.sasrec import SASRec

MB = 2**20
from_proc = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int, str], Path]:
    """untrained(n_items, hidden_dim, profile): a file of that size."""
    folder = tmp_path_factory.mktemp("large")
    rows = [(user, item, item) for user in range(5) for item in range(1, 6)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    small = {"hidden_dim": 8, "n_heads": 1, "n_blocks": 1, "max_len": 5}
    run = train(log, TrainConfig("sasrec", epochs=1, settings=small), out=folder / "run")

    def call(n_items: int, hidden_dim: int, profile: str) -> Path:
        catalogue = replace(
            run.split.catalogue,
            item_ids=np.arange(n_items),
            n_events=np.ones(n_items, np.int64),
            titles=None,
        )
        config = SASRecConfig(n_items, hidden_dim=hidden_dim, n_blocks=1, max_len=5)
        split = replace(run.split, catalogue=catalogue)
        file = folder / f"{profile}.onnx"
        built = FileBuilder(replace(run, model=SASRec(config).eval(), split=split)).of(profile)
        file.write_bytes(built.file)
        return file

    return call


@pytest.fixture(scope="module")
def rounded(untrained) -> Path:
    """A file whose rounded tables onnxruntime unpacks while it loads them."""
    return untrained(4_000, 256, "int8")


def in_mb(process: subprocess.Popen[str], kind: str) -> float:
    """VmRSS (now) or VmHWM (peak), in 1e6 bytes, like the size of a file."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024e-6 for row in status if row.startswith(kind))


@from_proc
def test_the_export_reports_the_memory_of_a_server(rounded, start) -> None:
    reported = served_memory(rounded)
    server = start(rounded)
    assert server.post({"history": [1, 2, 3]}).status == 200
    assert reported["served"] == pytest.approx(in_mb(server.process, "VmRSS"), rel=0.1)
    server.reload()
    assert reported["reloading"] == pytest.approx(in_mb(server.process, "VmHWM"), rel=0.1)


@from_proc
def test_free_memory_is_not_kept_after_loading(rounded) -> None:
    program = """
import ctypes, sys
from attnrec.runtime import Recommender
from attnrec.runtime.memory import resident_mb
recommender = Recommender.load(sys.argv[1])
before = resident_mb()
ctypes.CDLL(None).malloc_trim(0)
print(before - resident_mb())
"""
    command = [sys.executable, "-c", program, str(rounded)]
    kept_mb = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert kept_mb < 2


@from_proc
def test_reloads_leave_one_file_in_memory_and_a_list_takes_no_file_more(
    start, untrained, tmp_path
) -> None:
    listed = tmp_path / "unavailable"
    listed.write_text("1\n2\n")
    file_of_50_mb = untrained(100_000, 128, "fp32")
    peaks = []
    for options in ((), ("--unavailable", listed)):
        server = start(file_of_50_mb, *options)
        item = server.post({"history": []}).json["items"][0]["id"]
        assert server.post({"item": item}, "/v1/similar").status == 200
        assert server.get("/v1/items?q=a").status == 200
        before = server.memory()
        for n in range(1 if options else 8):
            assert server.reload() == (n + 1, 0)
            assert server.post({"history": []}).status == 200
            peaks += [in_mb(server.process, "VmHWM")] * (n == 0)
        assert server.memory() - before < 25 * MB  # one file more would be 50 MB
        server.stop()
    assert peaks[1] - peaks[0] < 25


def test_what_is_no_longer_served_is_free_at_once_without_the_garbage_collector(data) -> None:
    served = ServedFile.of(Recommender.load(data / "tiny-string.onnx"))
    served.answer("/v1/recommend", json.dumps({"history": []}).encode())
    served.titles.get().search("a", 1)
    item = served.recommender.recommend([], 1).item_ids[0]
    served.answer("/v1/similar", json.dumps({"item": item}).encode())
    gone = weakref.ref(served.recommender)
    gc.disable()
    try:
        del served
        assert gone() is None
    finally:
        gc.enable()

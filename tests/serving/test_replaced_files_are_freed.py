"""A file that was replaced is not kept in memory, however often that happens."""

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.export.build import FileBuilder
from attnrec.runtime import Recommender
from attnrec.runtime.serving.answers import ServedFile
from attnrec.train import TrainConfig, train
from attnrec.train.models.learned_configs import SASRecConfig
from attnrec.train.models.sasrec import SASRec

MB = 2**20


@pytest.fixture(scope="module")
def file_of_50_mb(tmp_path_factory) -> Path:
    """100,000 items with 128 numbers each, under an untrained model."""
    folder = tmp_path_factory.mktemp("large")
    rows = [(user, item, item) for user in range(5) for item in range(1, 6)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    small = {"hidden_dim": 8, "n_heads": 1, "n_blocks": 1, "max_len": 5}
    run = train(log, TrainConfig("sasrec", epochs=1, settings=small), out=folder / "run")
    n_items = 100_000
    catalogue = replace(
        run.split.catalogue,
        item_ids=np.arange(n_items),
        n_events=np.ones(n_items, np.int64),
        titles=None,
    )
    model = SASRec(SASRecConfig(n_items, hidden_dim=128, n_blocks=1, max_len=5)).eval()
    large = replace(run, model=model, split=replace(run.split, catalogue=catalogue))
    file = folder / "model.onnx"
    file.write_bytes(FileBuilder(large).of("fp32").file)
    return file


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_twenty_reloads_of_50_mb_leave_one_file_in_memory(start, file_of_50_mb) -> None:
    server = start(file_of_50_mb)
    item = server.ask({"history": []}).json["items"][0]["id"]
    assert server.send("POST", "/v1/similar", {"item": item}).status == 200
    assert server.send("GET", "/v1/items?q=a").status == 200
    first = server.metric("process_resident_memory_bytes")
    for n in range(20):
        assert server.reload() == (n + 1, 0)
        assert server.ask({"history": []}).status == 200
    # One file more would be 50 MB.

    assert server.metric("process_resident_memory_bytes") - first < 25 * MB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_list_of_unavailable_items_takes_no_file_more_in_a_reload(
    start, file_of_50_mb, tmp_path
) -> None:
    listed = tmp_path / "unavailable"
    listed.write_text("1\n2\n")

    def peak_mb(*options: object) -> float:
        server = start(file_of_50_mb, *options)
        assert server.reload() == (1, 0)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert server.stop()[0] == 0
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    assert peak_mb("--unavailable", listed) - peak_mb() < 25  # one file more would be 50 MB


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

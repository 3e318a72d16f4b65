"""A file that was replaced is not kept in memory, however often that happens."""

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.export.build import Drafts
from attnrec.runtime import Recommender
from attnrec.runtime.serving.answers import Served
from attnrec.train import TrainConfig, train
from attnrec.train.models.learned_configs import SASRecConfig
from attnrec.train.models.sasrec import SASRec

MB = 2**20


def file_of_50_mb(folder: Path) -> Path:
    """100,000 items with 128 numbers each, under an untrained model."""
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
    file.write_bytes(Drafts(large).of("fp32").file)
    return file


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_twenty_reloads_of_50_mb_leave_one_file_in_memory(start, tmp_path) -> None:
    server = start(file_of_50_mb(tmp_path))
    item = server.ask({"history": []}).json["items"][0]["id"]
    assert server.send("POST", "/v1/similar", {"item": item}).status == 200
    assert server.send("GET", "/v1/items?q=a").status == 200
    first = server.metric("process_resident_memory_bytes")
    for n in range(20):
        assert server.reload() == (n + 1, 0)
        assert server.ask({"history": []}).status == 200
    # One file more would be 50 MB.

    assert server.metric("process_resident_memory_bytes") - first < 25 * MB


def test_what_is_no_longer_served_is_free_at_once_without_the_garbage_collector(data) -> None:
    served = Served.of(Recommender.load(data / "tiny-string.onnx"))
    served.answer("/v1/recommend", json.dumps({"history": []}).encode())
    served.catalogue.get().search("a", 1)
    item = served.recommender.recommend([], 1).item_ids[0]
    served.answer("/v1/similar", json.dumps({"item": item}).encode())
    gone = weakref.ref(served.recommender)
    gc.disable()
    try:
        del served
        assert gone() is None
    finally:
        gc.enable()

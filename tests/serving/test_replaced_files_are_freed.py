"""A file that was replaced is not kept in memory, however often that happens."""

import gc
import json
import weakref
from pathlib import Path

import pytest

from attnrec.runtime import Recommender
from attnrec.runtime import format as names
from attnrec.runtime.serving.answering import Served

MB = 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_twenty_reloads_of_50_mb_leave_one_file_in_memory(start, data, tmp_path) -> None:
    content = (data / "tiny-string.onnx").read_bytes()
    seal = names.metadata_entry(names.SEAL_KEY, "0" * names.SEAL_LENGTH)
    filler = names.metadata_entry("filler", "x" * 50 * MB)  # onnxruntime keeps what it reads
    path = tmp_path / "model.onnx"
    path.write_bytes(names.seal(content[: -len(seal)] + filler))
    server = start(path)
    item = server.ask({"history": []}).json["items"][0]["id"]
    assert server.send("POST", "/v1/similar", {"item": item}).status == 200
    assert server.send("GET", "/v1/items?q=a").status == 200
    first = server.metric("process_resident_memory_bytes")
    for n in range(20):
        assert server.reload() == (n + 1, 0)
        assert server.ask({"history": []}).status == 200
    # One file more would be 50 MB in onnxruntime, and as much again in what it was read from.
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

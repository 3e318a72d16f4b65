"""What a server takes: the figures of the export, and no more after reloads than before."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.cli.bench.served_memory import served_memory
from attnrec.export import Limits, export
from attnrec.train import TrainConfig, train

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
N_ITEMS = 4_000


@dataclass(frozen=True)
class Exported:
    file: Path
    memory_mb: dict[str, float]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A file whose rounded tables onnxruntime unpacks while it loads them."""
    folder = tmp_path_factory.mktemp("memory")
    rng = np.random.default_rng(0)
    rows = {"user_id": np.arange(2 * N_ITEMS) // 100, "item_id": np.arange(2 * N_ITEMS) % N_ITEMS}
    rows["item_id"] = rng.permutation(rows["item_id"])
    rows["timestamp"] = np.arange(2 * N_ITEMS)
    pd.DataFrame(rows).to_csv(folder / "log.csv", index=False)

    config = TrainConfig(
        "sasrec", settings={"hidden_dim": 256, "n_blocks": 1, "max_len": 10}, epochs=1
    )
    run = train(folder / "log.csv", config, out=folder / "run")
    export(run, folder / "model.onnx", "int8", limits=Limits(0.01, 1.0))
    memory_mb = served_memory(folder / "model.onnx")
    assert memory_mb is not None
    return Exported(folder / "model.onnx", memory_mb)


def resident_mb(process: subprocess.Popen[str], kind: str = "VmRSS") -> float:
    """Of 1e6 bytes, like the size of a file."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024e-6 for row in status if row.startswith(kind))


def test_the_export_says_what_a_server_takes(exported, start) -> None:
    server = start(exported.file)
    assert server.ask({"history": [1, 2, 3]}).status == 200
    assert exported.memory_mb["served"] == pytest.approx(resident_mb(server.process), rel=0.1)
    server.reload()
    peak = resident_mb(server.process, "VmHWM")
    assert exported.memory_mb["reloading"] == pytest.approx(peak, rel=0.1)


def test_free_memory_is_not_kept_after_loading(exported) -> None:
    program = """
import ctypes, sys
from attnrec.runtime import Recommender
from attnrec.runtime.memory import resident_mb
recommender = Recommender.load(sys.argv[1])
before = resident_mb()
ctypes.CDLL(None).malloc_trim(0)
print(before - resident_mb())
"""
    command = [sys.executable, "-c", program, str(exported.file)]
    kept_mb = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert kept_mb < 2

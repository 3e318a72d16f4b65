"""Loading takes memory for the file that is there, not for the largest that could be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnrec.runtime import ModelFileError, Recommender
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.protobuf import spans

FILE = Path(__file__).parents[1] / "data" / "format-1" / "tiny-string.onnx"
TABLE_MB = [0, 8, 40]  # the last is mapped
MORE_MB = 150
LOAD = """
import json, os, resource, sys
from attnrec.runtime import Recommender

def mb(kind):
    with open("/proc/self/status") as status:
        return next(int(row.split()[1]) / 1024 for row in status if row.startswith(kind))

path, more_mb = sys.argv[1], float(sys.argv[2])
before = mb("VmSize")
most = int((before + more_mb) * 2**20)
if more_mb:
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
recommender = Recommender.load(path)
n = len(recommender.recommend(["NA"]).item_ids)
print(json.dumps({"n": n, "grown_mb": mb("VmPeak") - before}))
"""


def with_table(n_mb: int) -> bytes:
    """The file with one more stored table, as large as that of a larger catalogue."""
    seal = names.metadata_entry(names.SEAL_KEY, "0" * names.SEAL_LENGTH)
    model = memoryview(FILE.read_bytes())[: -len(seal)]
    parts = []
    for number, start, value, end in spans(model):
        part = bytes(model[start:end])
        if number == 7 and n_mb:
            n = n_mb << 18
            shape = bytes(
                [8, n & 0x7F | 0x80, n >> 7 & 0x7F | 0x80, n >> 14 & 0x7F | 0x80, n >> 21]
            )
            tensor = shape + b"\x10\x01" + names.field(8, b"more") + names.field(9, bytes(4 * n))
            part = names.field(7, bytes(model[value:end]) + names.field(5, tensor))
        parts.append(part)
    return names.seal(b"".join(parts))


def in_a_process(path: Path, more_mb: float, *prefix: str) -> dict[str, float]:
    command = [*prefix, sys.executable, "-c", LOAD, str(path), str(more_mb)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found: dict[str, float] = json.loads(result.stdout)
    return found


@pytest.fixture(params=TABLE_MB, ids=lambda n_mb: f"{n_mb} MB")
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(with_table(request.param))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and RLIMIT_AS are of Linux")
def test_a_file_loads_where_four_times_its_size_and_150_mb_may_be_asked_for(file: Path) -> None:
    most = 4 * file.stat().st_size / 2**20 + MORE_MB
    found = in_a_process(file, most)
    assert found["n"] == 10
    assert found["grown_mb"] <= most


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", ["/dev/zero", "/proc/self/environ", "pipe"])
def test_what_has_no_size_is_refused_at_once(name: str, verify: bool, tmp_path: Path) -> None:
    path = Path(name)
    if name == "pipe":
        path = tmp_path / name
        os.mkfifo(path)
    words = (
        "not an attnrec|no seal" if name.startswith("/proc") else "copy what it holds to a file"
    )
    with pytest.raises(ModelFileError, match=words):
        Recommender.load(path, verify=verify)

"""`attnrec bench`: what it measures is there and fits together; no test is about speed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import memory

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
STRING, INT64 = FORMAT_1 / "tiny-string.onnx", FORMAT_1 / "tiny-int64.onnx"
STEPS = ["python_numpy_ms", "onnxruntime_ms", "attnrec_ms", "load_ms", "first_answer_ms"]


@pytest.fixture(scope="module")
def two_files() -> dict[str, Any]:
    """The JSON of two files in one run, by the installed command."""
    command = [Path(sys.executable).with_name("attnrec-bench"), STRING, INT64]
    result = subprocess.run(
        [*command, "--seconds", "0.1", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_kind_of_call_is_timed_for_every_file(two_files) -> None:
    assert list(two_files["timings"]) == [str(STRING), str(INT64)]
    for timings in two_files["timings"].values():
        kinds = [(t["history"], t["batch"], t["n_threads"], t["askers"]) for t in timings]
        # max_len is 6: histories up to it and once beyond, then batches of that length.
        assert kinds[:6] == [
            (0, 1, 1, 1), (1, 1, 1, 1), (6, 1, 1, 1), (12, 1, 1, 1), (6, 8, 1, 1), (6, 64, 1, 1),
        ]  # fmt: skip
        threaded = kinds[6:]
        assert len(threaded) % 3 == 0
        assert all(history == 6 and max(n_threads, askers) > 1
                   for history, _, n_threads, askers in threaded)  # fmt: skip
        for timing in timings:
            assert 0 < timing["p50_us"] <= timing["p99_us"]
            least = timing["batch"] * 1e6 / timing["p50_us"]
            assert timing["histories_per_second"] >= 0.999 * least


def test_a_fresh_process_is_split_into_its_steps(two_files) -> None:
    for facts, path, n_items in zip(two_files["files"], (STRING, INT64), (32, 30), strict=True):
        assert (facts["file"], facts["profile"], facts["n_items"]) == (str(path), "fp32", n_items)
        assert facts["file_mb"] == path.stat().st_size / 1e6
        start = facts["cold_start"]
        assert all(start[step] > 0 for step in (*STEPS, "load_check_ms"))
        assert start["total_ms"] > max(start[step] for step in STEPS)
        memory = [start[name] for name in ("imports_mb", "load_mb", "answer_mb")]
        if sys.platform == "linux":
            assert 10 < memory[0] <= memory[1] <= memory[2] < 500
        elif sys.platform == "win32":
            assert memory == [None, None, None]


def test_a_second_file_is_compared_with_the_first_one(run) -> None:
    outcome = run("bench", STRING, INT64, "--seconds", 0.1)
    last = outcome.out.splitlines()[-1]
    assert last.startswith(f"{INT64}: ") and f"times the speed of {STRING.name}, " in last
    ratio = INT64.stat().st_size / STRING.stat().st_size
    assert last.endswith(f", {ratio:.2f} times the size")


def test_torch_is_timed_with_the_file(run, trained) -> None:
    outcome = run("bench", trained / "model.onnx", "--against", trained, "--seconds", 0.1)
    assert outcome.code == 0
    header = outcome.out.splitlines()[0]
    assert "model.onnx" in header
    assert "torch" in header
    for label in (
        "history of 20", "64 histories of 10", "batches of 64", "import attnrec", "load the file",
        "of loading, checks", "resident MB after", "the first answer",
    ):  # fmt: skip
        assert label in outcome.out
    assert "torch eager, only scores: " in outcome.out.splitlines()[-1]


def test_wrong_input_is_refused_before_anything_is_measured(run, trained, tmp_path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    half = tmp_path / "half"
    shutil.copytree(trained, half)
    (half / "weights.safetensors").unlink()
    for arguments, expected in [
        ((text,), ["text.onnx", "seal"]),
        ((STRING, "--seconds", "nan"), ["--seconds", "nan"]),
        ((STRING, "--against", half), ["weights.safetensors"]),
        ((STRING, "--against", trained), ["another catalogue", "25 items", "32 items"]),
    ]:
        outcome = run("bench", *arguments)
        assert (outcome.code, outcome.out) == (2, ""), arguments
        for part in expected:
            assert part in outcome.err, (arguments, outcome.err)


def test_memory_is_read_in_the_way_of_each_system_or_is_none(monkeypatch) -> None:
    def no_proc(*_: object, **__: object) -> None:
        raise FileNotFoundError

    here = memory.resident_mb()
    monkeypatch.setattr(memory, "open", no_proc, raising=False)
    peak = memory.resident_mb()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory.resident_mb() is None
    if sys.platform == "linux":
        assert here is not None
        assert peak is not None
        assert 10 < here <= peak + 1


def on_a_device(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command where only numpy, onnxruntime, typer and rich are installed."""
    code = (
        "import sys\n"
        "for name in ('torch', 'pandas', 'pyarrow', 'safetensors', 'matplotlib', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        "from attnrec.cli.main import bench\n"
        "bench()"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_device_needs_neither_torch_nor_matplotlib(tmp_path) -> None:
    (tmp_path / "attnrec-run").mkdir()
    shutil.copy(STRING, tmp_path / "attnrec-run" / "model.onnx")
    result = on_a_device(tmp_path, "--seconds", "0.1", "--json", "-q")
    assert (result.returncode, result.stderr) == (0, "")
    measured = json.loads(result.stdout)
    assert measured.keys() == {"machine", "files", "timings"}
    assert list(measured["timings"]) == [str(Path("attnrec-run/model.onnx"))]


def test_an_option_that_needs_more_names_it_and_the_install_line(tmp_path) -> None:
    result = on_a_device(tmp_path, STRING, "--against", "run")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--against needs torch" in result.stderr
    assert "pip install 'attnrec[train]'" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []

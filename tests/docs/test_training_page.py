"""The page about training on several processes: its command and its script work as printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from attnrec.train import Run

pytestmark = pytest.mark.examples

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    events = [f"u{u},{(u * 3 + s) % 40},{s}" for u in range(40) for s in range(8)]
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(events) + "\n")
    return tmp_path


def run_shell(line: str, folder: Path) -> None:
    # Any free port, because tests run side by side.
    line = line.replace("torchrun ", "torchrun --standalone ")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", line], cwd=folder, text=True, capture_output=True, timeout=300,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, f"{line}\n{result.stderr}"


def test_the_command_trains(folder: Path) -> None:
    (line,) = re.findall("^(torchrun .*)", PAGE, re.MULTILINE)
    run_shell(f"{line} --model sasrec --epochs 1 --no-report", folder)
    assert Run.load(folder / "attnrec-run").config.threads == 4


def test_the_script_trains(folder: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    start = re.match("# several.py: (.*)", code)
    assert start
    (folder / "several.py").write_text(code, encoding="utf-8")
    run_shell(start[1], folder)
    assert Run.load(folder / "several-run").config.batch_events == 4000

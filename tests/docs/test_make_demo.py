"""`make demo` does its training once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = '#!/bin/sh\necho "$(basename $0) $*" >> did\n'


@pytest.fixture
def demo(tmp_path: Path):
    """Run `make demo` with commands that only note that they ran: what it said, what ran."""
    if shutil.which("make") is None:
        pytest.skip("make is not here: apt-get install make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "bin").mkdir()
    for name in ("attnrec-train", "attnrec-export", "attnrec-evaluate", "python"):
        (tmp_path / "bin" / name).write_text(STUB)
        (tmp_path / "bin" / name).chmod(0o755)

    def run() -> tuple[str, list[str]]:
        (tmp_path / "did").unlink(missing_ok=True)
        there = ["-o", "install", "-o", ".venv-device/installed"]
        command = ["make", "demo", *there, "VENV=bin", "DEVICE=bin"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout, (tmp_path / "did").read_text().splitlines()

    return run


def test_a_finished_run_is_not_trained_again_and_a_line_says_so(demo, tmp_path) -> None:
    said, did = demo()
    assert did[0] == "attnrec-train --epochs 6 --out demo-run --resume"
    assert "train on a year" in said
    (tmp_path / "demo-run").mkdir()
    (tmp_path / "demo-run" / "config.json").touch()
    said, again = demo()
    assert again == did[1:]
    assert "1/5 demo-run is trained already; make clean removes it" in said


def test_a_training_that_fails_ends_it(demo, tmp_path) -> None:
    (tmp_path / "bin" / "attnrec-train").write_text("#!/bin/sh\nexit 130\n")
    with pytest.raises(AssertionError, match="Error 130"):
        demo()
    assert not (tmp_path / "did").exists()


@pytest.mark.examples
def test_its_programs_show_customers_what_the_file_recommends(shop: Path) -> None:
    def run(program: str, *arguments: str, given: str = "") -> str:
        command = [sys.executable, str(ROOT / "examples" / program), *arguments]
        return subprocess.run(
            command, cwd=shop, input=given, capture_output=True, text=True, check=True
        ).stdout

    customers = run("pick_customers.py", "attnrec-run")
    assert len(customers.splitlines()) == 2
    shown = run("shop.py", "model.onnx", given=customers)
    assert shown.count("You may also like:") == 2 and shown.count("  8. ") == 2
    assert "torch loaded: False" in shown
    assert shown.count("For 1 pound at most (") == 2
    served = run("ask_server.py", "model.onnx", given=customers)
    assert "  5. " in served and "stopped, exit code 0" in served

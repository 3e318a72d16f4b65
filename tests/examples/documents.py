"""The code blocks of documents, and how a person would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document: str, language: str, containing: str) -> list[str]:
    """Code blocks of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = [code for kind, code in BLOCK.findall(text) if kind == language and containing in code]
    assert found, f"{document} has no such block"
    return found


def run_shell(line: str, folder: Path) -> str:
    """Run a line as a person would, with the commands of this environment first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", line], cwd=folder, text=True, capture_output=True,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, f"{line}\n{result.stderr}"
    return result.stdout


def run_python(code: str, folder: Path) -> str:
    """What a snippet prints in a folder, by the Python of the tests."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, text=True, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

"""The crafted files and their loader: numpy, onnxruntime and hypothesis are enough."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from corpus import cases
from edits import Case

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

Load = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def crafted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Path]]:
    """Every crafted file, on the disk, beside the data that some of them point to."""
    directory = tmp_path_factory.mktemp("outer") / "inner"
    directory.mkdir()
    files = [(case, directory / f"{i}.onnx") for i, case in enumerate(cases(directory))]
    for case, path in files:
        path.write_bytes(case.file)
    return files


@pytest.fixture(scope="session")
def load() -> Load:
    """Load files with `loading.py`: what came of each."""
    if not hasattr(os, "fork"):
        pytest.skip("limits and measurements need fork")
    script = str(Path(__file__).with_name("loading.py"))

    def call(seconds: float, *paths: Path) -> list[dict[str, Any]]:
        command = [sys.executable, script, str(seconds), *map(str, paths)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return call

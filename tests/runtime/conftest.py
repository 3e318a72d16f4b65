"""The committed files of format 1: nothing here needs more than numpy and onnxruntime."""

import json
from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import Recommender

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"


@pytest.fixture(scope="session", params=sorted(FORMAT_1.glob("*.onnx")), ids=lambda p: p.stem)
def path(request: pytest.FixtureRequest) -> Path:
    """Each committed file in turn."""
    file: Path = request.param
    return file


@pytest.fixture(scope="session")
def recommender(path: Path) -> Recommender:
    return Recommender.load(path)


@pytest.fixture(scope="session")
def expected(path: Path) -> dict[str, Any]:
    """What the torch model behind `path` knows and answers; see tests/data/make_tiny.py."""
    content: dict[str, Any] = json.loads(path.with_suffix(".expected.json").read_text("utf-8"))
    return content


@pytest.fixture(scope="session")
def string_path() -> Path:
    """String ids, titles, policy no-repeats."""
    return FORMAT_1 / "tiny-string.onnx"


@pytest.fixture(scope="session")
def int64_path() -> Path:
    """int64 ids, no titles, policy repeats."""
    return FORMAT_1 / "tiny-int64.onnx"


@pytest.fixture(scope="session")
def strings(string_path: Path) -> Recommender:
    return Recommender.load(string_path)


@pytest.fixture(scope="session")
def numbers(int64_path: Path) -> Recommender:
    return Recommender.load(int64_path)

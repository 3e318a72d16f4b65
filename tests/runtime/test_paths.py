"""A model file works at any path and under any name."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import ModelFileError, Recommender
from attnrec.runtime.files import replace_file

NAMES = [
    "a file.onnx",
    "Grüße 🛒.onnx",
    "two\nlines.onnx",
    "no-suffix",
    ".hidden",
    "-q",
    "%s{}.onnx",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [Path, str, os.fsencode])
def test_a_file_of_any_name_is_loaded_pickled_and_replaced(
    kind: Any, name: str, string_path: Path, strings: Recommender, tmp_path: Path
) -> None:
    path = tmp_path / f"in {name}" / name
    path.parent.mkdir()
    shutil.copy(string_path, path)
    recommender = Recommender.load(kind(path))
    assert recommender.recommend(["NA"]) == strings.recommend(["NA"])
    assert pickle.loads(pickle.dumps(recommender)).info == strings.info
    with replace_file(path) as temporary:
        temporary.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="no seal"):
        Recommender.load(kind(path))
    assert os.listdir(path.parent) == [name]


def test_a_name_that_is_no_unicode_is_a_name(string_path: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.onnx")
    with pytest.raises(ModelFileError, match="does not exist"):
        Recommender.load(path)
    try:
        shutil.copy(string_path, path)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert Recommender.load(path).selftest() >= 4


def test_loading_and_answering_leave_no_trace_beside_the_file(
    string_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A directory remembers when a file was made or removed in it. Unlike permissions, that time
    # shows writes of root as well.
    path = Path(shutil.copy(string_path, tmp_path))
    monkeypatch.chdir(tmp_path)
    path.chmod(0o444)
    before = {p.name: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.iterdir()]}
    recommender = Recommender.load(path)
    recommender.selftest()
    recommender.recommend_batch([["NA"], []])
    pickle.loads(pickle.dumps(recommender))
    assert {p.name: p.stat().st_mtime_ns for p in [tmp_path, *tmp_path.iterdir()]} == before

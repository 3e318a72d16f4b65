"""Large tensors are read where they lie, in the file; the answers are the same."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_file import mapping
from attnrec.runtime.model_file.reading import read_model_file

FILES = sorted((Path(__file__).parents[1] / "data" / "format-1").glob("*.onnx"))
assert FILES


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "LARGE", 100)  # sizes and shapes are not


def answers(recommender: Recommender) -> list[object]:
    of_empty = recommender.recommend([], 6)
    ids = of_empty.item_ids
    asked = (ids[:1], ids[:4], ids[::-1])
    return [
        of_empty,
        *(recommender.recommend(history, 5, exclude_seen=False) for history in asked),
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_mapped_file_answers_like_one_in_memory(
    file: Path, everything_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = Recommender.load(file)
    mapped.selftest()
    assert str(file.resolve()) in Path("/proc/self/maps").read_text()
    monkeypatch.setattr(mapping, "LARGE", 2**24)
    assert answers(mapped) == answers(Recommender.load(file))


def test_what_onnxruntime_gets_holds_no_large_tensor(everything_is_large: None) -> None:
    import onnxruntime

    content = read_model_file(FILES[0], verify=True)
    place = mapping.real_place(FILES[0])
    assert place is not None
    rest = mapping.point_to_file(memoryview(content), place, onnxruntime.SessionOptions())
    assert len(rest) < len(content) - 300


def test_items_that_are_not_available_stay_out(
    everything_is_large: None,
) -> None:
    ids = Recommender.load(FILES[0]).recommend([], 5).item_ids
    rest = Recommender.load(FILES[0], unavailable=ids[:2])
    assert rest.recommend([], 5).item_ids[:3] == ids[2:]
    assert Recommender.load(FILES[0]).recommend([], 5).item_ids == ids  # the file is as it was


def test_a_mapped_file_may_be_renamed_over_and_a_pickle_notices(
    everything_is_large: None, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(FILES[0], path)
    recommender = Recommender.load(path)
    before = answers(recommender)
    shutil.copy(FILES[1], tmp_path / "new.onnx")
    os.replace(tmp_path / "new.onnx", path)
    assert answers(recommender) == before
    with pytest.raises(ModelFileError, match="replaced by another model"):
        pickle.loads(pickle.dumps(recommender))


def test_a_file_that_is_replaced_while_it_is_loaded_is_refused(
    everything_is_large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(FILES[0], path)
    real = mapping.point_to_file

    def too_late(*arguments: Any) -> bytes:
        shutil.copy(FILES[0], tmp_path / "new.onnx")
        with open(tmp_path / "new.onnx", "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"?")
        os.replace(tmp_path / "new.onnx", path)
        return real(*arguments)

    monkeypatch.setattr(mapping, "point_to_file", too_late)
    with pytest.raises(ModelFileError, match="replaced while it was being loaded; load it again"):
        Recommender.load(path)


@pytest.mark.parametrize("target", ["../blobs/5f2d", "beside.onnx"])
def test_a_large_file_is_found_through_a_link(
    target: str, everything_is_large: None, tmp_path: Path
) -> None:
    link = tmp_path / "releases" / "model.onnx"
    real = link.parent / target
    link.parent.mkdir()
    real.parent.mkdir(exist_ok=True)
    shutil.copy(FILES[0], real)
    link.symlink_to(target)
    recommender = Recommender.load(link)
    assert recommender.selftest()
    assert str(real.resolve()) in Path("/proc/self/maps").read_text(), "it is mapped, not copied"
    other = tmp_path / "release 2.onnx"
    shutil.copy(FILES[1], other)
    link.unlink()
    link.symlink_to(other)  # as a deployment does
    assert recommender.selftest()
    assert Recommender.load(link).info.sha256 != recommender.info.sha256


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc/self/fd here")
@pytest.mark.parametrize("deleted", [False, True])
def test_a_large_file_that_is_open_already_is_loaded(
    deleted: bool, everything_is_large: None, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(FILES[0], path)
    with open(path, "rb") as file:
        if deleted:
            path.unlink()
        recommender = Recommender.load(f"/proc/self/fd/{file.fileno()}")
    assert answers(recommender) == answers(Recommender.load(FILES[0]))


@pytest.mark.parametrize("kind", [os.fsdecode, os.fsencode])
@pytest.mark.parametrize(
    "name", [b"caf\xe9/mod\xe8le.onnx", "mödels of today/größe 1.onnx".encode()]
)
def test_a_large_file_and_its_folder_may_have_any_name(
    name: bytes, kind: Any, everything_is_large: None, tmp_path: Path
) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        os.mkdir(os.path.dirname(path))
        shutil.copy(FILES[0], os.fsdecode(path))
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert answers(Recommender.load(kind(path))) == answers(Recommender.load(FILES[0]))

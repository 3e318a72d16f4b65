"""Large tensors are read where they lie, in the file; the answers are the same."""

import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_file import mapping
from attnrec.runtime.model_file.format import SEAL_KEY, SEAL_LENGTH, field, metadata_entry, seal
from attnrec.runtime.model_file.protobuf import spans
from attnrec.runtime.model_file.reading import read_model_file
from attnrec.runtime.model_file.tensors import without_items
from attnrec.runtime.session import session_of_file

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
FILES = sorted(FORMAT_1.glob("*.onnx"))
assert FILES


POSITIONS = b"model.position_embedding.weight"
SIZE, LARGE_SIZE = b"\x08\x06\x08\x10", b"\x08\x81\x80\x10\x08\x10"
"""Of these, [6, 16] and [2^18 + 1, 16], as fields of a tensor; no history reaches that far."""


def with_many_positions(message: memoryview, way: tuple[int, ...] = (7, 5)) -> bytes:
    """The fields of a message with, on the way graph, initializer, the positions enlarged."""
    parts: list[bytes | memoryview] = []
    for number, start, value, end in spans(message):
        if number != way[0]:
            parts.append(message[start:end])
        elif len(way) == 2:
            parts.append(field(number, with_many_positions(message[value:end], way[1:])))
        elif POSITIONS not in bytes(message[value:end]):
            parts.append(message[start:end])
        else:
            (*_, last) = spans(message[value:end])
            tensor = bytes(message[value:end]).replace(SIZE, LARGE_SIZE, 1)
            numbers = bytes(message[value:end][last[2] :])
            tensor = tensor[: -(last[3] - last[1])] + field(9, numbers.ljust(2**24 + 64, b"\0"))
            parts.append(field(number, tensor))
    return b"".join(parts)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of 16 MB by the names of the small ones, whose answers they have."""
    made = {}
    for name in ("tiny-string", "tiny-int64"):
        content = (FORMAT_1 / f"{name}.onnx").read_bytes()
        unsealed = content[: -len(metadata_entry(SEAL_KEY, SEAL_LENGTH * "0"))]
        made[name] = tmp_path_factory.mktemp("large") / f"{name}.onnx"
        made[name].write_bytes(seal(with_many_positions(memoryview(unsealed))))
    return made


@pytest.fixture
def path(large: dict[str, Path], tmp_path: Path) -> Path:
    """A large file that may be changed."""
    return shutil.copy(large["tiny-string"], tmp_path / "model.onnx")


def mapped(file: Path, unavailable: Sequence[int | str] = ()) -> Recommender:
    """As large files are loaded; here everything is large but sizes and shapes."""
    content, _ = without_items(read_model_file(file, verify=True), unavailable)
    place, options = mapping.real_place(file), onnxruntime.SessionOptions()
    assert place is not None
    rest = mapping.point_to_file(memoryview(content), place, options, large=100)
    assert len(rest) < len(content) - 200
    session = onnxruntime.InferenceSession(rest, options, providers=["CPUExecutionProvider"])
    return Recommender.from_session(session)


def answers(recommender: Recommender) -> list[object]:
    of_empty = recommender.recommend([], 6)
    ids = of_empty.item_ids
    asked = (ids[:1], ids[:4], ids[::-1])
    return [
        of_empty,
        *(recommender.recommend(history, 5, exclude_seen=False) for history in asked),
    ]


def is_mapped(file: Path) -> bool:
    return str(file.resolve()) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_mapped_file_answers_like_one_in_memory(file: Path) -> None:
    recommender = mapped(file)
    recommender.selftest()
    assert is_mapped(file)
    assert answers(recommender) == answers(Recommender.load(file))


def test_a_large_file_is_mapped_and_a_small_one_is_not(large: dict[str, Path]) -> None:
    for name, file in large.items():
        small = shutil.copy(FORMAT_1 / file.name, file.parent / "small.onnx")
        recommenders = Recommender.load(file), Recommender.load(small)
        assert is_mapped(file) and not is_mapped(small), name
        assert answers(recommenders[0]) == answers(recommenders[1])


def test_items_that_are_not_available_stay_out() -> None:
    ids = Recommender.load(FILES[0]).recommend([], 5).item_ids
    rest = mapped(FILES[0], unavailable=ids[:2])
    assert rest.recommend([], 5).item_ids[:3] == ids[2:]
    assert mapped(FILES[0]).recommend([], 5).item_ids == ids  # the file is as it was


def test_a_mapped_file_may_be_renamed_over_and_a_pickle_notices(
    path: Path, large: dict[str, Path], tmp_path: Path
) -> None:
    recommender = Recommender.load(path)
    before = answers(recommender)
    os.replace(shutil.copy(large["tiny-int64"], tmp_path / "new.onnx"), path)
    assert answers(recommender) == before
    with pytest.raises(ModelFileError, match="replaced by another model"):
        pickle.loads(pickle.dumps(recommender))


def test_a_file_that_is_replaced_while_it_is_loaded_is_refused(
    path: Path, large: dict[str, Path], tmp_path: Path
) -> None:
    content = read_model_file(path, verify=True)
    os.replace(shutil.copy(large["tiny-int64"], tmp_path / "new.onnx"), path)
    with pytest.raises(ModelFileError, match="replaced while it was being loaded; load it again"):
        session_of_file(path, content, n_threads=1, providers=None)


@pytest.mark.parametrize("target", ["../blobs/5f2d", "beside.onnx"])
def test_a_large_file_is_found_through_a_link(
    target: str, large: dict[str, Path], tmp_path: Path
) -> None:
    link = tmp_path / "releases" / "model.onnx"
    real = link.parent / target
    link.parent.mkdir()
    real.parent.mkdir(exist_ok=True)
    shutil.copy(large["tiny-string"], real)
    link.symlink_to(target)
    recommender = Recommender.load(link)
    assert recommender.selftest()
    assert is_mapped(real)
    other = tmp_path / "release 2.onnx"
    shutil.copy(large["tiny-int64"], other)
    link.unlink()
    link.symlink_to(other)  # as a deployment does
    assert recommender.selftest()
    assert Recommender.load(link).info.sha256 != recommender.info.sha256


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc/self/fd here")
@pytest.mark.parametrize("deleted", [False, True])
def test_a_large_file_that_is_open_already_is_loaded(
    deleted: bool, path: Path, large: dict[str, Path]
) -> None:
    with open(path, "rb") as file:
        if deleted:
            path.unlink()
        recommender = Recommender.load(f"/proc/self/fd/{file.fileno()}")
    assert answers(recommender) == answers(Recommender.load(large["tiny-string"]))


@pytest.mark.parametrize("kind", [os.fsdecode, os.fsencode])
@pytest.mark.parametrize(
    "name", [b"caf\xe9/mod\xe8le.onnx", "mödels of today/größe 1.onnx".encode()]
)
def test_a_large_file_and_its_folder_may_have_any_name(
    name: bytes, kind: Any, large: dict[str, Path], tmp_path: Path
) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        os.mkdir(os.path.dirname(path))
        shutil.copy(large["tiny-string"], os.fsdecode(path))
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert answers(Recommender.load(kind(path))) == answers(Recommender.load(large["tiny-string"]))

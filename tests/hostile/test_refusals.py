"""Crafted files: each is refused before onnxruntime sees it, soon, and with the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edits import FORMAT_1, STRING, Case, in_branch, in_graph, in_model, unsealed
from hypothesis import example, given
from hypothesis import strategies as st
from work import golden_vectors
from writer import TEXT, block, edited, value

from attnrec.runtime import ModelFileError, Recommender
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.reading import read_model_file

Crafted = list[tuple[Case, Path]]
Load = Callable[..., list[dict[str, Any]]]
SOUND = sorted(FORMAT_1.glob("*.onnx"))


def test_every_crafted_file_is_refused_by_the_check_that_is_for_it(crafted: Crafted) -> None:
    for case, path in crafted:
        assert names.seal_is_intact(case.file), "the seal is not what refuses it"
        with pytest.raises(ModelFileError) as error:
            Recommender.load(path)
        message = str(error.value)
        assert case.words in message, f"{case.name}: {message}"
        assert message.startswith(str(path))
        assert "export" in message, f"{case.name}: no remedy in {message}"
        assert len(message) < 1500


def test_a_refusal_takes_less_than_a_second_and_300_mb(crafted: Crafted, load: Load) -> None:
    results = load(10, *(path for _, path in crafted))
    for (case, _), result in zip(crafted, results, strict=True):
        assert result["outcome"] == "ModelFileError", f"{case.name}: {result}"
        assert result["seconds"] < 1 and result["peak_mb"] < 300, f"{case.name}: {result}"


def test_golden_vectors_that_are_much_to_read_are_refused_by_the_self_test(
    tmp_path: Path, load: Load
) -> None:
    files = [(case, tmp_path / f"{i}.onnx") for i, case in enumerate(golden_vectors())]
    for case, path in files:
        path.write_bytes(case.file)
        read_model_file(path, verify=True)
    results = load(10, *(path for _, path in files))
    for (case, _), result in zip(files, results, strict=True):
        assert result["outcome"] == "SelfTestError", f"{case.name}: {result}"
        assert case.words in result["message"] and "export" in result["message"], result
        assert result["seconds"] < 1 and result["peak_mb"] < 300, f"{case.name}: {result}"


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_the_same_files_unchanged_are_sound(path: Path) -> None:
    content = path.read_bytes()
    assert in_graph(lambda graph: graph, path) == content == names.seal(unsealed(path))
    assert read_model_file(path, verify=True) == content


def test_files_are_taken_apart_and_put_together_faithfully() -> None:
    content = STRING.read_bytes()
    assert in_branch(lambda branch: branch) == in_model(lambda model: model) == content


def test_an_input_that_facts_and_graph_agree_on_is_for_a_later_attnrec(tmp_path: Path) -> None:
    declared = block(11, value("mood", TEXT, ["B"]))

    def edit(model: bytes) -> bytes:
        model = edited(model, 7, lambda graph: graph + declared)
        return edited(model, 14, with_input, block(1, names.MODEL_KEY))

    def with_input(entry: bytes) -> bytes:
        return edited(entry, 2, lambda text: text.replace(b'"k"]', b'"k", "mood"]'))

    path = tmp_path / "model.onnx"
    path.write_bytes(in_model(edit))
    read_model_file(path, verify=True)
    with pytest.raises(ModelFileError, match=r"wants the inputs \['mood'\], .*: upgrade attnrec"):
        Recommender.load(path)


edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 12),
        st.binary(max_size=12) | st.sampled_from([b"\x80" * 12, b"\xff" * 9 + b"\x01", b"\0" * 9]),
    ),
    min_size=1,
    max_size=4,
)


@given(edits=edits, in_the_graph=st.booleans(), path=st.sampled_from(SOUND))
@example(edits=[(0.0, 10**6, b"")], in_the_graph=False, path=STRING)
@example(edits=[(0.0, 10**6, b"")], in_the_graph=True, path=STRING)
def test_whatever_the_bytes_are_a_file_is_read_or_refused(
    edits: list[tuple[float, int, bytes]],
    in_the_graph: bool,
    path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def edit(message: bytes) -> bytes:
        for place, n_replaced, new in edits:
            at = int(place * len(message))
            message = message[:at] + new + message[at + n_replaced :]
        return message

    model = unsealed(path)
    model = edited(model, 7, edit) if in_the_graph else edit(model)
    file = tmp_path_factory.getbasetemp() / "edited.onnx"
    file.write_bytes(names.seal(model))
    for verify in (True, False):
        try:
            read_model_file(file, verify=verify)
        except ModelFileError as error:
            assert "export" in str(error)

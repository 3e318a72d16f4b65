from pathlib import Path

import pytest

from attnrec.runtime.files import replace_file


def test_the_content_appears_under_the_name_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    with replace_file(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path and temporary.name.endswith(".model.onnx")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    with replace_file(tmp_path / "replaced") as temporary:
        temporary.write_text("")
    assert (tmp_path / "replaced").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_after_an_error_the_old_file_is_intact_and_nothing_else_is_left(
    error: type[BaseException], existed: bool, tmp_path: Path
) -> None:
    target = tmp_path / "model.onnx"
    if existed:
        target.write_text("old")
    with pytest.raises(error), replace_file(target) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"] * existed


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), replace_file(target):
        pass
    assert target.read_text() == "old"


def test_a_directory_in_the_way_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(OSError), replace_file(tmp_path / "model.onnx") as temporary:
        temporary.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]

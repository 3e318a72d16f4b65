"""An export replaces files of attnrec, and no other file."""

import shutil
from pathlib import Path

import pytest

from attnrec.export import export
from attnrec.export.refusals import check_place
from attnrec.runtime import Recommender
from attnrec.train import Run
from attnrec.train.runs.target import WEIGHTS_FILE

MODEL = Path(__file__).parents[1] / "data" / "format-1" / "tiny-string.onnx"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("events.csv", b"user_id,item_id,timestamp\n" * 9),
        ("thesis.docx", b"PK\x03\x04" + b"\0" * 500),
        ("short", b"x"),
        ("foreign.onnx", b"\x08\x0a\x12\x07pytorch" + MODEL.read_bytes()[11:]),
    ],
)
def test_a_foreign_file_is_not_replaced(
    name: str, content: bytes, runs: dict[str, Run], tmp_path: Path
) -> None:
    target = tmp_path / name
    target.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is no model file of attnrec.*`out`"):
        export(runs["popularity-string"], target)
    assert target.read_bytes() == content
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["config.json", WEIGHTS_FILE, "model.profiles.json"])
def test_a_file_of_the_run_is_not_replaced(
    name: str, runs: dict[str, Run], tmp_path: Path
) -> None:
    run = Run.load(shutil.copytree(runs["popularity-string"].directory, tmp_path / "run"))
    for target in (tmp_path / "run" / name, tmp_path / name):
        existed = target.exists()
        with pytest.raises(ValueError, match=f"{name} is the name of a file of a run.*model.onnx"):
            export(run, target)
        assert target.exists() == existed
    Run.load(tmp_path / "run")


def test_a_link_to_a_foreign_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n")
    (tmp_path / "model.onnx").symlink_to("log.csv")
    with pytest.raises(ValueError, match="no model file of attnrec"):
        check_place(tmp_path / "model.onnx", ())


@pytest.mark.parametrize("older", [MODEL.read_bytes(), MODEL.read_bytes()[:-100], b""])
def test_an_older_model_file_a_damaged_or_an_empty_one_is_replaced(
    older: bytes, runs: dict[str, Run], tmp_path: Path
) -> None:
    target = tmp_path / "any name"
    target.write_bytes(older)
    export(runs["popularity-string"], target)
    assert Recommender.load(target).info.model == "popularity"


@pytest.mark.parametrize("name", ["model.profiles.json"])
def test_foreign_figures_beside_the_file_are_kept(
    name: str, runs: dict[str, Run], tmp_path: Path
) -> None:
    theirs = tmp_path / name
    theirs.write_text('{"people": 3}')
    with pytest.raises(ValueError, match=f"{name} would be replaced.*`out`"):
        export(runs["popularity-string"], tmp_path / "model.onnx")
    assert theirs.read_text() == '{"people": 3}'
    assert list(tmp_path.iterdir()) == [theirs]

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnrec.runtime.files import check_replaceable, replace_file


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


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "model.onnx"
    link.symlink_to(tmp_path / "disk" / "current.onnx")
    for text in ("first", "second"):
        check_replaceable(link, "--out")
        with replace_file(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink() and (tmp_path / "disk" / "current.onnx").read_text() == text
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["current.onnx"]


def test_a_place_that_cannot_be_replaced_is_refused_before_the_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "missing" / "a", "missing is no folder; make it"),
        (tmp_path, "is a folder; name a file that can be replaced with --out"),
        (tmp_path / "pipe", "is no ordinary file; name a file"),
        (tmp_path / ("x" * 250), "File name too long"),
    ):
        with pytest.raises(ValueError, match=message):
            check_replaceable(path, "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run(["unshare", "-m", "true"]).returncode != 0,
    reason="mounts need root, and Linux",
)
def test_read_only_places_and_mounted_files_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder/file"):
        (tmp_path / name).write_text("")
    script = (
        "mount --bind file folder/file && mount --bind . . && mount -o remount,ro,bind . && "
        'exec "$1" -c "$2"'
    )
    check = (
        "from attnrec.runtime.files import check_replaceable as check\n"
        "for path in ('folder/file', 'new'):\n"
        "    try:\n        check(path, '--out')\n"
        "    except ValueError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "-", sys.executable, check],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    mounted, read_only = done.stdout.splitlines()
    assert "folder/file is a mount point, which cannot be replaced" in mounted
    assert "new cannot be written (Read-only file system); name another file with --out" in (
        read_only
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_is_named_by_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "from attnrec.runtime.files import replace_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with replace_file(sys.argv[1]) as temporary:\n"
        "        temporary.write_bytes(bytes(2000))\n"
        "except OSError as error:\n"
        "    print(error.filename)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model.onnx")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == f"{tmp_path / 'model.onnx'}\n"
    assert not list(tmp_path.iterdir())

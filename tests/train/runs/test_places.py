"""Where a run may be written: found out before the training, and nothing of others is deleted."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest

from attnrec.runtime.errors import RunError
from attnrec.runtime.files import MODEL_FILE
from attnrec.train import Run, TrainConfig, train
from attnrec.train.runs.replacing import replace_directory, tidy_after_kill
from attnrec.train.runs.target import check_target, profiles_file

COUNTS = TrainConfig("popularity")


def replaced_until_killed(target: Path, moved: bool) -> None:
    """A process that dies while it replaces a directory, or waits there for ever."""
    rename = os.replace

    def watched(source: Path, to: Path) -> None:
        rename(source, to)
        if moved and Path(to).name == "old":
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = watched
    with replace_directory(target) as fresh:
        (fresh / "half").write_text("of it")
        if not moved:
            time.sleep(60)


def started(target: Path, *, moved: bool) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(
        target=replaced_until_killed, args=(target, moved)
    )
    process.start()
    return process


def wait_for(parent: Path) -> Path:
    """The hidden directory of the other process, with something in it."""
    for _ in range(600):
        if found := [path.parent.parent for path in parent.glob(".run.*.attnrec/new/half")]:
            return found[0]
        time.sleep(0.05)
    raise AssertionError("the other process has not begun")


def test_a_link_as_target_stays_and_the_run_lies_where_it_leads(
    shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    (tmp_path / "disk" / "runs").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "runs")
    for _ in range(2):
        train(shop_log, COUNTS, out=link)
        assert link.is_symlink() and (tmp_path / "disk" / "runs" / "config.json").is_file()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]
        assert [path.name for path in (tmp_path / "disk").iterdir()] == ["runs"]
    assert Run.load(link).config.model == "popularity"


CAN_MOUNT = sys.platform == "linux" and not subprocess.run(["unshare", "-m", "true"]).returncode
needs_mounts = pytest.mark.skipif(not CAN_MOUNT, reason="mounts need root, and Linux")


def mounted(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What a script of bash does where its mounts are its own."""
    texts = [str(argument) for argument in arguments]
    return subprocess.run(
        ["unshare", "-m", "bash", "-ec", script, "-", *texts],
        capture_output=True,
        text=True,
        check=False,
    )


@needs_mounts
@pytest.mark.parametrize("name", ["run", "a run\\with blanks"])
def test_a_mounted_target_is_refused_with_a_place_in_it(name: str, tmp_path: Path) -> None:
    volume, target = tmp_path / "volume", tmp_path / name
    volume.mkdir()
    target.mkdir()
    check = (
        "import sys; from pathlib import Path\n"
        "from attnrec.train.runs.target import check_target\n"
        "check_target(Path(sys.argv[1]) / 'run'); check_target(Path(sys.argv[1]))"
    )
    script = 'mount --bind "$1" "$2" && exec "$3" -c "$4" "$2"'
    done = mounted(script, volume, target, sys.executable, check)
    assert done.returncode == 1
    assert "is a mount point, which cannot be replaced as a whole" in done.stderr
    assert f"such as `out={target / 'run'}`" in done.stderr
    assert not list(volume.iterdir())


@needs_mounts
def test_a_run_of_the_image_of_a_container_is_replaced(tmp_path: Path) -> None:
    """Overlayfs renames no directory that lies in a lower layer."""
    for name in ("image/run", "upper", "work", "merged"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "image" / "run" / "config.json").write_text("of the image")
    check = (
        "from pathlib import Path; from attnrec.train.runs.replacing import replace_directory\n"
        "with replace_directory(Path('merged/run')) as fresh:\n"
        "    (fresh / 'config.json').write_text('new')\n"
    )
    script = (
        'cd "$1"; mount -t tmpfs none upper; mkdir upper/u upper/w; mount -t overlay none -o '
        "lowerdir=image,upperdir=upper/u,workdir=upper/w merged || exit 77; "
        '"$2" -c "$3"; cat merged/run/config.json; ls -A merged'
    )
    done = mounted(script, tmp_path, sys.executable, check)
    if done.returncode == 77:
        pytest.skip("no overlayfs here")
    assert done.stdout.split() == ["newrun"], done.stderr


def test_what_attnrec_and_desktops_leave_in_a_run_does_not_stop_the_next_one(
    shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    train(shop_log, COUNTS, out=tmp_path / "run")
    for path in (tmp_path / "run" / MODEL_FILE, profiles_file(tmp_path / "run" / MODEL_FILE)):
        path.write_text("of attnrec-export")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "run" / name).write_text("of a file manager")
    (tmp_path / "run" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "run" / ".0123abcd.model.onnx").write_text("of an export that was killed")
    train(shop_log, COUNTS, out=tmp_path / "run")
    assert not (tmp_path / "run" / ".DS_Store").exists()
    (tmp_path / "run" / ".DS_Store.txt").write_text("of a person")
    with pytest.raises(RunError, match=r"DS_Store\.txt"):
        check_target(tmp_path / "run")


@pytest.mark.parametrize("name", ["config.json", "data.json", "model.onnx", "report.html"])
def test_a_folder_with_names_of_a_run_that_is_none_is_not_replaced(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "config.json").mkdir()  # a folder, whatever it is called
    with pytest.raises(RunError, match=r"holds 'config\.json', .* would be lost"):
        check_target(tmp_path)
    (tmp_path / "config.json").rmdir()
    check_target(tmp_path)
    (tmp_path / name).write_text('{"port": 8080}')
    with pytest.raises(RunError, match=f"holds '{name}', .* would be lost"):
        check_target(tmp_path)


def test_what_looks_like_a_leftover_but_is_none_of_ours_stays(tmp_path: Path) -> None:
    theirs = [
        ".0123abcd.run", ".0123abcd.old.run", ".run.0123abcd.attnrec", ".run.0123abcd.attnrec/new",
    ]  # fmt: skip
    for name in theirs:
        (tmp_path / name).mkdir()
    (tmp_path / ".0123abcd.run" / "thesis.tex").write_text("all of it")
    check_target(tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(theirs[:3])
    assert (tmp_path / ".0123abcd.run" / "thesis.tex").is_file()
    assert (tmp_path / theirs[3]).is_dir()


def test_what_another_process_is_writing_stays_until_it_is_killed(tmp_path: Path) -> None:
    process = started(tmp_path / "run", moved=False)
    try:
        theirs = wait_for(tmp_path)
        check_target(tmp_path / "run")
        assert (theirs / "new" / "half").is_file()
    finally:
        process.kill()
        process.join()
    check_target(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_moved_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"attnrec": "earlier"}')
    process = started(tmp_path / "run", moved=True)
    process.join()
    assert not (tmp_path / "run").exists()
    check_target(tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == '{"attnrec": "earlier"}'
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_name_that_is_too_long_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"name another `out` \(File name too long\)"):
        check_target(tmp_path / ("x" * 250))


def test_a_run_that_was_half_removed_by_a_killed_process_comes_back_whole(tmp_path: Path) -> None:
    target, work = tmp_path / "run", tmp_path / ".run.0123abcd.attnrec"
    for directory, names in ((target, "b"), (work / "old", "ab"), (work / "new", "cd")):
        directory.mkdir(parents=True)
        for name in names:
            (directory / name).write_text(name)
    (work / "lock").touch()
    (work / "removing").touch()  # where a directory cannot be renamed
    tidy_after_kill(target)
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="run as root to be two users"
)
@pytest.mark.parametrize("closed", ["directory", "lock"])
def test_what_a_killed_process_of_another_user_left_stays_and_stops_nobody(closed: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to other users
        folder = Path(name)
        folder.chmod(0o1777)
        work = folder / ".run.0123abcd.attnrec"
        (work / "new").mkdir(parents=True)
        (work / "lock").touch(0o600)
        work.chmod(0o700 if closed == "directory" else 0o755)
        process = multiprocessing.get_context("fork").Process(
            target=checked_by_another_user, args=(folder / "run",)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
        assert (work / "new").is_dir() and (work / "lock").is_file()


def checked_by_another_user(target: Path) -> None:
    os.setuid(65534)
    check_target(target)
    with replace_directory(target) as fresh:
        (fresh / "config.json").write_text("new")
    assert (target / "config.json").read_text() == "new"

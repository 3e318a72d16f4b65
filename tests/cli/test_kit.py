"""`attnrec-export --kit`: a folder that a device runs with numpy and onnxruntime alone."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnrec.export import kit as kits
from attnrec.export.kit import write_kit
from attnrec.runtime import ModelFileError, Recommender

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests/data/format-1/tiny-string.onnx"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit that no test changes."""
    folder = tmp_path_factory.mktemp("kit") / "kit"
    write_kit(FILE, folder)
    return folder


@pytest.fixture
def counted(run: Any, log: Path, tmp_path: Path) -> Path:
    """A run directory that takes a moment."""
    assert run("train", log, "--model", "markov-chain", "--out", tmp_path / "run").code == 0
    return tmp_path / "run"


@pytest.fixture
def copy(kit: Path, tmp_path: Path) -> Path:
    """A kit to be spoiled."""
    return shutil.copytree(kit, tmp_path / "kit")


def start(kit: Path, script: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(kit / script), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/", **options)


def check(kit: Path, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and rows of check.py."""
    process = start(kit, "check.py", "--json", "--requests", "100", *arguments)
    result = json.loads(process.communicate()[0])
    assert result["ok"] == (process.returncode == 0)
    return process.returncode, {row["name"]: row for row in result["rows"]}


def wrong(rows: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, row in rows.items() if not row["ok"]]


def test_an_export_can_write_a_kit_beside_its_file(run, counted, tmp_path) -> None:
    folder, file = tmp_path / "deep" / "kit", tmp_path / "model.onnx"
    outcome = run("export", counted, "--out", file, "--kit", folder)
    assert outcome.code == 0, outcome.err
    assert str(folder) in outcome.out
    assert (folder / "model.onnx").read_bytes() == file.read_bytes()
    assert {path.name for path in folder.iterdir()} == {
        "LICENSE", "README.md", "app.py", "attnrec", "attnrec.service", "attnrec.socket",
        "check.py", "model.onnx", "requirements.lock", "trim.py",
    }  # fmt: skip
    assert not [path for path in folder.parent.iterdir() if path != folder]
    result = json.loads(run("export", counted, "--kit", tmp_path / "other", "--json").out)
    assert result["kit"] == str(tmp_path / "other")


def test_a_folder_with_something_in_it_is_refused_before_the_export(
    run, counted, tmp_path
) -> None:
    folder, file = tmp_path / "kit", tmp_path / "model.onnx"
    folder.mkdir()
    (folder / "mine").write_text("keep")
    outcome = run("export", counted, "--out", file, "--kit", folder)
    assert outcome.code == 2
    assert f"error: {folder} is there already" in outcome.err and "new folder" in outcome.err
    assert not file.exists()
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_an_empty_folder_is_taken_a_file_is_not(tmp_path) -> None:
    (tmp_path / "kit").mkdir()
    write_kit(FILE, tmp_path / "kit")
    assert (tmp_path / "kit" / "model.onnx").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is there already"):
        write_kit(FILE, tmp_path / "file")


def test_nothing_is_left_where_a_kit_could_not_be_written(tmp_path, monkeypatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kits, "sync_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_kit(FILE, tmp_path / "kit")
    with pytest.raises(ModelFileError, match="does not exist"):
        write_kit(tmp_path / "no.onnx", tmp_path / "kit")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_by_the_folder_of_the_kit_and_not_by_what_is_copied(
    tmp_path,
) -> None:
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from attnrec.cli.console import clean_errors\n"
        "from attnrec.export.kit import write_kit\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "with clean_errors():\n"
        "    write_kit(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", program, str(FILE), str(tmp_path / "kit")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == (
        f"error: {tmp_path / 'kit'}: File too large; make room there, or name another place; "
        "earlier files are as they were\n"
    )
    assert not list(tmp_path.iterdir())


def test_the_lock_has_the_tested_versions_with_hashes_for_every_wheel() -> None:
    lock = (ROOT / "export/kit/device/requirements.lock").read_text()
    constraints = (ROOT / "constraints.txt").read_text().split()
    pins = re.findall(r"^\w+==\S+", lock, re.MULTILINE)
    assert [pin.partition("=")[0] for pin in pins] == ["numpy", "onnxruntime"]
    assert set(pins) <= set(constraints)
    assert len(set(re.findall("sha256:[0-9a-f]{64}", lock))) == len(pins) * 4 * 2


def test_other_versions_are_locked_without_hashes() -> None:
    lock = kits.lock_of(numpy="99.1", onnxruntime="1.23.0")
    assert "\nnumpy==99.1\n" in lock and "\nonnxruntime==1.23.0\n" in lock
    assert "sha256" not in lock and "pip hash" in lock


def test_the_readme_and_the_unit_speak_of_this_file(kit) -> None:
    text = (kit / "README.md").read_text()
    recommender = Recommender.load(FILE)
    assert f"{recommender.info.n_items:,} items" in text
    (command,) = re.findall("^(echo .*) [|] ", text, re.MULTILINE)
    asked = subprocess.run(["bash", "-c", command], capture_output=True, text=True).stdout
    assert json.loads(asked) == {"history": recommender.recommend([], 2).item_ids, "k": 3}
    assert "$" not in text + (kit / "attnrec.service").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_the_memory_that_the_unit_names_was_measured(kit, tmp_path, monkeypatch) -> None:
    def named(folder: Path) -> int:
        (mb,) = re.findall(
            r"^# (\d+) MB were resident", (folder / "attnrec.service").read_text(), re.M
        )
        return int(mb)

    assert 20 < named(kit) < 95, "where nothing is measured it is 100 and twice the file"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numpy.py").write_text("raise SystemExit")  # a file of the user, in this folder
    write_kit(FILE, tmp_path / "kit")
    assert 20 < named(tmp_path / "kit") < 95


def test_the_check_of_a_good_kit_passes_and_is_readable(kit) -> None:
    code, rows = check(kit)
    assert code == 0, rows
    assert {"numpy", "onnxruntime", "seal", "selftest", "memory", "latency"} <= rows.keys()
    process = start(kit, "check.py", "--requests", "100")
    table = process.communicate()[0]
    assert table.endswith("all is well\n") and "golden vectors reproduced" in table


def test_the_check_names_what_is_wrong(copy) -> None:
    code, rows = check(copy, "--max-mb", "1", "--max-ms", "0.000001")
    assert (code, wrong(rows)) == (1, ["memory", "latency"])
    content = bytearray((copy / "model.onnx").read_bytes())
    content[1000] ^= 1
    (copy / "model.onnx").write_bytes(content)
    code, rows = check(copy)
    assert (code, wrong(rows)) == (1, ["answers"])
    assert "altered since export" in rows["answers"]["found"]
    assert rows["answers"]["wanted"] == "an intact model.onnx of this kit"
    lock = copy / "requirements.lock"
    lock.write_text(lock.read_text().replace("numpy==", "numpy==0.") + "\nno_such==1\n")
    code, rows = check(copy)
    assert (code, wrong(rows)) == (1, ["numpy", "no_such", "answers"])
    assert rows["no_such"]["found"] == "not installed"
    assert "pip install --no-deps" in rows["answers"]["wanted"]


@pytest.mark.parametrize("content", [None, b"no model", FILE.read_bytes()[:-9]])
def test_without_a_sound_file_app_and_check_say_so_in_one_line(copy, content) -> None:
    (copy / "model.onnx").unlink()
    if content is not None:
        (copy / "model.onnx").write_bytes(content)
    app = start(copy, "app.py", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    result, errors = app.communicate()
    assert (app.returncode, result, errors.count("\n")) == (1, "", 1)
    assert errors.startswith(f"error: {copy / 'model.onnx'}")
    assert errors.endswith("; copy the kit again\n")
    code, rows = check(copy)
    assert (code, wrong(rows)) == (1, ["answers"])
    assert rows["answers"]["found"].startswith(str(copy / "model.onnx"))
    assert "Error" not in rows["answers"]["found"]


def test_the_app_answers_each_line_at_once(kit) -> None:
    recommender = Recommender.load(FILE)
    history = recommender.recommend([], 2).item_ids
    with start(kit, "app.py", stdin=subprocess.PIPE) as app:
        assert app.stdin is not None and app.stdout is not None

        def ask(line: str) -> dict[str, Any]:
            app.stdin.write(line + "\n")
            app.stdin.flush()
            return json.loads(app.stdout.readline())

        for asked in ([], history):
            result = ask(json.dumps({"history": asked, "k": 3}))
            assert result["item_ids"] == recommender.recommend(asked, 3).item_ids
        for line in ("no JSON", "[]", "", '{"history": [1]}', '{"history": [], "no": 1}'):
            assert ask(line).keys() == {"error"}
        assert len(ask('{"history": [], "k": 1}')["item_ids"]) == 1
    assert app.returncode == 0


@pytest.fixture
def served(kit: Path, tmp_path: Path) -> Iterator[Path]:
    """The app with a listening socket for standard input, as systemd starts it."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        app = start(kit, "app.py", stdin=listening)
    with app:
        yield path
        assert app.poll() is None, "the app ended"
        app.terminate()


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(path))
    return client


def test_the_app_serves_several_clients_of_a_socket(served) -> None:
    with connect(served) as rude, connect(served) as first, connect(served) as second:
        rude.sendall(b'{"history": []}\n' * 1000)
        rude.close()  # without reading
        for client, k in ((first, 1), (second, 2), (first, 3)):
            client.sendall(b'{"history": [], "k": %d}\n' % k)
            assert len(json.loads(client.makefile().readline())["item_ids"]) == k
        second.sendall(b"x" * (1 << 20) + b"\n")
        assert "error" in second.makefile().readline()


def test_a_socket_that_is_connected_already_is_read_like_a_pipe(kit) -> None:
    ours, theirs = socket.socketpair()  # some programs start others with one
    with ours, start(kit, "app.py", stdin=theirs) as app:
        theirs.close()
        ours.sendall(b'{"history": [], "k": 2}\n')
        ours.shutdown(socket.SHUT_WR)
        assert app.stdout is not None
        assert len(json.loads(app.stdout.readline())["item_ids"]) == 2
    assert app.returncode == 0


def test_systemd_finds_nothing_wrong_with_the_units(kit, tmp_path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: apt-get install systemd")
    units = [tmp_path / "attnrec.socket", tmp_path / "attnrec.service"]
    for unit in units:
        text = (kit / unit.name).read_text()
        text = text.replace("/opt/attnrec/venv/bin/python", sys.executable)
        unit.write_text(text.replace("/opt/attnrec", str(kit)))
    command = ["systemd-analyze", "verify", *map(str, units)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_trimming_refuses_a_folder_without_the_two_packages(kit, tmp_path) -> None:
    (tmp_path / "numpy").mkdir()
    process = start(kit, "trim.py", str(tmp_path), stderr=subprocess.PIPE)
    assert "does not hold numpy and onnxruntime" in process.communicate()[1]
    assert process.returncode == 1
    assert (tmp_path / "numpy").exists()


def test_a_kit_is_written_where_a_link_leads(kit, tmp_path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    write_kit(FILE, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    names = {path.name for path in (tmp_path / "disk").iterdir()}
    assert names == {path.name for path in kit.iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


def test_a_kit_where_nothing_can_be_made_is_refused_before_the_export(run, counted) -> None:
    outcome = run("export", counted, "--kit", "/proc/attnrec/kit")
    assert outcome.code == 2
    assert "/proc cannot be written; name a folder for the kit elsewhere" in outcome.err
    assert not (counted / "model.onnx").exists()

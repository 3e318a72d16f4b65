"""One recommender in many threads and processes; what it leaves alone."""

import importlib.resources
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import attnrec.runtime
from attnrec.runtime import ModelFileError, Recommender
from attnrec.runtime.model_file.format import seal

# A child that hangs is ended by its own alarm, also where it is a child's child.
START = "import os, signal, sys; signal.alarm(60) if hasattr(signal, 'alarm') else None\n"


def run(code: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script on its own: without this directory, where every warning is an error."""
    home = cwd / "home"
    home.mkdir()
    kept = {
        name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG") if name in os.environ
    }
    script = cwd / "script.py"
    script.write_text(START + code, encoding="utf-8")
    # Python 3.12 and later warn of every fork beside threads, whatever these do.
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    result = subprocess.run(
        [sys.executable, "-P", *warnings, str(script), *map(str, arguments)],
        cwd=cwd,
        env=kept | {"HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    return result


def test_threads_share_a_recommender(recommender: Recommender, expected: dict[str, Any]) -> None:
    requests = [call["recommend"] for call in expected["calls"]] * 10
    alone = [recommender.recommend(**request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda request: recommender.recommend(**request), requests))
    assert together == alone


def test_a_pickled_recommender_is_loaded_again(path: Path, recommender: Recommender) -> None:
    copy = pickle.loads(pickle.dumps(recommender))
    assert copy.info == recommender.info
    assert copy.recommend([], k=100) == recommender.recommend([], k=100)


def test_a_pickle_keeps_the_way_to_its_file_and_no_copy_of_it(
    string_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(string_path.parent)
    pickled = pickle.dumps(Recommender.load(string_path.name, n_threads=2))
    monkeypatch.chdir(tmp_path)
    assert len(pickled) < 1000 < string_path.stat().st_size
    assert pickle.loads(pickled).recommend(["NA"]).n_known == 1


def test_a_pickle_is_refused_when_its_file_was_replaced_or_removed(
    string_path: Path, int64_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(string_path, path)
    pickled = pickle.dumps(Recommender.load(path))
    shutil.copy(int64_path, path)
    with pytest.raises(ModelFileError, match="replaced by another model"):
        pickle.loads(pickled)
    path.unlink()
    with pytest.raises(ModelFileError, match="does not exist"):
        pickle.loads(pickled)


def test_a_session_of_the_application_answers_but_has_no_file_to_load_again(
    path: Path, recommender: Recommender
) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    own = Recommender.from_session(session)
    assert own.recommend([], k=100).item_ids == recommender.recommend([], k=100).item_ids
    assert own.selftest() == recommender.selftest()
    with pytest.raises(TypeError, match="made from a session has no file to load again"):
        pickle.dumps(own)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_recommender_works_in_processes_started_by(
    method: str, string_path: Path, tmp_path: Path
) -> None:
    code = """
import multiprocessing
from attnrec.runtime import Recommender

def answer(recommender, connection):
    connection.send(recommender.recommend(["NA"], k=5))
    connection.close()

if __name__ == "__main__" and sys.argv[2] in multiprocessing.get_all_start_methods():
    recommender = Recommender.load(sys.argv[1])
    context = multiprocessing.get_context(sys.argv[2])
    for _ in range(2):
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=answer, args=(recommender, there))
        child.start()
        assert here.recv() == recommender.recommend(["NA"], k=5)
        child.join()
        assert child.exitcode == 0
        here.close()
        there.close()
"""
    run(code, string_path, method, cwd=tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("used_in_child", [True, False])
def test_a_forked_child_answers_and_ends_while_the_parent_goes_on(
    n_threads: int, used_in_child: bool, string_path: Path, tmp_path: Path
) -> None:
    code = """
from attnrec.runtime import Recommender

recommender = Recommender.load(sys.argv[1], n_threads=int(sys.argv[2]))
before = recommender.recommend(["NA"], k=5)
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # a fork has no alarm of its own
        if sys.argv[3] == "True":
            assert recommender.recommend(["NA"], k=5) == before
            if os.path.isdir("/proc/self/task"):  # its own threads, as many as asked for
                assert len(os.listdir("/proc/self/task")) == int(sys.argv[2])
            grandchild = os.fork()
            if grandchild == 0:
                signal.alarm(10)
                assert recommender.recommend(["NA"], k=5) == before
                sys.exit(0)
            assert os.waitpid(grandchild, 0)[1] == 0
        sys.exit(0)  # the ordinary way, which destroys what the child inherited
    assert os.waitpid(child, 0)[1] == 0
    assert recommender.recommend(["NA"], k=5) == before
"""
    run(code, string_path, n_threads, used_in_child, cwd=tmp_path)


FORKED = """
from attnrec.runtime import ModelFileError, Recommender

def in_child(call):
    \"\"\"The result in a forked child, as text; it has ten seconds.\"\"\"
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            printed = repr(call())
        except Exception as error:
            printed = f"{type(error).__name__}: {error}"
        os.write(here, printed.encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "the child did not end by itself"
    os.close(here)
    return os.read(there, 9999).decode()
"""
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@can_fork
def test_a_worker_forked_after_its_file_was_replaced_or_deleted_answers(
    string_path: Path, int64_path: Path, tmp_path: Path
) -> None:
    code = """
import shutil
shutil.copy(sys.argv[1], "model.onnx")
recommender = Recommender.load("model.onnx")
shutil.copy(sys.argv[2], "new.onnx")
os.replace("new.onnx", "model.onnx")
assert in_child(lambda: recommender.recommend(["NA"])) == repr(recommender.recommend(["NA"]))
os.remove("model.onnx")
assert in_child(lambda: recommender.recommend(["NA"])) == repr(recommender.recommend(["NA"]))
"""
    run(FORKED + code, string_path, int64_path, cwd=tmp_path)


@can_fork
def test_with_several_threads_a_worker_without_its_file_gets_the_remedies(
    string_path: Path, tmp_path: Path
) -> None:
    code = """
import shutil
shutil.copy(sys.argv[1], "model.onnx")
recommender = Recommender.load("model.onnx", n_threads=2)
os.remove("model.onnx")
printed = in_child(lambda: recommender.recommend(["NA"]))
assert printed.startswith("ModelFileError") and "does not exist" in printed, printed
assert "load it after the fork, or with n_threads=1" in printed, printed
# Both remedies work.
shutil.copy(sys.argv[1], "model.onnx")
answer = repr(recommender.recommend(["NA"]))
assert in_child(lambda: Recommender.load("model.onnx", n_threads=2).recommend(["NA"])) == answer
recommender = Recommender.load("model.onnx", n_threads=1)
os.remove("model.onnx")
assert in_child(lambda: recommender.recommend(["NA"])) == answer
"""
    run(FORKED + code, string_path, cwd=tmp_path)


@can_fork
def test_a_fork_while_another_thread_reads_item_vectors_leaves_similar_working(
    string_path: Path, tmp_path: Path
) -> None:
    code = """
import threading
recommender = Recommender.load(sys.argv[1])
reading, forked = threading.Event(), threading.Event()
read = recommender.stored

def slowly():
    reading.set()
    assert forked.wait(30)
    return read()

recommender.stored = slowly
thread = threading.Thread(target=recommender.similar, args=("NA",))
thread.start()
assert reading.wait(30)

def ask():
    recommender.stored = read
    return recommender.similar("NA")

printed = in_child(ask)
forked.set()
thread.join()
assert printed == repr(recommender.similar("NA")), printed
"""
    run(FORKED + code, string_path, cwd=tmp_path)


@can_fork
def test_a_fork_waits_for_answers_under_way_and_lets_the_next_ones_wait(
    string_path: Path, tmp_path: Path
) -> None:
    code = """
import threading, time
recommender = Recommender.load(sys.argv[1])
before = repr(recommender.recommend(["NA"]))
session, begun, n_inside = recommender._run.session, threading.Event(), 0

class Slow:
    def run(self, *arguments):
        global n_inside
        n_inside += 1
        begun.set()
        time.sleep(0.3)
        found = session.run(*arguments)
        n_inside -= 1
        return found

recommender._run.session = Slow()
ended, printed = False, []

def answer():
    while not ended:
        printed.append(repr(recommender.recommend(["NA"])))

threads = [threading.Thread(target=answer) for _ in range(2)]
for thread in threads:
    thread.start()
assert begun.wait(30)

def ask():
    assert n_inside == 0
    recommender._run.session = session
    return recommender.recommend(["NA"])

for _ in range(3):
    assert in_child(ask) == before
    time.sleep(0.1)
ended = True
for thread in threads:
    thread.join()
assert set(printed) == {before}
"""
    run(FORKED + code, string_path, cwd=tmp_path)


def test_loading_answering_and_failing_print_nothing(
    string_path: Path, unsealed: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    # One more part of the graph with a tensor that no node uses: onnxruntime warns of it.
    unused = b"\x3a\x14\x2a\x12\x08\x01\x10\x01\x42\x06unused\x4a\x04" + bytes(4)
    content = seal(unsealed(string_path.read_bytes()) + unused)
    (tmp_path / "unused.onnx").write_bytes(content)
    code = """
from pathlib import Path
from attnrec.runtime import ModelFileError, Recommender

Recommender.load("unused.onnx", verify=False).recommend(["NA"])
recommender = Recommender.load(sys.argv[1])
recommender.recommend(["NA"])
recommender.recommend_batch([["NA"], []])
recommender.score(["NA"], ["no such item"])
recommender.selftest()
content = Path(sys.argv[1]).read_bytes()
for broken in (b"", content[:-100], content.replace(b"TopK", b"TopQ")):
    Path("broken.onnx").write_bytes(broken)
    for verify in (True, False):
        try:
            Recommender.load("broken.onnx", verify=verify)
        except ModelFileError:
            continue
        raise SystemExit(f"loaded with verify={verify}")
try:
    recommender.recommend([None])
except ValueError:
    pass
"""
    result = run(code, string_path, cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("", "")


def test_no_socket_is_opened_and_nothing_is_left_in_the_home_directory(
    string_path: Path, tmp_path: Path
) -> None:
    code = """
import time
seen = []
sys.addaudithook(lambda event, arguments: event.startswith("socket.") and seen.append(event))
from attnrec.runtime import Recommender

recommender = Recommender.load(sys.argv[1])
recommender.recommend(["NA"])
recommender.selftest()
time.sleep(0.2)
assert not seen, seen
"""
    run(code, string_path, cwd=tmp_path)
    # Where onnxruntime reports to its maker, it leaves a queue below the home directory.
    assert list((tmp_path / "home").rglob("*")) == []


def test_reporting_is_off_unless_the_environment_sets_it(tmp_path: Path) -> None:
    code = """
os.environ.update(dict([sys.argv[1].split("=")] if len(sys.argv) > 1 else []))
import attnrec.runtime
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert run(code, cwd=tmp_path / "a").stdout == "1\n"
    assert run(code, "ORT_DISABLE_TELEMETRY=0", cwd=tmp_path / "b").stdout == "0\n"


def test_the_runtime_imports_numpy_and_onnxruntime_and_no_other_library(tmp_path: Path) -> None:
    code = """
import attnrec.runtime
heavy = {"torch", "onnx", "onnx_ir", "pandas", "pyarrow", "typer", "rich", "starlette"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
ours = {name for name in sys.modules if name.startswith("attnrec.")}
assert all(name.startswith("attnrec.runtime") for name in ours), ours
"""
    run(code, cwd=tmp_path)


def test_the_package_states_its_types_and_its_version() -> None:
    assert importlib.resources.files("attnrec.runtime").joinpath("py.typed").is_file()
    assert attnrec.runtime.__version__ == version("attnrec")
    assert all(hasattr(attnrec.runtime, name) for name in attnrec.runtime.__all__)

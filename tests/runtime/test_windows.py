"""The runtime on a system that is not POSIX, as far as one can play it anywhere.

A child process takes away what Windows does not have, for our modules and not for those of others,
and makes the file system refuse what it refuses there.
"""

import os
import subprocess
import sys
from pathlib import Path

WINDOWS = r'''
import builtins, importlib, os, pathlib, pickle, pkgutil, signal, sys, types, warnings
# What belongs to others is imported while the system is still what it is.
for name in ("numpy", "onnxruntime", "concurrent.futures", "multiprocessing", "tempfile", "shutil",
             "subprocess", "socket", "asyncio", "typer", "rich.logging", "rich.table",
             "uvicorn", "starlette.applications", "msgspec"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        pass

POSIX_MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix")
for name in POSIX_MODULES:
    sys.modules[name] = None  # importing it is an ImportError

HIDDEN = {
    "os": {
        "fork", "forkpty", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "nice",
        "sched_yield", "getuid", "geteuid", "getgid", "getegid", "setsid", "killpg", "getpgid",
        "chown", "fchown", "lchown", "fchmod", "mkfifo", "mknod", "statvfs", "fstatvfs", "sysconf",
        "uname", "wait", "wait3", "wait4", "waitid", "posix_fadvise", "posix_fallocate",
        "pread", "pwrite", "sendfile", "fdatasync", "sync", "getloadavg", "openpty", "ctermid",
        "memfd_create", "eventfd", "pidfd_open", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC",
        "O_NONBLOCK", "O_SYNC", "O_DSYNC", "O_TMPFILE", "O_NOATIME", "WNOHANG", "WIFEXITED",
        "WEXITSTATUS", "P_ALL", "SEEK_DATA", "environb", "getenvb", "EX_OK",
    },
    "signal": {
        "SIGKILL", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE", "SIGQUIT",
        "SIGSTOP", "SIGCONT", "alarm", "setitimer", "pause", "siginterrupt", "pthread_sigmask",
        "pthread_kill", "sigwait",
    },
    "time": {"tzset", "pthread_getcpuclockid"},
    "socket": {"AF_UNIX", "SO_REUSEPORT", "socketpair_unix", "sendmsg"},
}


class OnWindows(types.ModuleType):
    """A module without what Windows has not; whoever imported it before keeps the whole."""

    def __init__(self, module):
        super().__init__(module.__name__)
        self.__dict__["_module"] = module

    def __getattr__(self, name):
        if name in HIDDEN[self.__name__]:
            raise AttributeError(f"Windows has no {self.__name__}.{name}")
        return getattr(self._module, name)


def is_open(path):
    wanted = os.path.realpath(path)
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return any(os.path.realpath(link) == wanted for link in links)


def refusing(function, is_refused):
    def call(path, *arguments, **options):
        if is_refused(path, *arguments):
            raise PermissionError(13, "Access is denied", os.fspath(path))
        return function(path, *arguments, **options)
    return call


if os.path.isdir("/proc/self/fd"):
    os.replace = refusing(os.replace, lambda source, target: is_open(source) or is_open(target))
    os.rename = os.replace
    os.unlink = os.remove = refusing(os.unlink, lambda path, *rest: is_open(path))
os.open = refusing(os.open, lambda path, *rest: os.path.isdir(path))
windows = {name: OnWindows(importlib.import_module(name)) for name in HIDDEN}
windows["os"].name = "nt"
windows["os"].linesep = "\r\n"
sys.modules.update(windows)
sys.modules["os.path"] = windows["os"].path
# A text file is opened with the encoding of the system there, unless one is named.
warnings.filterwarnings("error", category=EncodingWarning, module=r"attnrec\.")
'''


def on_windows(code: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own that plays Windows with a code page for text."""
    script = cwd / "script.py"
    script.write_text(WINDOWS + code, encoding="utf-8")
    environment = {
        name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "HOME") if name in os.environ
    }
    environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    return subprocess.run(
        [sys.executable, "-P", "-X", "warn_default_encoding", str(script), *map(str, arguments)],
        cwd=cwd,
        env=environment | {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


POSIX_ONLY = [
    "os.fork()",
    "os.sched_getaffinity(0)",
    "os.register_at_fork(before=print)",
    "from os import O_DIRECTORY",
    "import fcntl",
    "import resource",
    "signal.SIGKILL",
    "signal.alarm(1)",
    "assert os.name == 'posix'",
    "os.open('.', os.O_RDONLY)",
    "open('new', 'wb').close(); file = open('old', 'wb'); os.replace('new', 'old')",
    "file = open('old', 'wb'); os.unlink('old')",
    "open('old', 'w')",
]


def test_what_windows_does_not_have_is_an_error_here(tmp_path: Path) -> None:
    for number, line in enumerate(POSIX_ONLY):
        module = f"import os, signal\n{line}\n"
        (tmp_path / f"ours{number}.py").write_text(module, encoding="utf-8")
    code = """
from importlib.util import module_from_spec, spec_from_file_location

for number in range(int(sys.argv[1])):
    # A module of our name, imported afterwards, as ours are.
    spec = spec_from_file_location(f"attnrec.ours{number}", f"ours{number}.py")
    try:
        spec.loader.exec_module(module_from_spec(spec))
    except (AssertionError, AttributeError, EncodingWarning, ImportError, PermissionError):
        continue
    print(number)
"""
    result = on_windows(code, len(POSIX_ONLY), cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_every_module_of_the_runtime_is_imported(tmp_path: Path) -> None:
    code = """
import attnrec.runtime
found = list(pkgutil.walk_packages(attnrec.runtime.__path__, "attnrec.runtime."))
for module in found:
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:  # serving needs more than a device has
        if "serving" not in module.name or error.name in POSIX_MODULES:
            raise
print(len(found))
"""
    result = on_windows(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 10


def test_a_file_is_loaded_asked_and_pickled(string_path: Path, tmp_path: Path) -> None:
    code = """
from attnrec.runtime import Recommender

path = pathlib.Path("a file.onnx")
path.write_bytes(pathlib.Path(sys.argv[1]).read_bytes())
recommender = Recommender.load(path, n_threads=2)
answer = recommender.recommend(["NA", "🛒"], k=5)
assert len(answer) == 5 and answer.n_known == 2
assert len(recommender.recommend_batch([["NA"], []])) == 2
assert recommender.score(["NA"], ["é"])[0] < 100
assert recommender.selftest() >= 4
assert pickle.loads(pickle.dumps(recommender)).recommend(["NA", "🛒"], k=5) == answer
os.replace(path, "free.onnx")  # nothing holds the file open
"""
    result = on_windows(code, string_path, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_file_is_replaced_as_a_whole_unless_somebody_has_it_open(tmp_path: Path) -> None:
    code = """
from attnrec.runtime.files import replace_file

target = pathlib.Path("model.onnx")
for content in (b"old", b"new"):
    with replace_file(target) as temporary:
        temporary.write_bytes(content)
    assert target.read_bytes() == content
with open(target, "rb") as reader:
    try:
        with replace_file(target) as temporary:
            temporary.write_bytes(b"newer")
        assert not os.path.isdir("/proc/self/fd")
    except PermissionError as error:
        assert reader.read() == b"new"
        assert "model.onnx" in str(error.filename)
assert sorted(os.listdir()) == ["model.onnx", "script.py"]
"""
    result = on_windows(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_block_that_leaves_its_file_open_is_told_its_own_error(tmp_path: Path) -> None:
    code = """
from attnrec.runtime.files import replace_file

try:
    with replace_file("model.onnx") as temporary:
        file = open(temporary, "wb")
        raise ValueError("the block's own")
except ValueError as error:
    print(error)
"""
    result = on_windows(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "the block's own\n"

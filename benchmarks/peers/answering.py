"""The process of a peer: it imports, loads, answers, and tells how long that took.

    PEER_PYTHON answering.py MODULE prepare FOLDER       make what will be loaded
    PEER_PYTHON answering.py MODULE start FOLDER CLOCK   a cold start, a line of JSON
    PEER_PYTHON answering.py MODULE turns FOLDER         a line of JSON for each line of stdin

MODULE is a file beside this one, or MODULE:VARIANT. It is imported with all that its peer needs,
and has `load(folder, variant)`, which returns an `Answerer`. FOLDER holds `setting.json`,
`ids.npy` and `histories.npy`. Needs Python and numpy; exits 1 where the peer is not installed.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module, metadata
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

K = 10
Id = int | str


class Answerer(Protocol):
    """What a module of a peer loads."""

    comes_back: str
    """What the peer itself returns, before this benchmark makes ids of it."""

    def ask(self, history: list[Id]) -> list[Id]:
        """The best `K` items that are not in the history."""

    def ask_batch(self, histories: list[list[Id]]) -> list[list[Id]]:
        """The same for many."""


def peer_module(name: str) -> Any:
    """The module; exits 1 where what it imports is not there."""
    try:
        return import_module(name)
    except ImportError as error:
        raise SystemExit(
            f"{name}: {error}; this Python ({sys.executable}) lacks the peer, "
            "benchmarks/peers/venvs.py makes one that has it"
        ) from error


def histories_of(folder: Path) -> list[list[Id]]:
    """(256, 50) raw ids, oldest first."""
    numpy = import_module("numpy")
    histories: list[list[Id]] = numpy.load(folder / "histories.npy").tolist()
    return histories


def peak_mb() -> float:
    """Highest resident memory of this program; what getrusage tells may be of who started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def packages() -> dict[str, Any]:
    """Versions and megabytes of what was imported, and megabytes of all that pip put there.

    Without compiled bytecode, which pip can leave out, and without pip and setuptools.
    """
    imported = {name.partition(".")[0] for name in list(sys.modules)}
    owners = metadata.packages_distributions()
    used = {owner for name in imported for owner in owners.get(name, ())}
    megabytes = {}
    for distribution in metadata.distributions():
        files = [Path(distribution.locate_file(file)) for file in distribution.files or ()]
        sizes = [f.stat().st_size for f in files if f.suffix != ".pyc" and f.is_file()]
        megabytes[distribution.name] = sum(sizes) / 1e6
    tools = {"pip", "setuptools"}
    return {
        "versions": {name: metadata.version(name) for name in sorted(used - tools)},
        "used_mb": sum(megabytes[name] for name in used - tools),
        "installed_mb": sum(mb for name, mb in megabytes.items() if name not in tools),
    }


def start(module: str, variant: str, folder: Path, clock: float) -> dict[str, Any]:
    """From nothing to the first answer. clock: of the parent, before it made this process."""
    begun = time.perf_counter()
    peer = peer_module(module)
    imported = time.perf_counter()
    answerer = peer.load(folder, variant)
    loaded = time.perf_counter()
    (history, *_) = histories_of(folder)
    asked = time.perf_counter()
    answerer.ask(history)
    end, used = time.perf_counter(), time.process_time()
    return {
        "python_ms": 1e3 * (begun - clock),
        "import_ms": 1e3 * (imported - begun),
        "load_ms": 1e3 * (loaded - imported),
        "first_answer_ms": 1e3 * (end - asked),
        "total_ms": 1e3 * (end - clock - (asked - loaded)),  # the histories were ours to read
        "processor_ms": 1e3 * used,
        "peak_mb": peak_mb(),
        "comes_back": answerer.comes_back,
        **packages(),
    }


def timed(call: Callable[[Any], Any], asked: Any, seconds: float) -> list[tuple[float, float]]:
    """Microseconds of single calls, by the clock and of the processor, for so many seconds.

    At least one call. Where others want the core, a long call waits for it more often than a
    short one; processor time does not count that.
    """
    call(next(asked))  # finds the caches full of the others, so it does not count
    taken = []
    now = time.perf_counter_ns()
    end = now + int(1e9 * seconds)
    while now < end or not taken:
        question = next(asked)
        used = time.process_time_ns()
        begun = time.perf_counter_ns()
        call(question)
        now = time.perf_counter_ns()
        taken.append(((now - begun) / 1e3, (time.process_time_ns() - used) / 1e3))
    return taken


def take_turns(module: str, variant: str, folder: Path, tell: Callable[[Any], None]) -> None:
    """Answer {"what": "answers" | "one" | "batch", "seconds": s} until stdin ends."""
    answerer = peer_module(module).load(folder, variant)
    histories = histories_of(folder)
    questions = {"one": cycle(histories), "batch": cycle([histories])}
    calls = {"one": answerer.ask, "batch": answerer.ask_batch}
    tell("ready")
    for line in sys.stdin:
        order = json.loads(line)
        what = order["what"]
        if what == "answers":
            tell([answerer.ask(history) for history in histories[: order["n"]]])
        else:
            tell(timed(calls[what], questions[what], order["seconds"]))


def main() -> None:
    (module, _, variant), what, folder = sys.argv[1].partition(":"), sys.argv[2], Path(sys.argv[3])
    # What peers print must not come between the lines of JSON.
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(value: Any) -> None:
        lines.write(json.dumps(value) + "\n")

    if what == "prepare":
        peer_module(module).prepare(folder, json.loads((folder / "setting.json").read_text()))
    elif what == "start":
        tell(start(module, variant, folder, float(sys.argv[4])))
    else:
        take_turns(module, variant, folder, tell)


if __name__ == "__main__":
    main()

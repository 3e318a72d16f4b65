"""Does a test notice when the code is wrong? One small fault at a time, from `mutants.toml`.

    python benchmarks/mutants.py                    all of them, about a quarter of an hour
    python benchmarks/mutants.py --only loss seal   those whose meaning has such a word

Every fault is put into a copy of the checkout, and the test files that should notice it are run
there: a failing test kills the fault; if all pass, it survives. Before any fault the same tests
must pass, and every text must stand in its file exactly once. Exits with 1 if a fault survives,
with 2 where nothing can be said. For systems that fork: each run of tests is a fork of a process
that has imported torch and its like.
"""

import argparse
import importlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

from hypothesis import Phase, settings

_ROOT = Path(__file__).parents[1]
_LIST = Path(__file__).with_suffix(".toml")
_PACKAGES = ("train", "export", "runtime", "cli")
_IMPORTED_ONCE = ("matplotlib.pyplot", "onnxscript", "onnxruntime", "pandas", "pytest", "torch")
_PASSED, _FAILED = 0, 1  # of pytest; anything else is no answer
_LONGEST = 900  # seconds; a fault may make a test endless


class Mutant(NamedTuple):
    """One fault."""

    meaning: str
    file: str
    text: str
    """What stands there."""
    becomes: str
    tests: str
    """Files below tests/ that should notice, with blanks between them."""


class Copy:
    """A copy of the checkout, from which attnrec is imported."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        names = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        listed = subprocess.run(names, cwd=_ROOT, capture_output=True, text=True, check=True)
        for name in filter(None, listed.stdout.split("\0")):
            if (_ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(_ROOT / name, self.tree / name)
        # What comes first along the path is imported.
        packages = folder / "path" / "attnrec"
        packages.mkdir(parents=True)
        for name in _PACKAGES:
            (packages / name).symlink_to(self.tree / name)
        shutil.copy2(self.tree / "package" / "__init__.py", packages)
        self._path = str(packages.parent)
        self._printed = folder / "printed"

    def test(self, files: list[str]) -> tuple[int, str]:
        """Exit status of the tests of these files, and what they print."""
        run = multiprocessing.get_context("fork").Process(target=self._test, args=(files,))
        run.start()
        run.join(_LONGEST)
        if run.is_alive():
            run.kill()
            return _FAILED, f"no end within {_LONGEST} s"
        assert run.exitcode is not None
        return run.exitcode, self._printed.read_text("utf-8", "replace")

    def _test(self, files: list[str]) -> None:
        """In the fork, which ends here."""
        with open(self._printed, "w") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        os.chdir(self.tree)
        sys.path.insert(0, self._path)
        os.environ["PYTHONPATH"] = self._path  # for processes that tests start
        # Compiled files go by size and second, which a fault may share with what was there.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        arguments = ["-q", "-x", "-p", "no:cacheprovider", *(f"tests/{name}" for name in files)]
        # What was imported for all brings hypothesis along, which needs no rewriting.
        arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        status = int(importlib.import_module("pytest").main(arguments))
        sys.stdout.flush()
        os._exit(status)

    def test_with(self, mutant: Mutant) -> tuple[int, str]:
        """The same with a fault, which is gone afterwards."""
        path = self.tree / mutant.file
        sound = path.read_text(encoding="utf-8")
        path.write_text(sound.replace(mutant.text, mutant.becomes), encoding="utf-8")
        try:
            return self.test(mutant.tests.split())
        finally:
            path.write_text(sound, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="WORD", help="words of the meaning")
    words = parser.parse_args().only or [""]
    mutants = [Mutant(**fault) for fault in tomllib.loads(_LIST.read_text("utf-8"))["mutant"]]
    check_texts(mutants)
    asked = [mutant for mutant in mutants if any(word in mutant.meaning for word in words)]
    if not asked:
        stop(f"no fault has {' or '.join(words)} in its meaning; see {_LIST.name}")
    os.environ |= {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    for name in _IMPORTED_ONCE:
        importlib.import_module(name)
    # That a test fails is enough: no smaller example is looked for, which takes minutes.
    settings.register_profile("quick", phases=[Phase.explicit, Phase.generate])
    settings.load_profile("quick")
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        status, output = copy.test(sorted({name for m in asked for name in m.tests.split()}))
        if status != _PASSED:
            stop(f"the tests fail without any fault:\n{output}")
        survived = sum(not is_killed(copy, mutant) for mutant in asked)
    print(f"{len(asked)} faults, {survived} survived")
    sys.exit(1 if survived else 0)


def check_texts(mutants: list[Mutant]) -> None:
    """A list that no longer fits the code says nothing about the tests."""
    wrong = []
    for mutant in mutants:
        path = _ROOT / mutant.file
        count = path.read_text("utf-8").count(mutant.text) if path.is_file() else 0
        if count != 1 or mutant.text == mutant.becomes:
            wrong.append(f"{mutant.meaning}: stands {count} times in {mutant.file}, not once")
    if wrong:
        stop("\n".join([f"{_LIST.name} does not fit the code:", *wrong]))


def is_killed(copy: Copy, mutant: Mutant) -> bool:
    """Print the line of one fault."""
    start = time.monotonic()
    status, output = copy.test_with(mutant)
    if status not in (_PASSED, _FAILED):
        stop(f"{mutant.meaning}: the tests cannot run:\n{output}")
    by = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", output, re.MULTILINE)
    verdict = "SURVIVED" if status == _PASSED else "killed  "
    noticed = by[1] if by else output[:30].strip() if status else mutant.tests
    seconds = time.monotonic() - start
    print(f"{verdict} {mutant.meaning:<62} {noticed} ({seconds:.0f} s)", flush=True)
    return status != _PASSED


def stop(message: str) -> None:
    """End where nothing can be said."""
    print(message, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()

"""A run of the tests says at its end what it left out, and the line that installs it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_without_chromium_the_end_says_once_how_many_tests_need_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    result = subprocess.run(
        [*command, "tests/serving/test_page.py"],
        cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    (line,) = [line for line in result.stdout.splitlines() if "Chromium" in line]
    n_tests, _, rest = line.partition(" tests: ")
    assert int(n_tests) > 10
    assert rest == "no Chromium here: apt-get install chromium, or name one in ATTNREC_CHROMIUM"

"""A device kit from the first command to the last, in an environment with nothing of ours."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from attnrec.runtime import Recommender

pytestmark = pytest.mark.examples

BIN = Path(sys.executable).parent


def shell(line: str, folder: Path) -> str:
    """Run a line as a person would who has Python and nothing else."""
    path = f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        ["bash", "-c", line], cwd=folder, text=True, capture_output=True,
        env={**environment, "PATH": path},
    )  # fmt: skip
    assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What attnrec-export writes for a run on a small log: 40 people walk along a ring."""
    folder = tmp_path_factory.mktemp("device")
    events = [(user, (user + step) % 25, step) for user in range(40) for step in range(12)]
    lines = [f"u{user},place {item},{1_700_000_000 + step}" for user, item, step in events]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines, ""]))
    train = [BIN / "attnrec-train", "log.csv", "--model", "markov-chain", "--out", "run"]
    export = [BIN / "attnrec-export", "run", "--kit", "kit"]
    for command in (train, export):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "kit"


def commands(kit: Path, after: str) -> list[str]:
    """The first block of commands after a heading of the kit's README."""
    text = (kit / "README.md").read_text().partition(after)[2]
    block = re.findall("^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
    return [line for line in block.splitlines() if line]


def check(kit: Path) -> dict[str, str]:
    told = json.loads(shell("venv/bin/python check.py --json", kit))
    assert told["ok"]
    return {row["name"]: row["found"] for row in told["rows"]}


def test_the_commands_of_its_readme_install_check_ask_and_trim_it(kit) -> None:
    for line in commands(kit, "# A recommender for this device"):
        told = shell(line, kit)
    assert told.endswith("all is well\n")
    installed = shell("venv/bin/python -m pip list --format=freeze", kit).split()
    names = {line.partition("==")[0] for line in installed} - {"pip", "setuptools"}
    assert names == {"numpy", "onnxruntime"}

    (question,) = commands(kit, "## Ask")
    answer = json.loads(shell(question, kit))
    history = json.loads(re.findall("'(.*)'", question)[0])["history"]
    here = Recommender.load(kit / "model.onnx")
    assert answer["item_ids"] == here.recommend(history, 3).item_ids
    before = check(kit)

    trim, again = commands(kit, "## Smaller")
    sizes = [int(mb) for mb in re.findall(r"(\d+) MB", shell(trim, kit))]
    assert sizes[1] < 0.6 * sizes[0]
    assert shell(again, kit).endswith("all is well\n")
    after = check(kit)
    assert {**before, "memory": "", "latency": ""} == {**after, "memory": "", "latency": ""}
    # Nothing complains that a part of it is gone.
    asked = f"{question} 2>&1"
    assert json.loads(shell(asked, kit)) == answer
    remove = re.findall(
        "`(venv/bin/python -m pip uninstall .*?)`", (kit / "README.md").read_text()
    )
    shell(remove[0], kit)
    check(kit)


def test_packages_for_another_machine_can_be_laid_beside_it(kit) -> None:
    (line,) = commands(kit, "## A device without a network")
    shell(f"{sys.executable} -m {line}", kit)
    engine = next((kit / "site" / "onnxruntime" / "capi").glob("onnxruntime_pybind11_state*.so"))
    assert engine.read_bytes()[18:20] == b"\xb7\0", "e_machine of aarch64"
    told = shell(f"{sys.executable} trim.py site", kit)
    assert re.search(r"site: \d+ MB before, \d+ MB now", told)
    assert engine.exists()

"""`attnrec COMMAND` is `attnrec-COMMAND`; alone it says what there is, and shells complete it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(sys.executable).parent
FILE = Path(__file__).parents[1] / "data" / "format-1" / "tiny-string.onnx"
SCRIPTED = ["train", "export", "evaluate", "recommend", "serve", "bench"]
COMMANDS = [*SCRIPTED, "tune", "compare"]


def call(script: str, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPTS / script, *map(str, words)], capture_output=True, text=True,
        env=os.environ | variables, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip


def test_alone_it_lists_every_command() -> None:
    listed = call("attnrec", "--help").stdout
    assert all(f" {command} " in listed for command in COMMANDS)
    assert call("attnrec").stdout == listed


@pytest.mark.parametrize("command", SCRIPTED)
def test_a_command_is_the_script_of_its_name(command: str) -> None:
    one, other = call("attnrec", command, "--help"), call(f"attnrec-{command}", "--help")
    assert one.returncode == other.returncode == 0
    assert one.stdout == other.stdout


def test_a_command_gets_what_follows_it() -> None:
    words = ("--history", "sku-1", "-k", 2, "--json")
    one, other = (
        call("attnrec", "recommend", FILE, *words),
        call("attnrec-recommend", FILE, *words),
    )
    assert one.stdout == other.stdout and '"item_ids"' in one.stdout


def test_a_command_that_there_is_not_is_refused_by_its_name() -> None:
    outcome = call("attnrec", "trian")
    assert outcome.returncode == 2 and "'trian'" in outcome.stderr


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("attnrec tr", "train"),
        ("attnrec train --epo", "--epochs"),
        ("attnrec tune --min", "--min-item-events --min-rating --min-user-events --minutes"),
        ("attnrec compare --allow", "--allow-users"),
        ("attnrec serve --gr", "--grace"),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, completed: str) -> None:
    outcome = call(
        "attnrec", _ATTNREC_COMPLETE="complete_bash", COMP_WORDS=typed,
        COMP_CWORD=str(typed.count(" ")),
    )  # fmt: skip
    assert sorted(outcome.stdout.split()) == completed.split()


def test_the_package_itself_has_what_an_application_needs() -> None:
    program = "from attnrec import Recommender; import sys; print('torch' in sys.modules)"
    ask = f"print(Recommender.load({str(FILE)!r}).recommend(['sku-1'], k=2).item_ids)"
    outcome = subprocess.run(
        [sys.executable, "-c", f"{program}; {ask}"], capture_output=True, text=True
    )
    assert outcome.stdout == "False\n['sku-11', 'null']\n", outcome.stderr

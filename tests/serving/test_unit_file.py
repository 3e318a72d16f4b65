"""The systemd unit that operators copy: systemd takes it, and the server lives with it."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "docs" / "attnrec-serve.service"
COMMAND = str(Path(sys.executable).with_name("attnrec-serve"))
PR_SET_MDWE, PR_SET_NO_NEW_PRIVS = 65, 38


def settings() -> dict[str, str]:
    lines = [line for line in UNIT.read_text().splitlines() if line[:1].isalpha()]
    return dict(line.split("=", 1) for line in lines)


def test_systemd_finds_nothing_wrong_with_it(tmp_path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: apt-get install systemd")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/attnrec/bin/attnrec-serve", COMMAND))
    result = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_its_command_line_is_one_that_the_server_takes(start) -> None:
    command, file, *options = settings()["ExecStart"].split()
    assert command.endswith("/attnrec-serve") and file.endswith(".onnx")
    at = options.index("--port")
    server = start("tiny-string", *options[:at], *options[at + 2 :])
    assert server.ask({"history": []}).status == 200
    assert int(settings()["TimeoutStopSec"]) > int(options[options.index("--grace") + 1])


def test_the_server_needs_no_memory_that_is_written_and_executed(start) -> None:
    def restrict() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if libc.prctl(PR_SET_MDWE, 1, 0, 0, 0):
            raise OSError("no PR_SET_MDWE")

    probe = f"import ctypes; exit(ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0) != 0)"
    if subprocess.run([sys.executable, "-c", probe]).returncode:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    server = start("tiny-int8", preexec_fn=restrict)
    assert server.ask({"history": []}).status == 200
    assert server.send("GET", "/readyz").status == 200

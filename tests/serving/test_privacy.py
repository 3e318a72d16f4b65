"""The process opens no connection and writes no file, and needs no rights to run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("attnrec-serve"))
# Runs the command with every such event written to standard output.
AUDITED = """
import os, sys
def note(event, arguments):
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (
        os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    if writes or event in EVENTS:
        os.write(1, ascii((event, arguments[:2])).encode() + b"\\n")
EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.rename",
    "os.remove", "os.mkdir", "socket.bind"}
sys.argv = sys.argv[1:]
sys.addaudithook(note)
from attnrec.cli.main import serve
serve()
"""


def test_it_connects_to_nothing_and_writes_nothing(start) -> None:
    prefix = [sys.executable, "-B", "-c", AUDITED]
    server = start("tiny-string", prefix=prefix)
    for path in ("/", "/healthz", "/readyz", "/metrics", "/v1/model", "/openapi.json"):
        assert server.send("GET", path).status == 200
    for path, body in (
        ("recommend", {"history": ["sku-1"]}),
        ("score", {"history": [], "items": ["sku-1"]}),
        ("similar", {"item": "sku-1"}),
        ("explain", {"history": ["sku-1"], "item": "sku-2"}),
    ):
        assert server.send("POST", f"/v1/{path}", body).status == 200
    assert server.reload() == (1, 0)
    server.process.terminate()
    out, errors = server.process.communicate(timeout=30)
    events = out.splitlines()
    assert any("socket.bind" in event for event in events)  # the hook was there
    rest = [e for e in events if "socket.bind" not in e and "127.0.0.1" not in e]
    assert rest == [], rest
    assert not [event for event in events if "socket.connect" in event]
    assert server.process.returncode == 0, errors


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nobody_can_run_it_on_a_read_only_system_without_a_home(start, data, tmp_path) -> None:
    inside = [
        "unshare", "-m", "sh", "-c",
        'mount -o remount,ro,bind / && exec "$@"', "sh",
        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
    ]  # fmt: skip
    if not shutil.which("setpriv") or not shutil.which("unshare"):
        pytest.skip("setpriv and unshare are not here: apt-get install util-linux")
    # What nobody needs is the command, with all that it imports, and the model file.
    needed = [[COMMAND, "--version"], ["test", "-r", data / "tiny-string.onnx"]]
    probes = [subprocess.run([*inside, *words], cwd="/", capture_output=True) for words in needed]
    if any(probe.returncode for probe in probes):
        pytest.skip(
            "this system does not permit it, or nobody may not read this checkout: "
            "put it where everybody may read"
        )
    server = start("tiny-string", prefix=inside, cwd="/", env={"PATH": os.environ["PATH"]})
    owner = os.stat(f"/proc/{server.process.pid}").st_uid
    assert owner == 65534
    assert server.ask({"history": ["sku-1"]}).status == 200
    assert server.reload() == (1, 0)
    code, errors = server.stop()
    assert code == 0 and "Traceback" not in errors

"""The page about models of one's own: its code trains, exports and is served."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-own-model.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```\n(attnrec-train.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run_python(code: str, folder: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder, text=True, capture_output=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert not check or result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two modules of the page, a log, and a table of people."""
    made = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    rows, people = [], []
    for user in range(60):
        group = user % 2
        people.append((f"user {user}", ["students", "gardeners"][group]))
        item = 20 * group + int(rng.integers(20))
        for time in range(int(rng.integers(3, 20))):
            rows.append((f"user {user}", f"item {item:02}", time))
            item = 20 * group + (item + int(rng.choice([1, 1, 2]))) % 20
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    log.to_csv(made / "events.csv", index=False)
    pd.DataFrame(people, columns=["user_id", "segment"]).to_csv(made / "people.csv", index=False)
    modules = {m[1]: code for code in CODE if (m := re.match(r"# (\w+\.py)\n", code))}
    assert set(modules) == {"gru.py", "tagged.py"}
    for name, code in modules.items():
        (made / name).write_text(code, encoding="utf-8")
    return made


def block(start: str) -> str:
    """The code of the page that starts so."""
    (code,) = (code for code in CODE if code.startswith(start))
    return code


@pytest.fixture(scope="module")
def gru(folder: Path) -> str:
    """What the script with the recurrent network prints."""
    return run_python(block("from attnrec.export"), folder).stdout


@pytest.fixture(scope="module")
def tagged(folder: Path) -> str:
    """What the script with the tags prints."""
    return run_python(block("# tags as an input"), folder).stdout


def test_neither_model_borrows_from_sasrec(folder: Path) -> None:
    for name in ("gru.py", "tagged.py"):
        assert "sasrec" not in (folder / name).read_text(encoding="utf-8")


def test_the_recurrent_network_is_trained_exported_and_proved(gru: str, folder: Path) -> None:
    assert "60 of 60 users with the identical top 10" in gru
    assert (folder / "gru.onnx").is_file()
    assert (folder / "gru-int8.onnx").stat().st_size < (folder / "gru.onnx").stat().st_size


def test_it_is_served_without_its_code(gru: str, folder: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "attnrec-serve", folder / "gru.onnx"]
    server = subprocess.Popen(
        [*command, "--port", str(port)], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        server.stderr.readline()  # "listening": it accepts from here on
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/recommend",
            json.dumps({"history": ["item 03"], "k": 3}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            items = json.load(reply)["items"]
    finally:
        server.terminate()
        server.communicate(timeout=20)
    assert len(items) == 3


def test_a_model_of_ones_own_takes_at_most_30_lines(folder: Path) -> None:
    assert len((folder / "gru.py").read_text(encoding="utf-8").splitlines()) <= 30


def test_the_commands_take_it_by_module_and_class(folder: Path) -> None:
    (commands,) = COMMANDS
    bin_folder = Path(sys.executable).parent
    for line in (
        commands.replace("gru-run", "own-run").replace("gru.onnx", "own.onnx").splitlines()
    ):
        name, *arguments = line.split()
        subprocess.run(
            [bin_folder / name, *arguments, *["--no-report"] * (name == "attnrec-train")],
            cwd=folder, env=ENVIRONMENT, check=True, capture_output=True,
        )  # fmt: skip
    config = json.loads((folder / "own-run" / "config.json").read_text(encoding="utf-8"))
    assert config["train"]["model"] == "gru:GRU"
    assert config["model_config"]["hidden_dim"] == 32
    assert (folder / "own.onnx").is_file()


def test_with_biases_the_export_refuses_it_as_the_page_says(gru: str, folder: Path) -> None:
    leaking = (folder / "gru.py").read_text(encoding="utf-8").replace("bias=False, ", "")
    (folder / "leaking.py").write_text(leaking, encoding="utf-8")
    code = (
        block("from attnrec.export").replace("gru:GRU", "leaking:GRU").replace("gru-run", "leak")
    )
    result = run_python(code.replace("gru.onnx", "leak.onnx"), folder, check=False)
    assert result.returncode != 0
    message = "the exported graph does not answer like the torch model"
    assert message in PAGE and message in result.stderr
    assert not (folder / "leak.onnx").exists()


def test_the_model_with_tags_serves_cold_users(tagged: str, folder: Path) -> None:
    inputs, items = tagged.splitlines()[-2:]
    assert "'user_tags'" in inputs and "'user'," not in inputs
    assert len(re.findall(r"'item [01]\d'", items)) == 3, "students take the first 20 items"
    gardeners = (
        "from attnrec.runtime import Recommender\n"
        "r = Recommender.load('tagged.onnx')\n"
        "print(r.recommend([], k=3, user_tags=['gardeners']).item_ids, r.info.n_users)"
    )
    answer = run_python(gardeners, folder).stdout
    assert len(re.findall(r"'item [23]\d'", answer)) == 3
    assert answer.rstrip().endswith("0"), "the file holds no user ids"

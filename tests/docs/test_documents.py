"""What README and docs tell people to type works as printed."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document: str, language: str, containing: str) -> list[str]:
    """Code blocks of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = [code for kind, code in BLOCK.findall(text) if kind == language and containing in code]
    assert found, f"{document} has no such block"
    return found


def run_shell(line: str, folder: Path) -> str:
    """Run a line as a person would, with the commands of this environment first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", line], cwd=folder, text=True, capture_output=True,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, f"{line}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the embedded log was trained on, with counts, which takes seconds."""
    folder = tmp_path_factory.mktemp("shop")
    run_shell("attnrec-train --model markov-chain && attnrec-export", folder)
    (folder / "model.onnx").write_bytes((folder / "attnrec-run" / "model.onnx").read_bytes())
    return folder


@pytest.mark.parametrize("document", ["README.md", "docs/file-format.md"])
def test_python_examples_run_as_printed(document, shop) -> None:
    for code in blocks(document, "python", "model.onnx"):
        subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=shop, check=True)


def test_the_seal_can_be_checked_with_common_tools(shop) -> None:
    (code,) = blocks("docs/file-format.md", "", "sha256sum")
    computed, stored = (run_shell(line, shop) for line in code.splitlines())
    assert computed.split()[0] == stored


def test_the_commands_of_the_readme_work_in_their_order(tmp_path) -> None:
    events = [f"u{u},{(u * 3 + s) % 40 + 85100},{s}" for u in range(40) for s in range(8)]
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(events) + "\n")
    titles = [f"{85100 + i},Thing {i}" for i in range(40)]
    (tmp_path / "products.csv").write_text("item_id,title\n" + "\n".join(titles) + "\n")
    (code,) = blocks("README.md", "", "attnrec-train --final")
    for line in code.splitlines():
        assert shlex.split(line, comments=True)[0].startswith("attnrec-")
        run_shell(line, tmp_path)
    assert (tmp_path / "attnrec-run-final" / "model.onnx").is_file()


def test_every_command_of_the_readme_names_a_file_that_exists() -> None:
    for path in re.findall(
        r"python ((?:benchmarks|examples)/\w+\.py)", Path(ROOT / "README.md").read_text()
    ):
        assert (ROOT / path).is_file()


def test_the_server_answers_the_request_of_its_page(shop) -> None:
    (start,) = blocks("docs/serving.md", "", "attnrec-serve attnrec-run")
    (ask,) = blocks("docs/serving.md", "", "curl")
    command = [str(Path(sys.executable).with_name("attnrec-serve")), *shlex.split(start)[1:]]
    with subprocess.Popen(
        [*command, "--port", "0"], cwd=shop, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        address = server.stderr.readline().split()[-1]
        answer = json.loads(run_shell(ask.replace("http://127.0.0.1:8000", address), shop))
        server.terminate()
    assert len(answer["items"]) == 3 and answer["n_known"] == 2
    assert server.returncode == 0

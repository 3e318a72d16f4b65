"""What README and docs tell people to type works as printed."""

import json
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import blocks, run_shell

from attnrec.train.models import MODELS

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "document",
    ["README.md", "README.zh-CN.md", "docs/file-format.md", "docs/explanations.md"],
)
def test_python_examples_run_as_printed(document, shop) -> None:
    for code in blocks(document, "python", "model.onnx"):
        subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=shop, check=True)


def test_the_seal_can_be_checked_with_common_tools(shop) -> None:
    (code,) = blocks("docs/file-format.md", "", "sha256sum")
    computed, stored = (run_shell(line, shop) for line in code.splitlines())
    assert computed.split()[0] == stored


def serving_commands() -> list[list[str]]:
    """The two lines of the documents that start a server."""
    (start,) = blocks("docs/serving.md", "", "attnrec-serve attnrec-run")
    unit = (ROOT / "docs/attnrec-serve.service").read_text(encoding="utf-8")
    (line,) = re.findall("^ExecStart=(.*)", unit, re.MULTILINE)
    return [shlex.split(start), shlex.split(line)]


@pytest.mark.parametrize("command", serving_commands(), ids=["shell", "systemd"])
def test_the_server_starts_answers_and_refuses_as_its_page_says(command, shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    script = Path(sys.executable).with_name(Path(command[0]).name)
    options = [port if word == "8000" else word for word in command[2:]]
    server = subprocess.Popen([script, shop / "attnrec-run" / Path(command[1]).name, *options])

    def ask(line: str) -> Any:
        return json.loads(run_shell(line.replace(":8000", f":{port}"), shop))

    try:
        wait = "curl -s --retry 30 --retry-delay 1 --retry-connrefused"
        assert ask(f"{wait} http://127.0.0.1:8000/readyz")["status"] == "ready"
        one, many, others = blocks("docs/serving.md", "", "curl")
        answer, problem = map(json.loads, blocks("docs/serving.md", "json", "{"))
        found = ask(one)
        assert (list(found), len(found["items"])) == (list(answer), len(answer["items"]))
        assert list(found["items"][0]) == list(answer["items"][0])
        assert len(ask(many)) == 2
        assert all("detail" not in ask(line) for line in others.splitlines())
        assert ask(one.replace('"22375"]', "5]")) == problem
    finally:
        server.terminate()
        assert server.wait(30) == 0


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


def test_every_command_of_a_measurement_names_a_file_that_exists() -> None:
    text = "".join((ROOT / page).read_text() for page in ("README.md", "docs/benchmarks.md"))
    paths = re.findall(r"python (benchmarks/[\w/]+\.py)", text)
    assert len(paths) > 5 and all((ROOT / path).is_file() for path in paths)


def commands_of(document: str) -> set[str]:
    """Every command line of a page that begins with attnrec-, without its comment."""
    lines = "\n".join(blocks(document, "", "attnrec-")).splitlines()
    return {
        " ".join(shlex.split(line, comments=True)) for line in lines if line.startswith("attnrec-")
    }


def test_the_chinese_readme_names_the_commands_and_models_of_the_english_one() -> None:
    known = {line.partition(" --out all #")[0] for line in commands_of("README.md")}
    assert commands_of("README.zh-CN.md") <= known
    models = []
    for document in ("README.md", "README.zh-CN.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        table = text.partition("| `--model` |")[2].partition("\n\n")[0]
        first = "".join(row.split("|")[1] for row in table.splitlines()[2:])
        models.append(re.findall(r"`([a-z-]+)`", first))
    assert models[0] == models[1]
    assert {*models[0]} == {*MODELS}


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

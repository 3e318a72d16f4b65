"""Every snippet of the documents is run: here on the default model, or by the test it names."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from documents import BLOCK, ROOT, blocks, run_shell

pytestmark = pytest.mark.examples

A_COMMAND = re.compile(
    r"^(attnrec[ -]|python|pip|make|curl|npm|node |torchrun|head|tail|install|mv|jupyter|[A-Z]+=)",
    re.MULTILINE,
)

# Documents whose every snippet is run by a test of their own.
TESTS = {
    "docs/attention.md": "docs/test_attention_page.py",
    "docs/content.md": "docs/test_content_page.py",
    "docs/inference-protocol.md": "serving/open_inference/test_inference_protocol.py",
    "docs/nightly.md": "serving/test_nightly_page.py",
    "docs/rules.md": "docs/test_rules_page.py",
    "docs/scale.md": "docs/test_scale_page.py",
    "docs/scenarios.md": "docs/test_scenarios.py",
    "docs/training.md": "docs/test_training_page.py",
    "docs/your-own-model.md": "docs/test_your_own_model.py",
    "examples/arm64/README.md": "examples/test_arm64.py",
    "examples/browser/README.md": "examples/test_browser.py",
    "examples/c/README.md": "examples/test_c.py",
    "examples/fastapi/README.md": "examples/test_web_app.py",
    "examples/notebook/README.md": "examples/test_notebook.py",
}
# Others by how they begin.
SNIPPETS = {
    ("README.md", "make demo"): "the whole journey; .ci/run runs it",
    ("README.md", "from attnrec import"): "docs/test_documents.py",
    ("README.md", "attnrec-train events.csv --items"): "docs/test_documents.py",
    ("README.md", "attnrec compare events.csv"): "cli/test_compare.py",
    ("docs/device-kit.md", "attnrec-export"): "here",
    ("docs/explanations.md", "from attnrec.runtime"): "docs/test_documents.py",
    ("docs/explanations.md", "attnrec-recommend"): "here",
    ("docs/explanations.md", "python benchmarks"): "measures for minutes",
    ("docs/file-format.md", "import numpy"): "docs/test_documents.py",
    ("docs/file-format.md", "head -c"): "docs/test_documents.py",
    ("docs/metrics.md", "attnrec-evaluate"): "here",
    ("docs/operations.md", "python3 -m venv"): "installs a service as root",
    ("docs/operations.md", "install -m"): "installs a service as root",
    ("docs/operations.md", "attnrec recommend"): "here",
    ("docs/operations.md", "import pyarrow"): "here",
    ("docs/serving.md", "attnrec-serve"): "docs/test_documents.py",
    ("docs/serving.md", "curl"): "docs/test_documents.py",
    ("examples/README.md", "pip install attnrec\n"): "examples/test_multiprocessing.py",
    ("examples/README.md", "pip install 'attnrec[train]' 'ray"): "examples/test_ray.py",
    ("examples/node/README.md", "npm ci"): "examples/test_node.py",
    ("examples/node/README.md", "import { load"): "here",
}


def test_no_snippet_is_forgotten() -> None:
    documents = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/README.md")]
    for document in documents:
        name = document.relative_to(ROOT).as_posix()
        if "node_modules" in name or name in TESTS:
            continue
        for kind, code in BLOCK.findall(document.read_text(encoding="utf-8")):
            if kind in ("python", "js") or (kind == "" and A_COMMAND.search(code)):
                known = [start for page, start in SNIPPETS if page == name]
                assert any(code.startswith(start) for start in known), f"{name}: {code[:60]!r}"
    for test in [*TESTS.values(), *SNIPPETS.values()]:
        assert not test.endswith(".py") or (ROOT / "tests" / test).is_file(), test


def test_the_kit_is_written(shop: Path) -> None:
    (code,) = blocks("docs/device-kit.md", "", "attnrec-export")
    run_shell(code, shop)
    assert (shop / "kit" / "model.onnx").is_file()


def test_the_command_says_why(shop: Path) -> None:
    (line,) = blocks("docs/explanations.md", "", "attnrec-recommend")
    assert "because of" in run_shell(line, shop)


def test_everybody_is_answered_as_the_page_says(shop: Path) -> None:
    users = {"user_id": [1, 2], "history": [["22375", "22492"], []]}
    pq.write_table(pa.table(users), shop / "users.parquet")
    (line,) = blocks("docs/operations.md", "", "--batch")
    assert run_shell(line, shop) == "2 users answered: answers.parquet\n"
    (code,) = blocks("docs/operations.md", "python", "recommend_table")
    same = "assert answers == pq.read_table('answers.parquet'), answers"
    subprocess.run([sys.executable, "-c", f"{code}\n{same}"], cwd=shop, check=True)


def test_node_answers_as_its_page_says(shop: Path, tmp_path: Path) -> None:
    example = ROOT / "examples" / "node"
    if shutil.which("node") is None:
        pytest.skip("no node here: apt-get install nodejs npm, then make examples")
    if not (example / "node_modules").is_dir():
        pytest.skip("onnxruntime-node is not installed: npm ci --prefix examples/node")
    for file in ("recommend.mjs", "package.json"):
        shutil.copy(example / file, tmp_path)
    (tmp_path / "node_modules").symlink_to(example / "node_modules")
    shutil.copy(shop / "model.onnx", tmp_path)
    (code,) = blocks("examples/node/README.md", "js", "load")
    (tmp_path / "page.mjs").write_text(code, encoding="utf-8")
    result = subprocess.run(
        ["node", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert len(result.stdout.splitlines()) == 5

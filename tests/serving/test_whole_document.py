"""Ten thousand requests made from the OpenAPI document, by a tool of others: `make soak`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path("build/schemathesis")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,negative_data_rejection"
)


@pytest.fixture(scope="module")
def schemathesis() -> str:
    """The command, in an environment of its own: it brings 28 packages that nothing else needs."""
    if not (TOOL / "bin" / "st").exists():
        subprocess.run([sys.executable, "-m", "venv", str(TOOL)], check=True)
        pip = [str(TOOL / "bin" / "pip"), "install", "-q", "schemathesis==4.32.5"]
        subprocess.run(pip, check=True)
    return str((TOOL / "bin" / "st").resolve())


@pytest.mark.soak
@pytest.mark.parametrize("file", ["tiny-string", "tiny-int64", "tiny-users", "tiny-times"])
def test_requests_of_any_kind_get_what_the_document_says(
    start, schemathesis, file, tmp_path
) -> None:
    # Bodies beyond --max-body get 413, which the tool does not count as refusing bad data.
    server = start(file, "--max-body", 1_000_000)
    result = subprocess.run(
        [
            schemathesis, "run", f"http://127.0.0.1:{server.port}/openapi.json",
            "--checks", CHECKS, "--max-examples", "500", "--max-response-time", "10",
            "--phases", "examples,coverage,fuzzing", "--seed", "1", "--continue-on-failure",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    generated = re.search(r"([\d,]+) generated", result.stdout)
    assert generated is not None, result.stdout[-2000:]
    assert int(generated[1].replace(",", "")) > 3500  # of each of the files
    assert server.send("GET", "/readyz").status == 200

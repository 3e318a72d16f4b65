"""Model files and a device kit on an emulated arm64: examples/arm64/setup.sh makes it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from attnrec.export.kit import write_kit
from attnrec.runtime import Recommender

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"


def run(processor: str, *arguments: object, asked: str = "") -> str:
    """What Python for arm64 prints."""
    folder = os.environ.get("ATTNREC_ARM64")
    if not folder:
        pytest.skip(
            "ATTNREC_ARM64 names no folder with an emulated arm64; "
            "examples/arm64/setup.sh build/arm64 makes one on Debian and Ubuntu"
        )
    result = subprocess.run(
        [Path(folder) / "python", *map(str, arguments)],
        env={**os.environ, "QEMU_CPU": processor},
        input=asked, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# Without and with dot products of 8-bit numbers; the last has all that the emulator knows.
@pytest.mark.parametrize("processor", ["cortex-a53", "max"])
def test_every_file_answers_as_on_the_machine_that_made_it(processor) -> None:
    out = run(processor, ROOT / "examples" / "arm64" / "answers.py", DATA)
    rows = [json.loads(line) for line in out.splitlines()]
    assert {row["file"] for row in rows} == {
        f"{file.parent.name}/{file.stem}" for file in DATA.glob("*/*.onnx")
    }
    assert {row["profile"] for row in rows} >= {"fp32", "int8", "int4", "int4+4"}
    for row in rows:
        assert row["machine"] == "aarch64"
        assert row["golden"] >= 4, row
    asked: list[dict[str, Any]] = [row for row in rows if "lists" in row]
    assert len(asked) == 4
    for row in asked:
        assert row["lists"] == 200
        assert row["largest_difference"] <= 1, row
        assert row["overlap@10"] >= (1 if row["profile"] == "fp32" else 0.99), row


def test_a_device_kit_passes_its_check_and_answers(tmp_path) -> None:
    file, kit = DATA / "apps" / "string-int8.onnx", tmp_path / "kit"
    write_kit(file, kit)
    # The emulator is part of the memory that it sees.
    told = json.loads(
        run("max", kit / "check.py", "--json", "--requests", "100", "--max-mb", "2000")
    )
    assert told["ok"]
    assert any("aarch64" in row["found"] for row in told["rows"])
    here = Recommender.load(file)
    history = here.recommend([], 5).item_ids
    answer = json.loads(run("max", kit / "app.py", asked=json.dumps({"history": history})))
    assert answer["item_ids"] == here.recommend(history).item_ids

"""Ids and titles are any text; the encoding of the terminal may not have all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnrec.runtime import Recommender

FILE = Path(__file__).parents[1] / "data" / "format-1" / "tiny-string.onnx"


def recommend(
    encoding: str, *arguments: str, lines: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run attnrec-recommend where standard input and output have this encoding."""
    code = "from attnrec.cli.main import recommend; recommend()"
    return subprocess.run(
        [sys.executable, "-c", code, str(FILE), *arguments],
        env=os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "COLUMNS": "200"},
        input=lines,
        capture_output=True,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_table_escapes_what_the_encoding_does_not_have(encoding: str) -> None:
    result = recommend(encoding, "--history", "NA", "-k", "32")
    note = b"--history: the file knows 1 of 1 id\n"
    assert (result.returncode, result.stderr.replace(b"\r", b"")) == (0, note)
    table = result.stdout.decode(encoding)
    assert ("🛒" if encoding == "utf-8" else r"\U0001f6d2") in table
    assert ("é" if encoding != "ascii" else r"\xe9") in table


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_json_in_every_encoding(encoding: str) -> None:
    answer = Recommender.load(FILE).recommend(["NA"], k=32)
    result = recommend(encoding, "--history", "NA", "-k", "32", "--json")
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout)["item_ids"] == answer.item_ids
    assert json.loads(result.stdout)["titles"] == answer.titles


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_lines_are_read_as_utf_8_in_every_encoding(encoding: str) -> None:
    lines = '\ufeff{"history": ["é", "商品", "🛒"]}\n'.encode()
    result = recommend(encoding, lines=lines)
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout)["n_known"] == 3


def test_a_line_that_is_no_utf_8_is_refused_and_the_next_one_answered() -> None:
    lines = b'{"history": ["caf\xe9"]}\n{"history": ["NA"]}\n'
    result = recommend("utf-8:strict", lines=lines)
    first, second = map(json.loads, result.stdout.splitlines())
    assert "not valid Unicode" in first["error"] and second["n_known"] == 1
    assert result.returncode == 2

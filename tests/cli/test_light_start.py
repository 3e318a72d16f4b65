"""Help, and what the arguments and a look at files rule out, come before torch is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnrec.train.models import MODELS
from attnrec.train.models.base import LearnedModel

COMMANDS = ["train", "tune", "compare", "export", "evaluate", "recommend", "bench", "serve"]
HEAVY = ("torch", "onnxruntime", "pandas", "pyarrow", "matplotlib", "onnx", "optuna", "sklearn")
MOST_SECONDS = 1.5  # of processor time; 0.3 on an idle machine, where torch alone takes 1.4

# A command as its script starts it. What it has imported and used is written when it ends.
PROBE = f"""
import atexit, json, sys, time
from attnrec.cli import main as entry

report = sys.argv.pop(1)

def tell():
    heavy = [name for name in {HEAVY} if name in sys.modules]
    with open(report, "w") as file:
        json.dump([heavy, time.process_time()], file)

atexit.register(tell)
entry.attnrec()
"""

REFUSED: list[tuple[str, list[str], str]] = [
    ("train", ["none.csv"], "none.csv: there is no such file"),
    ("train", ["log.txt"], "unknown kind of file"),
    ("train", ["empty.csv"], "the file is empty"),
    ("train", ["folder"], "folder/precious: unknown kind of file"),
    ("train", ["*.parquet"], "there is no such file, and as a pattern it matches none"),
    ("train", ["log.csv", "--items", "none.csv"], "none.csv: there is no such file"),
    ("train", ["--items", "log.csv"], "--items is read only with DATA"),
    ("train", ["log.csv", "--users", "log.csv"], "--tag-cols"),
    ("train", ["log.csv", "--tag-cols", "age"], "--users"),
    ("train", ["log.csv", "--attribute-cols", "brand"], "--items"),
    ("train", ["log.csv", "--event-weights", "cart"], "cart=2,purchase=4"),
    ("train", ["log.csv", "--event-col", "kind"], "--event-col is read only with --events"),
    ("train", ["log.csv", "--min-item-events", "0"], "--min-item-events must be"),
    ("train", ["log.csv", "--model", "none"], "no model 'none'"),
    ("train", ["log.csv", "--hidden-dim", "15"], "15 is not divisible"),
    ("train", ["log.csv", "--set", "depth=2"], "no setting --set depth"),
    ("train", ["log.csv", "--set", "n_blocks=two"], "must be a whole number"),
    ("train", ["log.csv", "--epochs", "0"], "--epochs must"),
    ("train", ["log.csv", "--out", "log.csv"], "--out"),
    ("train", ["log.csv", "--out", "no/run"], "does not exist"),
    ("train", ["log.csv", "--out", "folder"], "holds 'precious'"),
    ("train", ["log.csv", "--tune", "60"], "attnrec tune DATA --minutes 60"),
    ("train", ["log.csv", "--model", "all", "--allow-users"], "attnrec compare DATA"),
    ("tune", ["log.csv"], "Missing option '--minutes'"),
    ("tune", ["log.csv", "--minutes", "0"], "--minutes must be a number above 0"),
    ("tune", ["log.csv", "--minutes", "5", "--model", "popularity"], "no training to tune"),
    ("compare", ["--out", "folder"], "not part of a model comparison"),
    ("compare", ["log.csv", "--max-len", "5"], "so --max-len cannot be given"),
    ("compare", ["log.csv", "--set", "dropout=0"], "so --set cannot be given"),
    ("compare", ["log.csv", "--dropout", "0"], "so --dropout cannot be given"),
    ("train", ["--final", "folder"], "not a run directory"),
    ("train", ["--final", "folder", "--seed", "1"], "--seed cannot be given with it"),
    ("train", ["--like", "folder"], "--like trains on a log of its own"),
    ("train", ["log.csv", "--like", "folder"], "not a run directory"),
    ("train", ["log.csv", "--init-from", "folder", "--set", "a=1"], "--set cannot be given with"),
    ("train", ["log.csv", "-v", "-q"], "-v and -q"),
    ("train", ["log.csv", "--depth", "2"], "No such option"),
    ("train", ["log.csv", "--dropout", "0.1"], "given as --set dropout=VALUE"),
    ("train", ["log.csv", "--n-heads=4"], "given as --set n_heads=VALUE"),
    ("export", ["folder"], "not a run directory"),
    ("export", ["--profile", "int3"], "no profile 'int3'"),
    ("export", ["--min-overlap", "98%"], "--min-overlap is read only with --quantize, or"),
    ("export", ["--quantize", "--max-ndcg-loss", "2"], "--max-ndcg-loss must be a share"),
    ("export", ["--max-mb", "0"], "--max-mb must be above 0"),
    ("export", ["--kit", "folder"], "not an empty folder"),
    ("export", ["run", "--out", "log.csv"], "log.csv is no model file of attnrec"),
    ("export", ["run", "--out", "run/config.json"], "is the name of a file of a run"),
    ("evaluate", ["none.onnx"], "none.onnx does not exist"),
    ("evaluate", ["log.csv", "--data", "none.csv"], "none.csv: there is no such file"),
    ("evaluate", ["log.csv", "--plot", "figures.pdf"], "name a .png file"),
    ("evaluate", ["log.csv", "--slices", "--json"], "--json has the slices anyway"),
    ("evaluate", ["log.csv", "--split", "half"], "half"),
    ("recommend", ["none.onnx", "--history", "a"], "none.onnx does not exist"),
    ("recommend", ["log.csv", "-k", "few"], "Invalid value for '-k'"),
    ("recommend", ["log.csv", "--batch", "log.csv"], "--batch goes with --out answers.parquet"),
    ("recommend", ["log.csv", "--batch", "none.csv", "--out", "a"], "none.csv: there is no such"),
    (
        "recommend",
        ["log.csv", "--batch", "log.csv", "--out", "log.csv"],
        "--out log.csv is the in",
    ),
    ("recommend", ["log.csv", "--batch", "log.csv", "--out", "folder"], "folder is a folder"),
    ("recommend", ["log.csv", "--processes", "2"], "--out and --processes are read only with"),
    ("serve", ["none.onnx"], "none.onnx does not exist"),
    ("serve", ["log.csv", "--token-file", "none"], "--token-file none cannot be read"),
    ("serve", ["log.csv", "--port", "70000"], "Invalid value for '--port'"),
    ("bench", ["none.onnx"], "none.onnx does not exist"),
    ("bench", ["log.csv", "--seconds", "0"], "--seconds must be above 0"),
    ("bench", ["log.csv", "--against", "folder"], "not a run directory"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that arguments name."""
    made = tmp_path_factory.mktemp("start")
    (made / "log.csv").write_text("user_id,item_id,timestamp\nu,a,1\n")
    (made / "log.txt").write_text("")
    (made / "empty.csv").write_text("")
    (made / "folder").mkdir()
    (made / "folder" / "precious").write_text("")
    (made / "run").mkdir()
    (made / "run" / "config.json").write_text("{}")
    return made


def start(command: str, arguments: list[str], folder: Path) -> tuple[Any, list[str], float]:
    """The process when it has ended, what of `HEAVY` it imported, and its processor time."""
    report = folder / "report.json"
    result = subprocess.run(
        [sys.executable, "-c", PROBE, str(report), command, *arguments],
        cwd=folder, capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    heavy, seconds = json.loads(report.read_text())
    return result, heavy, seconds


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_that_takes_long(command: str, folder: Path) -> None:
    for option in ("--help", "--version"):
        result, heavy, seconds = start(command, [option], folder)
        assert (result.returncode, result.stderr, heavy) == (0, "", [])
        assert seconds < MOST_SECONDS


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    REFUSED,
    ids=[" ".join([name, *words]) for name, words, _ in REFUSED],
)
def test_what_arguments_and_a_look_at_files_rule_out_is_refused_at_once(
    command: str, arguments: list[str], message: str, folder: Path
) -> None:
    result, heavy, seconds = start(command, arguments, folder)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr and "Traceback" not in result.stderr
    assert (result.stdout, heavy) == ("", [])
    assert seconds < MOST_SECONDS
    assert not (folder / "attnrec-run").exists() and not (folder / "attnrec-all").exists()


def test_the_registry_says_of_each_model_whether_it_is_trained_without_importing_it() -> None:
    for name, kind in MODELS.items():
        assert kind.learns == issubclass(kind.model, LearnedModel), name

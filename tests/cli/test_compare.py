"""`attnrec compare`: a file of every model that suits the log, compared."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnrec.cli.compare import compare
from attnrec.cli.console import run_command
from attnrec.export.comparison_directory import check_comparison_directory
from attnrec.export.model_comparison import ModelComparison, compare_models
from attnrec.runtime.errors import RunError
from attnrec.train import DataRecipe, TrainConfig
from attnrec.train.models import COMPARED_MODELS
from attnrec.train.runs.train import read_log

QUICK = ["--epochs", "1", "--threads", "1", "-q"]
# What this log is not made for: it has no titles, nobody may know its users, nobody has an item
# twice.
LEFT_OUT = {
    "user-item-attention": "user ids; allow that with `allow_users`",
    "neumf": "user ids; allow that with `allow_users`",
    "personal-frequency": "without `repeats`",
    "content-based": "this log has none",
}


COUNTED: dict[str, tuple[str, dict[str, Any]]] = {
    "markov-chain": ("markov-chain", {}), "popularity": ("popularity", {}),
}  # fmt: skip


SHORT = TrainConfig(epochs=1, threads=1)


def interrupt_at_popularity(name: str) -> AbstractContextManager[Any]:
    if name == "popularity":
        raise KeyboardInterrupt
    return nullcontext()


def compare_counted(
    log: Path,
    out: Path,
    *,
    config: TrainConfig = SHORT,
    recipe: DataRecipe = DataRecipe(),  # noqa: B008
    items: Path | None = None,
    **more: Any,
) -> ModelComparison:
    """Two models that are fitted in no time."""
    read = read_log(log, recipe, items=items)
    return compare_models(*read, recipe, config, out=out, models=COUNTED, **more)


@pytest.fixture(scope="module")
def compared(
    log: Path, tmp_path_factory: pytest.TempPathFactory, operators_read_once: None
) -> Path:
    """The folder of a compared that was trained without interruption."""
    directory = tmp_path_factory.mktemp("all") / "compared"
    with pytest.raises(SystemExit) as stopped:
        run_command(compare, [str(log), *QUICK, "--out", str(directory)])
    assert not stopped.value.code
    return directory


def figures(directory: Path) -> dict[str, Any]:
    """The figures of the comparison, without what depends on the machine."""
    stored = json.loads((directory / "comparison.json").read_text())
    del stored["train_seconds"]
    for entry in stored["models"]:
        del entry["microseconds_per_user"]
        entry["file"] = Path(entry["file"]).parent.name
    return stored


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file below, with what changes when it is written anew."""
    return {
        str(path.relative_to(directory)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("comparison.json", "comparison.png")
    }


def test_every_model_that_suits_the_log_is_there_and_the_others_say_why(compared: Path) -> None:
    stored = figures(compared)
    assert [entry["file"] for entry in stored["models"]] == [
        n for n in COMPARED_MODELS if n not in LEFT_OUT
    ]
    assert stored["left_out"].keys() == LEFT_OUT.keys()
    for name, reason in LEFT_OUT.items():
        assert reason in stored["left_out"][name] and not (compared / name).exists()
    assert (compared / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert not list(compared.glob("*/report.html"))  # they are each other's comparison


def test_the_figures_are_those_of_evaluate(compared: Path, run) -> None:
    stored = figures(compared)
    paths = [compared / entry["file"] / "model.onnx" for entry in stored["models"]]
    outcome = run("evaluate", *paths, "--json", "-q")
    assert outcome.code == 0, outcome.err
    measured = json.loads(outcome.out)
    for entry in measured["models"]:
        assert entry.pop("microseconds_per_user") > 0
        entry["file"] = Path(entry["file"]).parent.name
    assert measured == {name: stored[name] for name in measured}


def test_resume_keeps_what_is_there(compared: Path, log: Path, run) -> None:
    before, stored = files(compared), figures(compared)
    outcome = run("compare", log, *QUICK, "--out", compared, "--resume", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["train_seconds"] == {}
    assert (files(compared), figures(compared)) == (before, stored)


def test_an_interrupted_comparison_says_how_to_go_on_and_is_not_begun_anew(
    log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C where popularity begins, a model that counts: it leaves no checkpoint."""
    out = tmp_path / "compared"
    with pytest.raises(KeyboardInterrupt) as stopped:
        compare_counted(log, out, watch=interrupt_at_popularity)
    assert "the same command with `resume` goes on" in "".join(stopped.value.__notes__)
    kept = files(out)
    with pytest.raises(RunError, match="interrupted: go on with `resume`, or delete"):
        compare_counted(log, out)
    assert files(out) == kept
    compare_counted(log, out, resume=True)
    assert f"{out / 'markov-chain'} is there already: kept" in caplog.text
    assert "nothing to resume" not in caplog.text
    compare_counted(log, out)  # it is done, and is replaced as a single run is


@pytest.mark.parametrize("other", ["titles", "repeats", "seed"])
def test_models_of_another_log_or_training_are_trained_anew(
    other: str, log: Path, titles: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    compare_counted(log, out)
    changes: dict[str, dict[str, Any]] = {
        "titles": {"items": titles},
        "repeats": {"recipe": DataRecipe(repeats=True)},
        "seed": {"config": replace(SHORT, seed=1)},
    }
    again = compare_counted(log, out, **changes[other], resume=True)
    assert again.seconds.keys() == COUNTED.keys()


def test_a_folder_that_holds_something_else_is_refused_untouched(
    log: Path, run, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    outcome = run("compare", log, *QUICK, "--out", tmp_path)
    assert (
        outcome.code == 2
        and "'thesis.txt', which is not part of a model comparison" in outcome.err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "left",
    [
        ".0123abcd.comparison.json",
        ".0123abcd.comparison.png",
        ".sasrec.0123abcd.attnrec",
        ".sasrec.unfinished.0123abcd.attnrec",
    ],
)
def test_what_a_killed_process_left_does_not_stop_the_next_training(
    left: str, tmp_path: Path
) -> None:
    (tmp_path / left).mkdir()
    check_comparison_directory(tmp_path, resume=False)
    assert (tmp_path / left).exists()


@pytest.mark.parametrize(
    "other", [".0123abcd.thesis.txt", ".sasrec.notes.attnrec", ".comparison.json"]
)
def test_what_only_looks_like_a_leftover_is_something_else(other: str, tmp_path: Path) -> None:
    (tmp_path / other).touch()
    with pytest.raises(RunError, match="is not part of a model comparison"):
        check_comparison_directory(tmp_path, resume=False)


@pytest.mark.soak
def test_a_killed_compared_goes_on_where_it_was(compared: Path, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "compared"
    command = [str(Path(sys.executable).with_name("attnrec")), "compare"]
    command += [str(log), *QUICK, "--out", str(out)]
    process = subprocess.Popen(command)
    while not (out / "attention-pool-dot" / "model.onnx").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "comparison.json").exists()
    kept = files(out)
    assert {"sasrec/model.onnx", "sasrec-time-gaps/model.onnx"} <= kept.keys()
    assert len({name.split("/")[0] for name in kept}) < len(COMPARED_MODELS) - len(LEFT_OUT)

    assert subprocess.run([*command, "--resume"]).returncode == 0
    after = files(out)
    for name in ("sasrec", "sasrec-time-gaps", "attention-pool-dot"):
        own = [file for file in kept if file.startswith(f"{name}/")]
        assert own and all(after[file] == kept[file] for file in own)
    assert figures(out) == figures(compared)


def test_ctrl_c_ends_it_with_130_and_names_resume(log: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("attnrec")
    process = subprocess.Popen(
        [
            program,
            "compare",
            log,
            "--epochs",
            "100000",
            "--threads",
            "1",
            "--out",
            tmp_path / "all",
        ],
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, their children would ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr
    for line in process.stderr:
        if line.startswith("epoch   1"):
            break
    process.send_signal(signal.SIGINT)
    message = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 130
    assert "interrupted" in message and "--resume" in message
    assert "Traceback" not in message

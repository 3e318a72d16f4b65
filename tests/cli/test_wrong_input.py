"""Wrong input: exit code 2, one message that says what to do, no traceback, nothing lost."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from attnrec.runtime import Recommender
from attnrec.train import Run


def test_messages_name_the_mistake_and_the_remedy(run, log, trained, tmp_path) -> None:
    file = trained / "model.onnx"
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    cases = [
        (
            ("train", log, "--model", "popularity", "--hidden-dim", 8),
            ["no setting --hidden-dim", "popularity"],
        ),
        (("train", log, "--set", "attention=dot"), ["no setting --set attention", "dropout"]),
        (("train", log, "--set", "n_blocks"), ["NAME=VALUE", "'n_blocks'"]),
        (("train", log, "--set", "n_blocks=1", "--n-blocks", 1), ["--n-blocks", "leave one out"]),
        (("train", log, "--user-col", "who"), ["who", "--user-col"]),
        (("train", log, "--id-type", "int64"), ["--id-type"]),
        (("train", log, "--id-type", "float"), ["float", "int64"]),
        (("evaluate", text), ["text.onnx", "seal"]),
        (("recommend", text, "--history", "1"), ["text.onnx", "seal"]),
        (("recommend", file, "--history", "001", "-k", 0), ["k must be at least 1"]),
        (("recommend", file, "--histry", "001"), ["--histry"]),
    ]
    for arguments, expected in cases:
        outcome = run(*arguments)
        assert outcome.code == 2, arguments
        assert outcome.out == "", arguments
        assert "Traceback" not in outcome.err, arguments
        for part in expected:
            assert part in outcome.err, (arguments, outcome.err)


def test_string_ids_for_a_file_of_numbers_are_explained(run, tmp_path) -> None:
    log = tmp_path / "log.csv"
    rows = [f"{user},{10 + (user + step) % 7},{step}" for user in range(9) for step in range(5)]
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    assert run("train", log, "--model", "popularity", "--out", tmp_path / "run").code == 0
    assert run("export", tmp_path / "run").code == 0
    for wrong in ("abc", "--1", "1_0", "1.0", ""):
        outcome = run("recommend", tmp_path / "run" / "model.onnx", f"--history=10,{wrong}")
        assert outcome.code == 2
        assert f"error: {wrong[:60]!r} is no number" in outcome.err
    for far in (2**63, -(2**63) - 1, 10**22, 10**99):
        outcome = run("recommend", tmp_path / "run" / "model.onnx", f"--history=10,{far}")
        assert f"error: {str(far)[:60]!r} is beyond int64; item ids of this file" in outcome.err
    outcome = run("recommend", tmp_path / "run" / "model.onnx", "--history= 10, 11")
    assert outcome.code == 0


@pytest.mark.parametrize(
    "command",
    [
        "attnrec-train {log} --hidden-dim 64 --max-len 50 --epochs 1 --threads 1 --out {run}",
        "attnrec-export {run}",
    ],
)
def test_a_file_that_cannot_be_written_leaves_the_old_ones(command, log, trained) -> None:
    before = {p.name: p.read_bytes() for p in trained.iterdir()}
    limit = "ulimit -f 8"  # KiB: as on a full disk, writing stops in the middle of a file
    line = f"{limit}; {Path(sys.executable).parent}/{command.format(log=log, run=trained)}"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert result.returncode == 2
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert {p.name: p.read_bytes() for p in trained.iterdir()} == before
    assert not [p for p in trained.parent.iterdir() if p.name.startswith(".")]


def test_ctrl_c_leaves_the_old_run_and_says_how_to_go_on(run, log, trained, tmp_path) -> None:
    trained = shutil.copytree(trained, tmp_path / "run")
    before = {p.name: p.read_bytes() for p in trained.iterdir()}
    # Deep, so that epochs last: early stopping may end it after three more.
    settings = ["--epochs", "100000", "--hidden-dim", "16", "--n-blocks", "8"]
    process = subprocess.Popen(
        [
            Path(sys.executable).with_name("attnrec-train"), log, "--out", trained, *settings,
        ],
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, their children would ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if line.startswith("epoch   1"):
            break
    process.send_signal(signal.SIGINT)
    message = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 130
    assert "interrupted" in message
    assert "Traceback" not in message
    assert {p.name: p.read_bytes() for p in trained.iterdir()} == before
    assert not [p for p in trained.parent.iterdir() if p.name.startswith(".")]
    assert Recommender.load(trained / "model.onnx").selftest() > 0

    assert "the same command with --resume goes on" in message
    refused = run("train", log, "--out", trained, *settings)
    assert refused.code == 2
    assert "--resume" in refused.err
    resumed = run("train", log, "--out", trained, *settings, "--resume", "--max-minutes", 0.1)
    assert resumed.code == 0, resumed.err
    assert "going on from" in resumed.err
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert len(Run.load(trained).metrics["epochs"]) > 1


@pytest.mark.parametrize("words", ["--help", "--version", "{file} --history 001 --json"])
def test_what_cannot_be_written_is_said_in_one_line(words, trained) -> None:
    script = Path(sys.executable).with_name("attnrec-recommend")
    line = f"{script} {words.format(file=trained / 'model.onnx')} > /dev/full"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(
        "error: standard output: No space left on device; make room there, or name another place"
    )
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "stdin", ["<&-", "< /dev/null", "<<< ''"], ids=["closed", "empty", "blank"]
)
def test_a_standard_input_without_lines_is_no_question(stdin: str, trained) -> None:
    script = Path(sys.executable).with_name("attnrec-recommend")
    line = f"{script} {trained / 'model.onnx'} {stdin}"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: standard input had no lines; give --history ")
    assert len(result.stderr.splitlines()) == 1


def test_brackets_in_help_and_paths_are_printed_as_they_are(run, trained, tmp_path) -> None:
    shown = run("tune", "--help").out
    assert "attnrec[tune]." in shown
    assert "bit for bit" not in shown, "a resumed search draws another sequence"
    folder = shutil.copytree(trained, tmp_path / "run[bold]:smile:")
    outcome = run("export", folder)
    assert outcome.code == 0, outcome.err
    assert f"{folder}/model.onnx" in outcome.err and f"{folder}/model.onnx" in outcome.out
    table = run("evaluate", folder / "model.onnx", trained / "model.onnx")
    assert "run[bold]:smile:" in table.out.replace("\n", "")
    missing = run("train", "log[1].csv")
    assert missing.err.startswith("error: log[1].csv: there is no such file, and as a pattern")


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("train", "torch", "train"),
        ("tune", "optuna", "tune"),
        ("compare", "onnx", "export"),
        ("export", "torch", "export"),
        ("recommend", "typer", "cli"),
    ],
)
def test_each_command_names_its_own_extra(command: str, missing: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules['{missing}'] = None; sys.argv = ['attnrec', '{command}']\n"
        "from attnrec.cli.main import attnrec\n"
        "attnrec()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    assert f"pip install 'attnrec[{extra}]'" in result.stderr


@pytest.mark.parametrize(
    ("command", "words", "named"),
    [
        ("train", ["--out", ""], "--out"),
        ("train", ["--out="], "--out"),
        ("train", [""], "DATA"),
        ("train", ["--final", ""], "--final"),
        ("export", ["--kit", ""], "--kit"),
        ("export", [""], "RUN"),
        ("evaluate", [""], "FILE"),
        ("evaluate", ["a.onnx", ""], "FILE"),
        ("evaluate", ["--data", ""], "--data"),
        ("recommend", [""], "FILE"),
        ("bench", ["--against", ""], "--against"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(run, command, words, named) -> None:
    outcome = run(command, *words)
    assert outcome.code == 2
    assert outcome.err == f"error: {named} is '': name a file or a folder, or leave it out\n"


@pytest.mark.parametrize("address", ["http://shop.example/log.csv", "s3://shop/log.csv"])
def test_an_address_is_to_be_downloaded_first(run, address) -> None:
    for words in (("train", address), ("evaluate", address), ("recommend", address)):
        outcome = run(*words)
        assert outcome.code == 2
        assert f"{address} is an address, not a file; download it first" in outcome.err, words


def test_every_command_takes_the_run_for_its_file(run, trained, tmp_path) -> None:
    for command, *options in (("recommend", "--history", "001"), ("bench", "--seconds", 0.1)):
        outcome = run(command, trained, *options, "--json")
        assert outcome.code == 0, outcome.err
    (tmp_path / "empty").mkdir()
    for command in ("recommend", "evaluate", "bench"):
        outcome = run(command, tmp_path / "empty")
        assert outcome.code == 2 and "is a directory without model.onnx; export" in outcome.err


def test_filters_that_leave_nothing_are_named_with_their_values(run, log, tmp_path) -> None:
    options = ("--model", "popularity", "--out", tmp_path / "run")
    outcome = run("train", log, *options, "--min-item-events", "999")
    assert outcome.err.endswith("; lower --min-item-events, which is 999\n")
    outcome = run("train", log, *options, "--min-item-events", "998", "--min-user-events", "5")
    assert outcome.err.endswith("which is 998, or --min-user-events, which is 5\n")


def test_a_log_of_other_ids_is_told_by_the_kind_of_ids(run, tmp_path) -> None:
    rows = [f"{user},{10 + (user + step) % 7},{step}" for user in range(9) for step in range(5)]
    text = "user_id,item_id,timestamp\n" + "\n".join(rows) + "\n"
    numbers, texts = tmp_path / "numbers.csv", tmp_path / "texts.csv"
    numbers.write_text(text)
    texts.write_text(re.sub(r",(\d\d),", r",x\1,", text))
    for log in (numbers, texts):
        out = tmp_path / log.stem
        assert run("train", log, "--model", "popularity", "--out", out, "--no-report").code == 0
        assert run("export", out).code == 0
    outcome = run("evaluate", tmp_path / "numbers", "--data", texts)
    assert "the log has text item ids, the file int64 ids" in outcome.err
    file = tmp_path / "texts" / "model.onnx"
    outcome = run("bench", file, "--against", tmp_path / "numbers", "--seconds", 0.1)
    assert "another catalogue (7 items, int64 ids) than" in outcome.err
    assert "(7 items, text ids); name the run" in outcome.err

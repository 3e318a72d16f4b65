"""`attnrec recommend --batch`: everybody in a table, a folder or a log, as `recommend_batch`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnrec.runtime import Recommender
from attnrec.train.scoring import recommend_table

DATA = Path(__file__).parents[1] / "data"
APPS, FORMAT_1 = DATA / "apps", DATA / "format-1"
STRINGS, NUMBERS = APPS / "string-fp32.onnx", APPS / "int64-int8.onnx"
USERS, TIMES = FORMAT_1 / "tiny-users.onnx", FORMAT_1 / "tiny-times.onnx"
SMALL = FORMAT_1 / "tiny-string.onnx"
Rows = list[tuple[Any, ...]]


def questions(id_type: str) -> list[list[Any]]:
    stored = json.loads((APPS / "answers.json").read_text())[id_type]
    return [question["history"] for question in stored["questions"]]


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def rows_of(path: Path) -> Rows:
    """The answers in a file."""
    table = pq.read_table(path, partitioning=None)
    assert table.column_names[1:] == ["item_id", "score"]
    return list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


def expected(
    model: Path, users: list[Any], histories: list[Any], k: int = 10, /, **of: Any
) -> Rows:
    answers = Recommender.load(model).recommend_batch([ids or [] for ids in histories], k, **of)
    return [
        (user, answer.item_ids, answer.scores) for user, answer in zip(users, answers, strict=True)
    ]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three people for the file SMALL."""
    histories = [["NA", "sku-1"], ["sku-3"], []]
    return write(tmp_path / "users.parquet", user_id=["a", "b", "c"], history=histories)


@pytest.mark.parametrize("file", ["string-fp32", "string-int8", "int64-fp32", "int64-int8"])
def test_every_row_is_answered_as_by_recommend_batch_in_the_order_of_the_input(
    file: str, run, tmp_path: Path
) -> None:
    model, id_type = APPS / f"{file}.onnx", file.partition("-")[0]
    unknown: list[Any] = ["no such item"] if id_type == "string" else [-5, 2**60]
    known = questions(id_type)
    histories = [[], None, unknown, known[0] + unknown, known[0], *known, known[0]]
    users = [7, 7, *range(len(histories) - 2)]  # one user twice
    source = write(tmp_path / "users.parquet", user_id=users, history=histories)
    out = tmp_path / "answers.parquet"
    outcome = run("recommend", model, "--batch", source, "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert (summary["users"], summary["answered"]) == (len(users), len(users))
    assert summary["null_histories"] == 1
    assert "1 histories are missing (null): answered like empty ones" in outcome.err
    assert rows_of(out) == expected(model, users, histories)
    assert sorted(os.listdir(tmp_path)) == ["answers.parquet", "users.parquet"]


def test_processes_answer_several_calls_in_the_order_of_the_input(run, tmp_path: Path) -> None:
    """More rows than one call takes, of different lengths; and a folder with an empty table."""
    histories = questions("int64") * 45
    users = [f"user {i}" for i in range(len(histories))]
    folder, out = tmp_path / "in", tmp_path / "out"
    write(folder / "b.parquet", user_id=users, history=histories)
    write(folder / "a.parquet", user_id=users[:5], history=histories[:5])
    none = {"user_id": pa.array([], pa.int64()), "history": pa.array([], pa.list_(pa.int64()))}
    write(folder / "empty.parquet", **none)
    (folder / "_SUCCESS").touch()
    outcome = run("recommend", NUMBERS, "--batch", folder, "--out", out, "--processes", 2)
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{len(users) + 5:,} users answered: {out}\n"
    assert sorted(os.listdir(out)) == ["a.parquet", "b.parquet", "empty.parquet"]
    halves = [slice(0, 8192), slice(8192, None)]
    wanted = [row for half in halves for row in expected(NUMBERS, users[half], histories[half])]
    assert rows_of(out / "b.parquet") == wanted
    assert rows_of(out / "a.parquet") == expected(NUMBERS, users[:5], histories[:5])
    assert rows_of(out / "empty.parquet") == []


def test_options_hold_for_every_row(run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.parquet"
    options = ["-k", 3, "--exclude", "sku-1, sku-2", "--candidates", "sku-1,sku-3,sku-4,sku-5"]
    outcome = run("recommend", SMALL, "--batch", small, "--out", out, *options)
    assert outcome.code == 0 and "--exclude: the file knows 2 of 2 ids" in outcome.err
    table = pq.read_table(small).to_pydict()
    lists = {"exclude": ["sku-1", "sku-2"], "candidates": ["sku-1", "sku-3", "sku-4", "sku-5"]}
    of_all = {name: [ids] * 3 for name, ids in lists.items()}
    assert rows_of(out) == expected(SMALL, table["user_id"], table["history"], 3, **of_all)


def test_side_inputs_are_columns_of_their_names(run, tmp_path: Path) -> None:
    out, histories = tmp_path / "answers.parquet", [["NA"], ["sku-1", "sku-2"], []]
    given: dict[str, Any] = {"user": [3, None, 4], "user_tags": [["gold"], None, []]}
    source = write(tmp_path / "u.parquet", user_id=["x", "y", "z"], history=histories, **given)
    assert run("recommend", USERS, "--batch", source, "--out", out).code == 0
    sides = {"users": given["user"], "user_tags": given["user_tags"]}
    assert rows_of(out) == expected(USERS, ["x", "y", "z"], histories, **sides)

    times = [[999_000], [999_000, 999_900], None]
    given = {"timestamps": times, "request_time": [1_000_000, 1_000_001, None]}
    source = write(tmp_path / "t.parquet", user_id=["x", "y", "z"], history=histories, **given)
    assert run("recommend", TIMES, "--batch", source, "--out", out).code == 0
    sides = {"timestamps": times, "request_times": given["request_time"]}
    assert rows_of(out) == expected(TIMES, ["x", "y", "z"], histories, **sides)

    options = ["--batch", source, "--out", out, "--request-time", 1_500_000]
    assert run("recommend", TIMES, *options).code == 0
    sides["request_times"] = [1_500_000, 1_500_000, None]
    assert rows_of(out) == expected(TIMES, ["x", "y", "z"], histories, **sides)


def test_without_a_column_user_the_id_is_the_user(run, tmp_path: Path) -> None:
    out, histories = tmp_path / "answers.parquet", [["NA"], ["NA"]]
    source = write(tmp_path / "u.parquet", user_id=[3, 12345], history=histories)
    assert run("recommend", USERS, "--batch", source, "--out", out).code == 0
    assert rows_of(out) == expected(USERS, [3, 12345], histories, users=[3, 12345])


def test_columns_without_effect_and_inputs_without_a_column_are_named(
    run, small: Path, tmp_path: Path
) -> None:
    table, out = pq.read_table(small), tmp_path / "answers.parquet"
    source = tmp_path / "more.parquet"
    pq.write_table(table.append_column("user_tags", [["a", "b", "c"]]), source)
    outcome = run("recommend", SMALL, "--batch", source, "--out", out)
    assert "column 'user_tags' is not read: the model file has no such input" in outcome.err
    outcome = run("recommend", TIMES, "--batch", small, "--out", out)
    assert "no column 'timestamps': the answers are those of the model without" in outcome.err
    assert rows_of(out) == expected(TIMES, *pq.read_table(small).to_pydict().values())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_of_a_log_every_user_is_answered_after_the_whole_history(
    suffix: str, run, tmp_path: Path
) -> None:
    """Sorted by time, at one time in the order of the log; repeats as the model was trained."""
    events = pd.DataFrame(
        {
            "user_id": [5, 9, 5, 5, 9, 5, 7],
            "item_id": ["NA", "sku-1", "sku-2", "sku-3", "sku-4", "NA", "new"],
            "timestamp": [1_000_000_000 + s for s in (300, 100, 100, 100, 0, 400, 9_000_000)],
        }
    )
    log, out = tmp_path / f"log{suffix}", tmp_path / "answers.parquet"
    write_log = events.to_csv if suffix == ".csv" else events.to_parquet
    write_log(log, index=False)
    outcome = run("recommend", TIMES, "--batch", log, "--out", out)
    assert outcome.code == 0, outcome.err
    assert "it is read as a log of events" in outcome.err
    histories = [["sku-2", "sku-3", "NA"], ["sku-4", "sku-1"], ["new"]]
    times = [[1000000100, 1000000100, 1000000300], [1000000000, 1000000100], [1009000000]]
    sides = {"timestamps": times, "request_times": [1009000000] * 3}
    assert rows_of(out) == expected(TIMES, [5, 9, 7], histories, **sides)
    assert sorted(os.listdir(tmp_path)) == ["answers.parquet", log.name]


def test_of_a_log_nobody_is_left_out_for_a_filter_of_training(
    run, trained_with_filters: Path, log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.parquet"
    outcome = run("recommend", trained_with_filters, "--batch", log, "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["users"] == len(set(pd.read_csv(log)["user_id"])) == 30


@pytest.fixture
def trained_with_filters(log: Path, run, tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    filters = ["--min-user-events", 20, "--model", "popularity", "--no-report", "-q"]
    assert run("train", log, "--out", directory, *filters).code == 0
    assert run("export", directory, "-q").code == 0
    return directory


# Restart.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four small tables for NUMBERS."""
    asked = questions("int64")
    for part in range(4):
        own = asked[part * 30 : part * 30 + 20]
        write(tmp_path / f"in/part-{part}.parquet", user_id=[*range(20)], history=own)
    return tmp_path / "in"


def contents(out: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}


def test_the_same_command_goes_on_where_it_was_stopped(run, folder: Path, tmp_path: Path) -> None:
    out, command = tmp_path / "out", ["recommend", NUMBERS, "--batch", folder, "--json"]
    assert run(*command, "--out", out).code == 0
    whole = contents(out)
    for name in ("part-1.parquet", "part-3.parquet"):
        (out / name).unlink()
    (out / ".0123abcd.part-3.parquet").write_text("killed on the way")
    outcome = run(*command, "--out", out)
    assert outcome.code == 0, outcome.err
    assert "40 of 80 users were answered before" in outcome.err
    assert json.loads(outcome.out)["answered"] == 40
    again = contents(out)
    assert {name: content for name, (content, _) in again.items()} == {
        name: content for name, (content, _) in whole.items()
    }
    assert again["part-0.parquet"] == whole["part-0.parquet"]  # not written anew
    assert json.loads(run(*command, "--out", out).out)["answered"] == 0
    assert contents(out) == again


def change_a_table(folder: Path, out: Path) -> None:
    write(folder / "part-0.parquet", user_id=[1], history=[[5]])


def remove_a_table(folder: Path, out: Path) -> None:
    (folder / "part-0.parquet").unlink()


def add_a_file(folder: Path, out: Path) -> None:
    (out / "notes.txt").write_text("precious")


def add_a_foreign_table(folder: Path, out: Path) -> None:
    write(out / "part-4.parquet", user_id=[1])


def nothing(folder: Path, out: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (nothing, ["-k", 5], "answers of another k:"),
        (nothing, ["--exclude", "5", "-k", 5], "answers of another exclude and k:"),
        (change_a_table, [], "part-0.parquet holds answers of another input:"),
        (remove_a_table, [], "part-0.parquet holds answers of another input:"),
        (add_a_file, [], "notes.txt holds something else:"),
        (add_a_foreign_table, [], "part-4.parquet holds something else:"),
    ],
)
def test_a_folder_that_belongs_to_something_else_is_refused_untouched(
    change: Callable[[Path, Path], None], options, words, run, folder: Path, tmp_path: Path
) -> None:
    out, command = tmp_path / "out", ["recommend", NUMBERS, "--batch", folder]
    assert run(*command, "--out", out).code == 0
    change(folder, out)
    before = contents(out)
    outcome = run(*command, "--out", out, *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err and "name another --out" in outcome.err
    assert contents(out) == before


def test_answers_of_another_model_are_refused_too(run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("recommend", NUMBERS, "--batch", folder, "--out", out).code == 0
    other = run("recommend", APPS / "int64-fp32.onnx", "--batch", folder, "--out", out)
    assert other.code == 2 and "answers of another model" in other.err


def test_a_file_of_answers_is_replaced_by_those_of_another_night(
    run, small: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.parquet"
    command = ["recommend", SMALL, "--batch", small, "--out", out, "--json"]
    assert json.loads(run(*command).out)["answered"] == 3
    assert json.loads(run(*command).out)["answered"] == 0
    write(small, user_id=["d"], history=[["NA"]])
    assert json.loads(run(*command).out)["answered"] == 1
    assert rows_of(out) == expected(SMALL, ["d"], [["NA"]])


def start_long(folder: Path, tmp_path: Path, *, processes: int) -> tuple[Any, Path]:
    """A command that has answered the small tables and has begun with a large one."""
    asked, out = questions("int64"), tmp_path / "out"
    write(folder / "z.parquet", user_id=[*range(200 * 500)], history=asked * 500)
    command = [
        sys.executable, "-c", "from attnrec.cli.main import recommend; recommend()",
        str(NUMBERS), "--batch", str(folder), "--out", str(out), "--processes", str(processes),
    ]  # fmt: skip
    started = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while not list(out.glob(".*.z.parquet")):
        assert started.poll() is None, started.communicate()
        time.sleep(0.02)
    return started, out


# Each signal, and how the process ends.
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("number", "code"), SIGNALS, ids=["INT", "TERM"])
def test_a_signal_stops_it_and_whole_files_are_kept(
    number: int, code: int, processes: int, folder: Path, tmp_path: Path
) -> None:
    started, out = start_long(folder, tmp_path, processes=processes)
    os.killpg(started.pid, number)  # as a terminal and systemd do, to all processes
    _, printed = started.communicate(timeout=60)
    assert started.returncode == code, printed
    assert (
        printed
        == f"error: stopped; whole files of {out} are kept, the same command does the rest\n"
    )
    assert sorted(os.listdir(out)) == [f"part-{i}.parquet" for i in range(4)]
    assert not Path(f"{out}.unfinished").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a process in /proc")
def test_a_process_that_is_killed_ends_the_command_with_a_remedy(
    folder: Path, tmp_path: Path
) -> None:
    started, out = start_long(folder, tmp_path, processes=2)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    names = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    os.kill(next(pid for pid, name in names.items() if "spawn_main" in name), signal.SIGKILL)
    _, printed = started.communicate(timeout=60)
    assert started.returncode == 2
    assert "a process was killed" in printed and "try again with fewer --processes" in printed
    assert sorted(os.listdir(out)) == [f"part-{i}.parquet" for i in range(4)]


# What is refused, before the work.


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"user": [1], "history": [["NA"]]}, ["no column 'user_id'", "'user', 'history'"]),
        ({"user_id": [1], "history": ["NA,sku-1"]}, ["'history' holds string", "lists of string"]),
        (
            {"user_id": [1], "history": [[5]]},
            ["'history' holds lists of int64", "of this file li"],
        ),
        ({"user_id": [1], "history": [[0.5]]}, ["holds lists of double"]),
        ({"user_id": [1], "item": ["NA"]}, ["no column 'item_id'", "is read as a log"]),
        ({"user_id": [1], "history": [["NA", None]]}, ["users 1 to 1: histories[0][1] is None"]),
    ],
)
def test_a_table_that_cannot_be_answered_is_refused(columns, words, run, tmp_path: Path) -> None:
    source, out = write(tmp_path / "users.parquet", **columns), tmp_path / "answers.parquet"
    outcome = run("recommend", SMALL, "--batch", source, "--out", out)
    assert (outcome.code, outcome.out) == (2, "")
    assert all(word in outcome.err for word in ["users.parquet", *words]), outcome.err
    assert os.listdir(tmp_path) == ["users.parquet"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"timestamps": [[1.5]], "request_time": [5]}, ["'timestamps' holds lists of double"]),
        ({"timestamps": [[5]]}, ["timestamps without request_time"]),
        ({"request_time": [5]}, ["request_time without timestamps"]),
    ],
)
def test_side_inputs_that_cannot_be_read_are_refused(columns, words, run, tmp_path: Path) -> None:
    source = write(tmp_path / "users.parquet", user_id=[1], history=[["NA"]], **columns)
    outcome = run("recommend", TIMES, "--batch", source, "--out", tmp_path / "answers.parquet")
    assert outcome.code == 2 and all(word in outcome.err for word in words), outcome.err
    assert os.listdir(tmp_path) == ["users.parquet"]


def test_a_folder_with_one_table_that_cannot_be_answered_is_refused_as_a_whole(
    run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name, content, words in (
        ("text.parquet", b"user_id,history", "not an intact Parquet file"),
        ("users.csv", b"user_id,history", "must hold .parquet files alone, not ['users.csv']"),
    ):
        (folder / name).write_bytes(content)
        outcome = run("recommend", NUMBERS, "--batch", folder, "--out", out)
        assert outcome.code == 2 and words in outcome.err
        (folder / name).unlink()
    write(folder / "a-log.parquet", user_id=[1], item_id=[2], timestamp=[3])
    outcome = run("recommend", NUMBERS, "--batch", folder, "--out", out)
    assert outcome.code == 2 and "there is no column 'history'" in outcome.err
    assert os.listdir(tmp_path) == ["in"]


def test_a_place_that_is_not_for_answers_is_refused(run, small: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious.parquet"
    write(precious, a=[1])
    content = precious.read_bytes()
    for out, words in (
        (precious, "precious.parquet holds something else"),
        (small, "is the input, or lies in it"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "answers.parquet", "is no folder; make it"),
    ):
        outcome = run("recommend", SMALL, "--batch", small, "--out", out)
        assert outcome.code == 2 and words in outcome.err, outcome.err
    assert precious.read_bytes() == content
    folder = tmp_path / "in"
    write(folder / "a.parquet", user_id=[1], history=[["NA"]])
    for out, words in (
        (folder / "out", "is the input, or lies in it"),
        (precious, "a file; name a folder"),
    ):
        outcome = run("recommend", SMALL, "--batch", folder, "--out", out)
        assert outcome.code == 2 and words in outcome.err, outcome.err
    assert sorted(os.listdir(tmp_path)) == ["in", "precious.parquet", "users.parquet"]


def test_a_disk_without_room_is_refused_before_the_work(
    run, small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    class Usage:
        free = 100

    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage)
    outcome = run("recommend", SMALL, "--batch", small, "--out", tmp_path / "answers.parquet")
    assert outcome.code == 2 and "make room there, or name another --out" in outcome.err
    assert os.listdir(tmp_path) == ["users.parquet"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch", "u.parquet", "--history", "NA"], "--batch goes without --history"),
        (["--batch", "u.parquet", "--similar", "NA"], "--batch goes without --similar"),
        (["--batch", "u.parquet", "--why"], "--batch goes without --why"),
        (["--batch", "u.parquet", "--user-tags", "a"], "--batch goes without --user-tags"),
        (["--batch", "u.parquet", "--timestamps", "1"], "--batch goes without --timestamps"),
        (["--batch", "u.parquet"], "--batch goes with --out answers.parquet"),
        (["--out", "a.parquet"], "read only with --batch"),
        (["--processes", "2"], "read only with --batch"),
    ],
)
def test_options_without_effect_are_refused(options, words, run) -> None:
    outcome = run("recommend", SMALL, *options)
    assert outcome.code == 2 and words in outcome.err


def test_a_second_command_into_the_same_place_is_refused(run, small: Path, tmp_path: Path) -> None:
    from attnrec.train.run_files import training_alone

    out = tmp_path / "answers.parquet"
    with training_alone(out):
        outcome = run("recommend", SMALL, "--batch", small, "--out", out)
    assert outcome.code == 2 and "is being written by another command: wait for it" in outcome.err


def test_python_answers_a_table_with_another_column_of_ids() -> None:
    recommender = Recommender.load(SMALL)
    histories = [["NA", "sku-1"], None]
    table = pa.table({"who": [1, 2], "history": histories})
    answers = recommend_table(recommender, table, 3, id_col="who").to_pydict()
    assert list(zip(*answers.values(), strict=True)) == expected(SMALL, [1, 2], histories, 3)

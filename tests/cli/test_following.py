"""Commands that follow a run: the same on a new log, on from its weights, and on every event."""

import json
from pathlib import Path

import pytest

from attnrec.runtime import Recommender
from attnrec.train import Run, TimeSplit

DAY = 86_400
SMALL = ("--hidden-dim", 16, "--max-len", 10, "--epochs", 2, "--threads", 1)
CUT = ("--split", "time", "--test-days", 2)


def write(path: Path, last_day: int, header: str = "user_id,sku,timestamp") -> Path:
    rows = []
    for user in range(40):
        for day in range(1, last_day + 1):
            item = (user + day * (1 + user % 3)) % 20 + (20 if day > 12 else 0)
            rows.append(f"u{user},{item},{day * DAY + user}")
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("logs")
    return write(folder / "old.csv", 9), write(folder / "new.csv", 15)


@pytest.fixture
def old(run, logs: tuple[Path, Path], tmp_path: Path) -> Path:
    words = ("--item-col", "sku", "--time-unit", "s", "--repeats", *SMALL, *CUT)
    assert run("train", logs[0], *words, "--out", tmp_path / "old").code == 0
    return tmp_path / "old"


def test_like_repeats_what_was_typed_and_takes_a_new_split_or_schedule(run, logs, old) -> None:
    outcome = run("train", logs[1], "--like", old, "--json", "--no-report")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["run"] == f"{old}-like" and "init_from" not in outcome.out
    before, after = Run.load(old), Run.load(f"{old}-like")
    assert (after.config, after.recipe) == (before.config, before.recipe)
    assert after.split.interactions.n_events > before.split.interactions.n_events
    words = ("--split", "last-session", "--epochs", 1, "--seed", 3, "--no-report")
    assert run("train", logs[1], "--like", old, *words).code == 0
    changed = Run.load(f"{old}-like").config
    assert (changed.split, changed.epochs, changed.seed) == ("last-session", 1, 3)
    assert changed.settings == before.config.settings


def test_windows_that_are_typed_replace_those_of_the_run(run, logs, old) -> None:
    words = ("--test-from", "1970-01-14", "--valid-days", 1, "--epochs", 1, "--no-report")
    assert run("train", logs[1], "--init-from", old, *words).code == 0
    by = Run.load(f"{old}-next").config.split
    assert (by.test_from, by.test_days, by.valid_days) == ("1970-01-14", None, 1)
    assert by.moved({"test_share": 0.2, "targets": "last"}) == TimeSplit(
        test_share=0.2, valid_days=1, targets="last"
    )
    overlapping = run("train", logs[1], "--init-from", old, "--test-days", 5)
    assert overlapping.code == 2
    assert "give fewer --test-days or --valid-days, or a later --test-from" in overlapping.err
    again = run("train", logs[0], "--init-from", old)
    assert again.code == 2
    assert "as its own did; give the log with the events since then" in again.err


def test_every_night_a_run_goes_on_and_becomes_one_to_ship(run, logs, old, tmp_path) -> None:
    outcome = run("train", logs[1], "--init-from", old, "--json")
    assert outcome.code == 0, outcome.err
    begun = json.loads(outcome.out)["init_from"]
    assert (begun["run"], begun["n_kept"]) == ("old", 20)
    following = Path(f"{old}-next")
    assert Run.load(following).config.epochs == 3
    page = (following / "report.html").read_text()
    assert "began from" in page and "old, which had seen events until 1970-01-08" in page
    again = run("train", logs[1], "--init-from", old, "--epochs", 1, *CUT)
    assert "began from old, which had seen" in again.out
    assert Run.load(following).config.epochs == 1
    assert run("export", following).code == 0
    assert run("evaluate", following, "--json").code == 0
    assert Recommender.load(following / "model.onnx").info.metrics["init_from"] == begun
    final = tmp_path / "final"
    assert run("train", write(tmp_path / "tomorrow.csv", 17), "--final", following, "--out", final,
               "--no-report").code == 0  # fmt: skip
    shipped = Run.load(final)
    assert shipped.split.final and shipped.metrics.init_from["run"] == "old-next"
    later = write(tmp_path / "later.csv", 22)
    outcome = run("train", later, "--init-from", final, "--out", tmp_path / "third", "--no-report")
    assert outcome.code == 0, outcome.err
    assert Run.load(tmp_path / "third").metrics.init_from["run"] == "final"


@pytest.mark.parametrize("follow", ["--like", "--init-from", "--final"])
def test_another_kind_of_log_is_refused_without_options_that_cannot_be_given(
    follow: str, run, old: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other.csv", 15, "user_id,item,timestamp")
    outcome = run("train", other, follow, old)
    assert outcome.code == 2 and "'sku'" in outcome.err
    assert f"read by the recipe of {old}: a log for it must have the columns" in outcome.err
    assert "--item-col" not in outcome.err


def test_refusals_name_options(run, logs, old, tmp_path) -> None:
    outcome = run("train", logs[1], "--init-from", old, "--split", "leave-one-out")
    assert "--init-from needs --split time: " in outcome.err
    outcome = run("train", logs[1], "--init-from", old, "--split", "time", "--test-days", 5)
    assert "give fewer --test-days or --valid-days, or a later --test-from" in outcome.err
    for follow in ("--like", "--init-from"):
        outcome = run("train", logs[1], follow, old, "--out", old)
        assert "is the run that this one begins from; name another --out" in outcome.err
    outcome = run("train", write(tmp_path / "early.csv", 6), "--init-from", old)
    assert "there is nothing new; give the log with the events since then" in outcome.err
    assert not Path(f"{old}-next").exists()


def test_a_counted_model_is_counted_again_and_epochs_are_said_to_be_unused(
    run, logs, tmp_path
) -> None:
    before = tmp_path / "run"
    words = ("--item-col", "sku", "--time-unit", "s", "--model", "popularity", "--no-report")
    assert run("train", logs[0], *words, *CUT, "--out", before).code == 0
    outcome = run("train", logs[1], "--like", before, "--epochs", 2, "--no-report")
    assert outcome.code == 0 and "--epochs: not used, popularity" in outcome.err
    outcome = run("train", logs[1], "--init-from", before)
    assert "popularity is another kind of model: train from scratch with its" in outcome.err

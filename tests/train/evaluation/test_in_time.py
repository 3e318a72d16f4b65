"""Runs and files of a log that was cut in time: measured on what comes after, by age, in folds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from attnrec.export.exporting import export
from attnrec.export.folds import compare_folds
from attnrec.runtime import DataError, Recommender, RunError
from attnrec.train import Run, TimeSplit, TrainConfig, compare, evaluate, train, train_final
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.evaluation.comparison_plot import draw_comparison
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.splits.time_split import DAY

_START = 1_600_000_000
_N_DAYS = 60


def made_log(last_day: int = _N_DAYS, *, n_users: int = 80) -> pd.DataFrame:
    """On every third day people take what suits them of the items of the last four weeks."""
    rng = np.random.default_rng(0)
    rows = [
        (
            user,
            f"week {day // 7 - rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))} "
            f"item {(user + rng.integers(6)) % 20}",
            _START + day * DAY + user,
        )
        for user in range(n_users)
        for day in range(user % 3, _N_DAYS, 3)
    ]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    return log[log["timestamp"] < _START + last_day * DAY]


WEEK = TimeSplit(test_days=7)
CONFIG = TrainConfig("markov-chain", split=WEEK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the first 40 days, exported: one held out a week, one final; and one of 33 days."""
    folder = tmp_path_factory.mktemp("in_time")
    for name, days in (("week", 40), ("earlier", 33)):
        run = train(made_log(days), CONFIG, out=folder / name)
        export(run, folder / name / "model.onnx")
    final = train_final(Run.load(folder / "week"), out=folder / "final")
    export(final, folder / "final" / "model.onnx")
    return folder


def test_a_run_and_its_file_remember_the_cut_and_the_protocol(folder: Path) -> None:
    run = Run.load(folder / "week")
    assert run.config.split == WEEK
    assert run.metrics.split == "time"
    cut = run.metrics.time_split
    assert cut is not None and cut["test_days"] == 7
    assert run.metrics.protocol.startswith(f"time: trained on what lies before {cut['cuts'][0]}")
    info = Recommender.load(folder / "week/model.onnx").info
    assert info.metrics["time_split"] == cut
    # The file has seen all that lies before the test window.
    assert info.data["seen_until"] < _START + 33 * DAY <= info.data["seen_until"] + DAY


def test_a_file_is_measured_on_its_own_log_as_at_its_export(folder: Path) -> None:
    path = folder / "week/model.onnx"
    stored = Recommender.load(path).info.metrics["test"]
    found = evaluate(path)
    assert found.values["ndcg@10"] == pytest.approx(stored["ndcg@10"], abs=1e-6)
    assert found.n_cold_users == 0
    assert 0 < found.missing_targets < 1  # a week has new items


def test_on_a_log_that_goes_on_only_what_comes_after_the_file_is_asked_for(folder: Path) -> None:
    for name, seen_days in (("week", 33), ("final", 40)):
        path = folder / name / "model.onnx"
        comparison = compare([path], made_log())
        assert comparison.split == "time"
        (file,) = comparison.files
        assert file.metrics.n_users == 80
        spans = [(window["from_days"], window["to_days"]) for window in file.by_age]
        assert spans == [(n, n + 7) for n in range(0, _N_DAYS - seen_days, 7)]
        quality = [window["ndcg@10"] for window in file.by_age]
        unknown = [window["missing_targets"] for window in file.by_age]
        assert quality[0] > 1.5 * quality[2]
        assert unknown[:3] == sorted(unknown[:3]) and unknown[2] > unknown[0] + 0.1


def test_of_files_with_different_cuts_the_later_one_holds_for_all(folder: Path) -> None:
    paths = [folder / "earlier/model.onnx", folder / "week/model.onnx"]
    both = compare(paths, made_log())
    alone = compare(paths[1:], made_log())
    assert both.files[1].metrics.values == alone.files[0].metrics.values
    assert len(both.files[0].by_age) == len(both.files[1].by_age)


def test_ages_are_drawn_below_the_figures(folder: Path, tmp_path: Path) -> None:
    heights = []
    for data in (None, made_log()):
        draw_comparison(compare([folder / "week/model.onnx"], data), tmp_path / "picture.png")
        content = (tmp_path / "picture.png").read_bytes()
        heights.append(int.from_bytes(content[20:24], "big"))
    assert heights[1] > heights[0] + 300


def test_a_log_that_shows_nothing_new_or_nothing_old_is_refused(folder: Path) -> None:
    path, whole = folder / "week/model.onnx", made_log()
    with pytest.raises(
        ValueError, match=r"has seen events until 2020-10-15 .*, and this log ends"
    ):
        evaluate(path, whole[whole["timestamp"] < _START + 20 * DAY])
    with pytest.raises(ValueError, match="nobody in it has a history to ask with"):
        evaluate(path, whole[whole["timestamp"] > _START + 45 * DAY])


def test_what_a_file_has_seen_of_a_longer_log_is_no_validation(folder: Path) -> None:
    with pytest.raises(ValueError, match="all is `part` test"):
        evaluate(folder / "week/model.onnx", made_log(), part="valid")
    (file,) = compare([folder / "week/model.onnx"], made_log()).files
    log = made_log().drop_duplicates(["user_id", "item_id"])
    is_seen = log["timestamp"] < _START + 33 * DAY
    of_known = log[~is_seen & log["item_id"].isin(log["item_id"][is_seen])]
    assert file.slices["target_known"]["n_users"] == of_known["user_id"].nunique()


def test_figures_with_and_without_targets_that_nobody_could_know(folder: Path) -> None:
    (file,) = compare([folder / "week/model.onnx"]).files
    known = file.slices["target_known"]
    assert known["ndcg@10"] > file.metrics.values["ndcg@10"]


def test_popular_in_the_last_days_is_a_baseline_of_reports_in_time(tmp_path: Path) -> None:
    steps: list[str] = []
    run = train(
        made_log(40), CONFIG, out=tmp_path / "run", reporting=lambda step, *_: steps.append(step)
    )
    assert "fitting popularity-7-days" in steps
    assert run.metrics.report is not None
    quality = {model["model"]: model["ndcg@10"] for model in run.metrics.report["traditional"]}
    assert quality["popularity-7-days"] > quality["popularity"]  # items are new every week


def test_events_before_the_last_days_are_not_popular(tmp_path: Path) -> None:
    recent = TrainConfig("popularity", {"last_days": 7.0})
    order = made_log(40).assign(timestamp=range(len(made_log(40))))
    run = train(made_log(40), recent, out=tmp_path / "run")
    times, rows = run.split.sequences.timestamps, run.split.sequences.rows
    assert times is not None
    newest = np.bincount(rows[times > times.max() - 7 * DAY], minlength=1 + rows.max())
    counted = np.expm1(run.model.state_dict()["log_count"].numpy())
    assert counted[: len(newest)] == pytest.approx(newest, rel=1e-5)
    assert 0 < newest.sum() < len(rows) / 2
    with pytest.raises(DataError, match="leave the setting `last_days` out"):
        train(order, recent, recipe=DataRecipe(time_unit="order"), out=tmp_path / "order")


def folds(out: Path, n_folds: int = 3, *, resume: bool = False) -> Any:
    recipe = DataRecipe()
    log, report = load_interactions(made_log(), recipe)
    models: dict[str, Any] = {"popularity": ("popularity", {}), "markov-chain": CHAIN}
    return compare_folds(
        log, report, recipe, CONFIG, folds=n_folds, out=out, models=models, resume=resume
    )


CHAIN: tuple[str, dict[str, Any]] = ("markov-chain", {})


def test_folds_move_the_cut_back_window_by_window(tmp_path: Path) -> None:
    found = folds(tmp_path / "folds")
    starts = pd.to_datetime([start.removesuffix(" UTC") for start in found.tested_from])
    assert (starts[1:] - starts[:-1] == pd.Timedelta(days=7)).all()
    assert [model.name for model in found.models] == ["markov-chain", "popularity"]
    best = found.models[0]
    assert best.mean == pytest.approx(np.mean(best.ndcg))
    expected = stats.t.interval(0.95, 2, best.mean, stats.sem(best.ndcg))
    assert best.interval == pytest.approx(expected)
    # Each fold is what training on the log of that day gives.
    day = made_log()
    day = day[day["timestamp"] < day["timestamp"].max() + 1 - 14 * DAY]
    run = train(day, CONFIG, out=tmp_path / "alone")
    export(run, tmp_path / "alone/model.onnx")
    alone = evaluate(tmp_path / "alone/model.onnx").values["ndcg@10"]
    assert found.models[0].ndcg[0] == pytest.approx(alone, abs=1e-6)
    stored = json.loads((tmp_path / "folds/folds.json").read_text())
    assert [model["model"] for model in stored["models"]] == ["markov-chain", "popularity"]
    assert (tmp_path / "folds/folds.png").read_bytes().startswith(b"\x89PNG")


def test_folds_go_on_where_they_were_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = folds(tmp_path / "folds")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "folds").rglob("weights.safetensors")}
    again = folds(tmp_path / "folds", resume=True)
    assert again.to_json()["models"] == first.to_json()["models"]
    assert all(path.stat().st_mtime_ns == at for path, at in times.items())


class Stopping:
    """Ctrl-C after the first epoch."""

    def on_start(self, n_epochs: int) -> None: ...

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None: ...

    def on_epoch(self, record: EpochRecord) -> None:
        raise KeyboardInterrupt


def test_a_training_that_was_stopped_does_not_go_on_with_another_cut(tmp_path: Path) -> None:
    config = TrainConfig("sasrec", epochs=2, split=WEEK, settings={"hidden_dim": 8})

    with pytest.raises(KeyboardInterrupt):
        train(made_log(), config, out=tmp_path / "run", progress=Stopping())
    other = replace(config, split=TimeSplit(test_days=3))
    with pytest.raises(RunError, match=r"with split\.test_days 7, not 3: give the same command"):
        train(made_log(), other, out=tmp_path / "run", resume=True)
    by_user = replace(config, split="leave-one-out")
    with pytest.raises(RunError, match="with split 'time', not 'leave-one-out'"):
        train(made_log(), by_user, out=tmp_path / "run", resume=True)


def test_a_log_that_is_too_short_for_the_folds_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match="too short for 9 folds of 7 days: the test window beg"):
        folds(tmp_path / "folds", 9)
    assert not (tmp_path / "folds").exists()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="is a file"):
        folds(tmp_path / "file")
    log, report = load_interactions(made_log(), DataRecipe())
    by_user = replace(CONFIG, split="leave-one-out")
    with pytest.raises(ValueError, match="`split` must be time"):
        compare_folds(log, report, DataRecipe(), by_user, folds=2, out=tmp_path / "x")

"""The run report: an HTML page with the measured figures, none of them of the test events."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from attnrec.train import DataRecipe, Run, TrainConfig, train, train_final
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.evaluation.validation import Validation, ndcg_of_users
from attnrec.train.fitting.config import value_text
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.models import MODELS
from attnrec.train.report import figures as made
from attnrec.train.report.figures import BASELINES, baselines_of, fit_baseline
from attnrec.train.report.page import run_report
from attnrec.train.report.settings import settings_of
from attnrec.train.report.verdicts import overfitting, verdict
from attnrec.train.runs.train import read_log, report_page, train_log
from attnrec.train.splits.config import Part
from attnrec.train.splits.split import Split

SMALL = TrainConfig(
    "sasrec", settings={"hidden_dim": 16, "max_len": 10}, epochs=2, batch_events=100, threads=1
)
EVIL = '<script>alert("1")</script> & <b>Mug'
VOID = {"meta", "img"}


def quietly(what: str, done: int, n_steps: int) -> None:
    """A callback that ignores the steps."""


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    """Every title holds markup."""
    ids = [f"item {number:02}" for number in range(40)]
    return pd.DataFrame({"item_id": ids, "title": [f"{EVIL} {item_id}" for item_id in ids]})


@pytest.fixture(scope="module")
def run(
    shop_log: pd.DataFrame, items: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    out = tmp_path_factory.mktemp("report") / "run"
    return train(shop_log, SMALL, items=items, out=out, reporting=quietly)


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return (run.directory / "report.html").read_text(encoding="utf-8")


def page_of(run: Run, **metrics: Any) -> str:
    """The page of the run as if it had other metrics."""
    shown = replace(run.metrics, **metrics)
    return run_report(run.config, run.model.config, run.recipe, run.data, shown)


class Reader(HTMLParser):
    """Checks that every tag is closed in its place, and keeps the visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def row(self, name: str) -> list[str]:
        """The first row of a table that begins with `name`."""
        return next(row for row in self.rows if row[0].split()[:1] == [name])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if {"td", "th"} & {*self.open}:
            self.rows[-1][-1] += data


# --- the page


def test_the_page_is_html_with_headers_captions_and_descriptions(page: str) -> None:
    assert page.startswith("<!doctype html>")
    reader = Reader(page)
    assert reader.tags.count("caption") == reader.tags.count("table") > 4
    assert ("scope", "col") in reader.attributes and ("scope", "row") in reader.attributes
    descriptions = [value for name, value in reader.attributes if name == "alt"]
    assert len(descriptions) == reader.tags.count("img") == 4 and all(descriptions)


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    assert len(page.encode()) < 400_000
    reader = Reader(page)
    assert not {"script", "link", "iframe", "object", "svg"} & {*reader.tags}
    assert not re.search(r"https?:|@import|url\(", page)
    sources = {value for name, value in reader.attributes if name in ("href", "src")}
    assert sources and all(value.startswith("data:image/svg+xml;base64,") for value in sources)


def test_titles_are_text_whatever_they_hold(page: str) -> None:
    assert "<script" not in page and "<b>" not in page
    assert f"{EVIL} item" in Reader(page).text


def test_the_name_of_the_log_is_text_too(run: Run) -> None:
    page = run_report(run.config, run.model.config, run.recipe, {**run.data, "source": EVIL},
                      run.metrics)  # fmt: skip
    assert "<script" not in page and EVIL in Reader(page).text


def test_items_without_titles_are_shown_by_their_ids(
    shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    train(shop_log, TrainConfig("popularity"), out=tmp_path / "run", reporting=quietly)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<li>item \d\d</li>", page)
    assert "is counted, not trained: it has no epochs" in page


def test_a_sample_of_the_users_is_called_one(run: Run, page: str) -> None:
    sampled = page_of(run, valid={**run.metrics.valid, "sample_of": 123_456})
    assert "users, a sample of 123,456, whose" in sampled
    assert "users, whose" in page


def test_the_same_run_gives_the_same_page(run: Run, page: str, tmp_path: Path) -> None:
    assert page_of(run) == page
    assert report_page(Run.load(run.directory)) == page


def test_without_reporting_there_is_no_report(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    run = train(shop_log, TrainConfig("popularity"), out=tmp_path / "run")
    assert run.metrics.report is None
    assert not (tmp_path / "run" / "report.html").exists()


# --- figures


def test_the_figures_are_those_of_metrics_json(run: Run, page: str) -> None:
    stored = json.loads((run.directory / "metrics.json").read_text(encoding="utf-8"))
    report, reader = stored["report"], Reader(page)
    own = {name: value for name, value in report["run"].items() if name != "slices"}
    assert own == stored["valid"]
    assert [model["model"] for model in report["traditional"]] == list(BASELINES)
    for name, figures in [("sasrec", own), *((m["model"], m) for m in report["traditional"])]:
        _, ndcg, hit_rate, *_ = reader.row(name)
        assert ndcg.split()[0] == f"{figures['ndcg@10']:.4f}"
        low, high = figures["ndcg@10_interval"]
        assert f"{low:.4f} to {high:.4f}" in ndcg
        assert hit_rate.split()[0] == f"{figures['hit_rate@10']:.4f}"
    for epoch in stored["epochs"]:
        row = reader.row(str(epoch["epoch"]))
        assert f"{epoch['seen_ndcg']:.4f}" in row and f"{epoch['loss']:.4f}" in row


def test_a_baseline_has_the_figures_of_its_own_training(
    run: Run, shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    alone = train(shop_log, TrainConfig("markov-chain", threads=1), out=tmp_path / "run")
    baseline = run.metrics.report["traditional"][-1]
    assert baseline["model"] == "markov-chain"
    assert {name: baseline[name] for name in alone.metrics.valid} == alone.metrics.valid


def test_the_difference_is_paired(run: Run) -> None:
    validation = Validation(run.split, repeats=False)
    ranking = fit_baseline("markov-chain", validation).ranking
    assert ranking is not None
    gains = [
        ndcg_of_users(of, validation.held_out)
        for of in (ranking, validation.ranking(run.model))
    ]  # fmt: skip
    baseline = run.metrics.report["traditional"][-1]
    assert baseline["ndcg@10_to_run"] == pytest.approx(
        float(np.mean(gains[0] - gains[1])), abs=1e-6
    )
    low, high = baseline["ndcg@10_to_run_interval"]
    assert low < baseline["ndcg@10_to_run"] < high


@pytest.mark.parametrize(
    ("model", "settings", "left"),
    [
        ("markov-chain", {}, "markov-chain"),
        ("item-knn", {"history_decay": None}, "item-knn-decayed"),
        ("item-knn", {}, None),
    ],
)
def test_a_run_is_not_compared_with_itself(
    model: str, settings: dict[str, Any], left: str | None
) -> None:
    names = baselines_of(TrainConfig(model, settings))
    assert names == [name for name in BASELINES if name != left]


def test_where_ease_is_too_large_its_row_says_so(tmp_path: Path) -> None:
    events = np.arange(10_000)  # a hundred users, each with a hundred items of his own
    log = pd.DataFrame({"user_id": events // 100, "item_id": events, "timestamp": events})
    run = train(log, TrainConfig("popularity"), out=tmp_path / "run", reporting=quietly)
    models = run.metrics.report["traditional"]
    (entry,) = [model for model in models if model["model"] == "ease-decayed"]
    assert entry.keys() == {"model", "reason"}
    row = Reader((tmp_path / "run" / "report.html").read_text(encoding="utf-8")).row(
        "ease-decayed"
    )
    assert "not fitted: ease needs 3 matrices of 9,800 x 9,800" in row[1]
    assert "attnrec-train --model ease --set history_decay=none" in row[1]


def test_where_nothing_can_be_fitted_the_run_is_kept_all_the_same(
    shop_log: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(made, "fit_by_counting", out_of_memory)
    train(shop_log, SMALL, out=tmp_path / "run", reporting=quietly)
    reader = Reader((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert "No baseline could be fitted" in reader.text
    assert "MemoryError" in reader.row("popularity")[1]


def test_reporting_is_called_for_every_step(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    train(
        shop_log, TrainConfig("popularity"), out=tmp_path / "run",
        reporting=lambda *step: steps.append(step),
    )  # fmt: skip
    assert [done for _, done, _ in steps] == list(range(4))
    assert {n_steps for _, _, n_steps in steps} == {4}
    assert "fitting ease-decayed" in [what for what, _, _ in steps]


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([-0.03, -0.01], "m is ahead of x, the best baseline, by +0.0200"),
        ([-0.03, 0.01], "m and x, the best baseline, cannot be told apart"),
        ([0.01, 0.03], "m is behind x, the best baseline"),
    ],
)
def test_the_verdict_follows_the_interval_of_the_difference(
    interval: list[float], words: str
) -> None:
    mean = -0.02 if interval[1] < 0 else 0.02
    baseline = {"model": "x", "ndcg@10": 0.1, "ndcg@10_to_run": mean}
    report = {"traditional": [{**baseline, "ndcg@10_to_run_interval": interval}]}
    assert verdict(report, "m").startswith(words)


# --- overfitting


def epoch(number: int, valid: float, seen: float | None) -> EpochRecord:
    figures = {"ndcg@10": valid, "ndcg@10_interval": [valid - 0.01, valid + 0.01]}
    return EpochRecord(number, 1.0, figures, 1.0, seen)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (epoch(2, 0.15, 0.40), "the model was overfitting"),
        (epoch(2, 0.195, 0.40), "Later epochs brought nothing better"),
        (epoch(2, 0.15, None), "Later epochs brought nothing better"),
    ],
)
def test_overfitting_is_named_where_validation_leaves_its_interval(
    last: EpochRecord, words: str
) -> None:
    assert words in overfitting([epoch(1, 0.2, 0.25), last], 1)


def test_every_epoch_has_the_figure_on_events_that_were_trained_on(run: Run) -> None:
    kept = run.metrics.epochs[run.metrics.best_epoch - 1]
    assert kept.seen_ndcg == Validation(run.split, repeats=False).seen_ndcg(run.model)


def test_the_trained_targets_are_the_last_before_validation(run: Run) -> None:
    split = run.split
    seen, valid = split.seen(10_000), split.held_out("valid")
    before = {user: history for user, history in zip(valid.users, valid.histories, strict=True)}
    assert sorted(seen.users) == sorted(user for user, h in before.items() if len(h) >= 2)
    for user, history, target in zip(seen.users, seen.histories, seen.targets, strict=True):
        assert [*history, target] == before[user].tolist()
    few = split.seen(7)
    assert len(few.histories) == 7 and set(few.users) < set(seen.users)
    assert split.seen(7).users.tolist() == few.users.tolist()


def test_a_run_of_an_earlier_version_loads_and_has_a_page(run: Run, tmp_path: Path) -> None:
    replace(run, directory=tmp_path / "run").save()
    path = tmp_path / "run" / "metrics.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    for epoch in stored["epochs"]:
        del epoch["seen_ndcg"]
    path.write_text(json.dumps(stored), encoding="utf-8")
    page = report_page(Run.load(tmp_path / "run"))
    assert page and "Validation NDCG@10 of each epoch" in Reader(page).text


# --- example users


def test_examples_are_users_of_the_validation_with_their_recommendations(run: Run) -> None:
    users = run.metrics.report["examples"]
    assert len(users) == 6
    assert [p["n_events"] for p in users] == sorted(p["n_events"] for p in users)
    valid = run.split.held_out("valid")
    questions = {tuple(h.tolist()): t for h, t in zip(valid.histories, valid.targets, strict=True)}
    answers = TorchRecommender(run.model, run.split.catalogue)
    for user in users:
        ids = [item["id"] for item in user["events"]]
        assert len(ids) == min(6, user["n_events"])
        target = user["next"][0]
        (history,) = [
            history for history, came in questions.items()
            if list(history[-6:]) == ids and len(history) == user["n_events"]
            and came == target["id"]
        ]  # fmt: skip
        (answer,) = answers.recommend_batch([list(history)], 40)
        assert [item["id"] for item in user["recommended"]] == answer.item_ids[:10]
        assert answer.item_ids[target["rank"] - 1] == target["id"]


def test_what_came_next_is_marked_in_the_list_or_named_with_its_rank(run: Run) -> None:
    item = {"id": "a", "title": "Kettle"}
    user = {
        "n_events": 1, "n_next": 1, "events": [{"id": "x"}], "recommended": [item],
        "next": [{**item, "rank": 1}],
    }  # fmt: skip

    def shown(**change: Any) -> str:
        return page_of(run, report={**(run.metrics.report or {}), "examples": [user | change]})

    assert "<mark>Kettle \N{CHECK MARK} taken next</mark>" in shown()
    assert "rank 57" in shown(next=[{"id": "b", "rank": 57}])
    assert "no training event" in shown(next=[{"id": "b", "rank": None}])
    assert "and 3 more" in shown(n_next=4)


# --- the recipe


def test_every_setting_is_there_with_its_meaning_and_its_reason(run: Run) -> None:
    reader = Reader(page_of(run, recipe={"dropout": "A small log: <more>."}))
    settings = {(row[0].split()[0], row[1]) for row in reader.rows if len(row) == 2}
    for config in (run.config, run.model.config, run.recipe):
        for name, value in vars(config).items():
            assert name == "settings" or (name, value_text(value)) in settings
    assert "Share of activations dropped in training." in reader.row("dropout")[0]
    assert "Why: A small log: <more>." in reader.row("dropout")[0]


def test_what_differs_from_the_default_is_known() -> None:
    changed = [s.name for s in settings_of(replace(SMALL, seed=3), {}) if not s.is_default]
    assert changed == ["model", "settings", "epochs", "batch_events", "seed", "threads"]
    sized = MODELS["sasrec"].config(n_items=5)
    assert all(setting.is_default for setting in settings_of(sized, {}))


# --- what it may not look at


@pytest.mark.parametrize("split", ["leave-one-out", "last-session"])
def test_the_test_events_are_never_read(
    split: Any, shop_log: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[Part] = []
    held_out: Callable[[Split, Part, int | None], Any] = Split.held_out

    def spy(self: Split, part: Part, most_users: int | None = None) -> Any:
        parts.append(part)
        return held_out(self, part, most_users)

    monkeypatch.setattr(Split, "held_out", spy)
    pairs = shop_log.assign(timestamp=shop_log["timestamp"] // 2)  # sessions of two events
    run = train(pairs, replace(SMALL, split=split), out=tmp_path / "run", reporting=quietly)
    train_final(run, out=tmp_path / "final", reporting=quietly)
    assert set(parts) == {"valid"}


def test_changing_the_test_events_changes_no_figure(
    run: Run, shop_log: pd.DataFrame, items: pd.DataFrame, tmp_path: Path
) -> None:
    log, report = read_log(shop_log, items=items)
    last = (log.offsets[1:] - 1)[np.diff(log.offsets) >= 3]
    other_items = log.item_index.copy()
    other_items[last] = (other_items[last] + 17) % log.n_items
    changed = replace(log, item_index=other_items)
    assert changed.fingerprint() != log.fingerprint()
    other = train_log(
        changed, report, DataRecipe(), SMALL, out=tmp_path / "run", reporting=quietly
    )
    made_now, before = other.metrics.report, run.metrics.report
    assert without_seconds(made_now) == without_seconds(before)


def without_seconds(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name != "seconds"}


# --- the final run


def test_a_final_run_shows_the_figures_of_the_run_before_and_says_so(
    run: Run, tmp_path: Path
) -> None:
    final = train_final(run, out=tmp_path / "final", reporting=quietly)
    assert final.metrics.report == run.metrics.report
    text = Reader((tmp_path / "final" / "report.html").read_text(encoding="utf-8")).text
    assert "it has trained on every event, so nothing is held out" in text
    assert f"{run.metrics.valid['ndcg@10']:.4f}" in text


def test_a_final_run_makes_the_report_that_the_run_before_lacks(run: Run, tmp_path: Path) -> None:
    bare = replace(run.metrics, report=None)
    final = train_final(replace(run, metrics=bare), out=tmp_path / "final", reporting=quietly)
    made_now, before = final.metrics.report, run.metrics.report
    assert without_seconds(made_now) == without_seconds(before)
    silent = train_final(run, out=tmp_path / "silent")
    assert silent.metrics.report is None

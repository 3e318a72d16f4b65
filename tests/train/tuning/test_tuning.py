"""A search: what it tries, what it leaves alone, what it keeps, and what it may not look at."""

import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from attnrec.runtime.errors import RunError
from attnrec.train import DataRecipe, Run, TrainConfig, train, train_final, tune
from attnrec.train.evaluation.validation import Validation
from attnrec.train.models import MODELS
from attnrec.train.models.base import LearnedModel
from attnrec.train.runs.train import read_log
from attnrec.train.splits.config import Part
from attnrec.train.splits.split import Split
from attnrec.train.tuning.search import tune_log
from attnrec.train.tuning.space import search_space, values_of
from attnrec.train.tuning.study import Trial, TuningStudy

# With seed 0 hardly a trial keeps up with the recipe.
SMALL = TrainConfig(
    "attention-pool", {"hidden_dim": 16, "max_len": 10}, epochs=3, batch_events=100, seed=7,
    threads=1,
)  # fmt: skip
LONG = 60.0  # minutes: these searches are interrupted
LEARNED = [name for name, kind in MODELS.items() if issubclass(kind.model, LearnedModel)]


class Watcher:
    """Keeps the trials, interrupts inside of one of them, and lets others fail."""

    def __init__(
        self,
        interrupt_in: int | None = None,
        fail_in: Callable[[int], bool] = lambda number: False,
    ) -> None:
        self.interrupt_in, self.fail_in = interrupt_in, fail_in
        self.trials: list[Trial] = []
        self.begun: list[int] = []

    def on_move(self, number: int, share: float, seconds: float) -> None:
        assert 0 < share <= 1 and seconds > 0
        if number not in self.begun:
            self.begun.append(number)
        if number == self.interrupt_in:
            raise KeyboardInterrupt
        if self.fail_in(number):
            raise RuntimeError("not enough memory")

    def on_trial(self, trial: Trial, best: Trial | None) -> None:
        assert best is not None and best.counts
        self.trials.append(trial)


def interrupted(log: pd.DataFrame, out: Path, number: int, **more: Any) -> list[Trial]:
    """The trials of a search that is interrupted inside of trial `number`."""
    config = more.pop("config", SMALL)
    watcher = Watcher(number)
    with pytest.raises(KeyboardInterrupt):
        tune(log, config, minutes=LONG, out=out, progress=watcher, **more)
    return watcher.trials


def killed(log: pd.DataFrame, out: Path, number: int) -> None:
    """End the process of a search inside of trial `number`, without a chance to tidy up."""
    process = multiprocessing.get_context("fork").Process(target=_kill, args=(log, out, number))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _kill(log: pd.DataFrame, out: Path, number: int) -> None:
    def kill_in(current: int) -> bool:
        if current == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    tune(log, SMALL, minutes=LONG, out=out, progress=Watcher(fail_in=kill_in))


def tried(trials: list[Trial]) -> list[Any]:
    """What they tried and came to, without what depends on the machine."""
    return [(t.number, dict(t.values), t.outcome, t.ndcg, list(t.curve)) for t in trials]


@pytest.fixture(scope="module")
def searched(shop_log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of sixteen trials and an interrupted one, whose time is then over."""
    out = tmp_path_factory.mktemp("searched") / "run"
    interrupted(shop_log, out, 16)
    quietly = {"resume": True, "reporting": lambda *step: None}
    return tune(shop_log, SMALL, minutes=1e-6, out=out, **quietly)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def journal_of(out: Path) -> Path:
    return out.with_name("run.unfinished") / "tuning.journal"


def kept_weights(out: Path) -> set[str]:
    return {path.name for path in journal_of(out).parent.glob("*.safetensors")}


# --- what is tried


def test_the_recipe_is_the_first_trial_and_a_plain_training(
    shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    config = replace(SMALL, model="fusion", settings={"hidden_dim": 16}, batch_events=None)
    (first,) = interrupted(shop_log, tmp_path / "run", 1, config=config)
    plain = train(shop_log, config, out=tmp_path / "plain")
    assert first.number == 0 and first.outcome == "done"
    assert first.values["dropout"] == 0.5 == plain.config.settings["dropout"]
    assert first.values["batch_events"] == plain.config.batch_events
    assert list(first.curve) == [e["valid"]["ndcg@10"] for e in plain.metrics["epochs"]]
    assert first.ndcg == plain.metrics["valid"]["ndcg@10"]


def test_a_search_that_has_no_time_is_the_recipe_alone_and_a_whole_run(
    shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    run = tune(shop_log, SMALL, minutes=1e-6, out=tmp_path / "run")
    plain = train(shop_log, replace(SMALL, max_minutes=1e-6), out=tmp_path / "plain")
    (trial,) = run.metrics["tuning"]["trials"]
    assert (trial["outcome"], len(trial["curve"])) == ("cut short", 1)
    for name, weight in Run.load(tmp_path / "run").model.state_dict().items():
        assert torch.equal(weight, plain.model.state_dict()[name])
    assert run.metrics["valid"] == plain.metrics["valid"]
    assert not journal_of(tmp_path / "run").parent.exists()


def test_settings_that_were_given_stay(shop_log: pd.DataFrame, out: Path) -> None:
    config = replace(SMALL, learning_rate=0.004)
    trials = interrupted(shop_log, out, 6, config=config)
    free = {"dropout", "temperature", "loss", "attention", "query", "weight_decay"}
    assert free <= set(trials[0].values)
    given = {"hidden_dim", "max_len", "batch_events", "learning_rate", "epochs"}
    assert not given & set(trials[0].values)
    assert all(dict(t.values) != dict(trials[0].values) for t in trials[1:])


# --- what is kept


def test_the_run_is_the_best_trial_with_its_weights(searched: Run) -> None:
    summary = searched.metrics.tuning
    finished = [t for t in summary["trials"] if t["outcome"] in ("done", "cut short")]
    best = summary["trials"][summary["best"]]
    assert len(summary["trials"]) == 17 and summary["best"] > 0
    assert best["ndcg@10"] == max(t["ndcg@10"] for t in finished)
    assert best["ndcg@10"] == searched.metrics["valid"]["ndcg@10"]
    assert best["ndcg@10"] >= summary["trials"][0]["ndcg@10"]
    loaded = Run.load(searched.directory)
    validation = Validation(loaded.split, repeats=False)
    measured = validation.metrics(validation.ranking(loaded.model)).to_json()
    assert measured == searched.metrics["valid"]
    assert values_of(loaded.config, loaded.model.config).items() >= best["values"].items()
    assert not journal_of(searched.directory).parent.exists()


def test_the_lead_is_that_of_the_figures(searched: Run) -> None:
    summary = searched.metrics.tuning
    recipe, best = (summary["trials"][n]["ndcg@10"] for n in (0, summary["best"]))
    assert summary["gain"] == pytest.approx(best - recipe, abs=2e-6)
    low, high = summary["gain_interval"]
    assert low <= summary["gain"] <= high
    assert summary["seconds"] >= sum(t["seconds"] for t in summary["trials"]) - 0.1


def test_why_a_setting_has_its_value_names_the_search(searched: Run) -> None:
    summary = searched.metrics.tuning
    best = summary["trials"][summary["best"]]["values"]
    changed = {name for name, value in best.items() if value != summary["recipe"][name]}
    assert changed == searched.metrics.recipe.keys()
    assert all("trials; the recipe gives" in r for r in searched.metrics.recipe.values())


def test_the_report_shows_the_search(searched: Run) -> None:
    page = (searched.directory / "report.html").read_text(encoding="utf-8")
    summary = searched.metrics.tuning
    assert "The search for settings" in page and "partly luck" not in page
    assert f"the best of {len(summary['trials'])} trials" in page
    assert "Validation NDCG@10 of the trials" in page
    assert "What mattered most" in page and summary["importance"]


def test_a_final_run_repeats_what_was_found(searched: Run, tmp_path: Path) -> None:
    final = train_final(searched, out=tmp_path / "final", reporting=lambda *step: None)
    assert final.config == searched.config
    assert final.metrics["tuning"] == searched.metrics.tuning


def test_a_trial_that_fails_is_told_and_the_search_goes_on(
    shop_log: pd.DataFrame, out: Path
) -> None:
    watcher = Watcher(4, fail_in=lambda number: number in (1, 3))
    with pytest.raises(KeyboardInterrupt):
        tune(shop_log, SMALL, minutes=LONG, out=out, progress=watcher)
    outcomes = [(t.outcome, t.reason) for t in watcher.trials]
    assert outcomes[1] == outcomes[3] == ("failed", "not enough memory")
    assert outcomes[0] == ("done", None)


def test_a_recipe_that_fails_fails_as_a_training_does(shop_log: pd.DataFrame, out: Path) -> None:
    watcher = Watcher(fail_in=lambda number: True)
    with pytest.raises(RuntimeError, match="not enough memory"):
        tune(shop_log, SMALL, minutes=LONG, out=out, progress=watcher)
    assert not out.exists() and not journal_of(out).parent.exists()


def test_a_search_of_failures_ends(shop_log: pd.DataFrame, out: Path) -> None:
    watcher = Watcher(fail_in=lambda number: number > 0)
    run = tune(shop_log, SMALL, minutes=LONG, out=out, progress=watcher)
    assert len(watcher.trials) == 6 and run.metrics["tuning"]["best"] == 0


def test_a_trial_is_stopped_when_it_is_behind_the_median_of_the_others(searched: Run) -> None:
    trials = searched.metrics.tuning["trials"]
    stopped = [trial for trial in trials if trial["outcome"] == "stopped"]
    assert stopped and all(len(trial["curve"]) < SMALL.epochs for trial in stopped)
    for trial in stopped:
        n_epochs = len(trial["curve"])
        done = [t for t in trials[: trial["number"]] if t["outcome"] == "done"]
        assert max(trial["curve"]) < np.median([t["curve"][n_epochs - 1] for t in done])


def test_a_trial_that_has_no_time_left_is_cut_short_and_may_be_the_best(
    shop_log: pd.DataFrame, out: Path
) -> None:
    config = replace(SMALL, epochs=100_000, patience=100_000)
    run = tune(shop_log, config, minutes=0.05, out=out)
    (trial,) = run.metrics["tuning"]["trials"]
    assert trial["outcome"] == "cut short" and 1 < len(trial["curve"]) < 100_000
    assert run.metrics["tuning"]["seconds"] < 20  # 3 and an epoch, on a busy machine


def test_the_setting_that_decides_is_the_most_important_one(out: Path) -> None:
    config = TrainConfig("sasrec")
    values = values_of(config, config.model_config(n_items=40))
    space = search_space(values, values.keys() - {"dropout", "temperature"})
    study = TuningStudy(out, {}, epochs=3, seed=0)
    for n_trials in range(1, 21):
        asked, tried = study.ask(space, values)
        ndcg = 0.5 - tried["dropout"] + 0.1 * tried["temperature"]
        study.end(asked, {"outcome": "done", "ndcg": ndcg, "after": 1.0}, None)
        if n_trials == 5:
            assert study.importance() == {}  # too few
    found = study.importance()
    assert list(found) == ["dropout", "temperature"] and found["dropout"] > 0.8


def test_the_limit_of_each_trial_is_that_of_a_training(shop_log: pd.DataFrame, out: Path) -> None:
    config = replace(SMALL, epochs=100_000, patience=100_000, max_minutes=1e-6)
    trials = interrupted(shop_log, out, 3, config=config)
    assert [(t.outcome, len(t.curve)) for t in trials] == [("done", 1)] * 3


# --- going on


def test_an_interrupted_search_goes_on_where_it_was(shop_log: pd.DataFrame, out: Path) -> None:
    first = interrupted(shop_log, out, 3)
    rest = interrupted(shop_log, out, 9, resume=True)
    assert [t.number for t in first + rest] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert {t.outcome for t in first + rest} <= {"done", "stopped"}
    run = tune(shop_log, SMALL, minutes=1e-6, out=out, resume=True)
    summary = run.metrics["tuning"]["trials"]
    assert [t["number"] for t in summary if t["outcome"] == "interrupted"] == [3, 9]
    found = [(t["number"], t["ndcg@10"], t["curve"]) for t in summary]
    assert [found[n] for n in (0, 1, 2)] == [(t.number, t.ndcg, list(t.curve)) for t in first]
    assert not journal_of(out).parent.exists()


def test_a_search_that_goes_on_often_tries_nothing_twice_and_leads_over_the_recipe(
    shop_log: pd.DataFrame, out: Path
) -> None:
    trials: list[Trial] = []
    for number in (1, 3, 5, 7, 9, 12):
        trials += interrupted(shop_log, out, number, resume=number > 1)
    assert len({json.dumps(dict(t.values)) for t in trials}) == len(trials) > 5
    found = tune(shop_log, SMALL, minutes=1e-6, out=out, resume=True).metrics["tuning"]
    recipe, best = (found["trials"][n]["ndcg@10"] for n in (0, found["best"]))
    assert found["best"] > 0 and found["gain"] == pytest.approx(best - recipe, abs=2e-6)


def test_a_trial_that_was_killed_is_marked_and_the_search_goes_on(
    shop_log: pd.DataFrame, out: Path
) -> None:
    killed(shop_log, out, 4)
    with journal_of(out).open("ab") as journal:
        journal.write(b'{"op_code":6,"wor')  # it was being written
    (best,) = (journal_of(out).with_name(name) for name in kept_weights(out))
    shutil.copy(best, best.with_name("trial-000004.safetensors"))  # written before its end was
    shutil.copy(best, best.with_name(".01234567.trial-000005.safetensors"))
    rest = interrupted(shop_log, out, 6, resume=True)
    assert [t.number for t in rest] == [5]
    backend = JournalFileBackend(str(journal_of(out)))
    study = optuna.load_study(study_name=None, storage=JournalStorage(backend))
    assert [t.number for t in study.trials if t.state == optuna.trial.TrialState.FAIL] == [4, 6]
    summary = tune(shop_log, SMALL, minutes=1e-6, out=out, resume=True).metrics["tuning"]["trials"]
    assert [t["outcome"] for t in summary if t["number"] in (4, 6)] == ["interrupted"] * 2
    assert [t["number"] for t in summary] == list(range(7))
    assert [path.name for path in out.parent.iterdir()] == ["run"]


def test_a_search_that_was_killed_in_the_recipe_begins_anew(
    shop_log: pd.DataFrame, out: Path
) -> None:
    killed(shop_log, out, 0)
    assert journal_of(out).exists()
    (first,) = interrupted(shop_log, out, 1, resume=True)
    assert (first.number, first.outcome) == (0, "done")


def test_the_minutes_before_an_interruption_count(shop_log: pd.DataFrame, out: Path) -> None:
    first = Watcher(2)
    with pytest.raises(KeyboardInterrupt) as stopped:
        tune(shop_log, SMALL, minutes=LONG, out=out, progress=first)
    assert "kept up to trial 1" in "".join(stopped.value.__notes__)
    watcher = Watcher()
    minutes = first.trials[-1].after / 60  # enough for another, if they began at 0
    run = tune(shop_log, SMALL, minutes=minutes, out=out, progress=watcher, resume=True)
    lost = run.metrics["tuning"]["trials"][2]
    assert lost["outcome"] == "interrupted" and lost["after"] > first.trials[-1].after
    assert watcher.begun == [] and run.metrics["tuning"]["seconds"] == lost["after"]


def test_a_recipe_that_was_cut_short_is_trained_anew_with_more_minutes(
    shop_log: pd.DataFrame, out: Path
) -> None:
    def stop(*step: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(shop_log, SMALL, minutes=1e-6, out=out, reporting=stop)
    assert not journal_of(out).exists()  # nothing is lost: the minutes were too few
    (first,) = interrupted(shop_log, out, 1, resume=True)
    assert (first.number, first.outcome) == (0, "done")


def test_nothing_is_kept_before_the_first_trial_is_over(shop_log: pd.DataFrame, out: Path) -> None:
    assert interrupted(shop_log, out, 0) == []
    assert not journal_of(out).parent.exists()


def test_only_the_weights_of_the_best_are_kept(shop_log: pd.DataFrame, out: Path) -> None:
    trials = interrupted(shop_log, out, 8)
    best = max((t for t in trials if t.counts), key=lambda t: t.ndcg or 0.0)
    assert best.number > 0 and kept_weights(out) == {f"trial-{best.number:06}.safetensors"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(SMALL, seed=1), "unfinished search with seed 7, not 1"),
        (replace(SMALL, settings={"hidden_dim": 16}), "unfinished search with settings"),
        (replace(SMALL, model="sasrec"), "unfinished search with model 'attention-pool'"),
    ],
)
def test_a_search_with_other_arguments_is_refused(
    config: TrainConfig, message: str, shop_log: pd.DataFrame, out: Path
) -> None:
    interrupted(shop_log, out, 1)
    with pytest.raises(RunError, match=message):
        tune(shop_log, config, minutes=1e-6, out=out, resume=True)
    with pytest.raises(RunError, match=r"unfinished search with data .* or delete that directory"):
        tune(shop_log.iloc[:-1], SMALL, minutes=1e-6, out=out, resume=True)
    notes = journal_of(out).with_name("notes.txt")  # of somebody else
    notes.touch()
    assert [t.number for t in interrupted(shop_log, out, 3, resume=True)] == [2]
    tune(shop_log, SMALL, minutes=1e-6, out=out, resume=True)
    assert [path.name for path in notes.parent.iterdir()] == ["notes.txt"]


def test_searches_and_trainings_are_not_mixed_up(shop_log: pd.DataFrame, out: Path) -> None:
    interrupted(shop_log, out, 1)
    with pytest.raises(
        RunError, match="holds a search that was interrupted: go on with attnrec tune and `resume`"
    ):
        tune(shop_log, SMALL, minutes=LONG, out=out)
    for resume in (False, True):
        with pytest.raises(RunError, match="holds a search that was interrupted"):
            train(shop_log, SMALL, out=out, resume=resume)
    journal_of(out).unlink()
    (journal_of(out).parent / "epoch-000001-step-000001.checkpoint").touch()
    with pytest.raises(RunError, match="holds a training that was interrupted, not a search"):
        tune(shop_log, SMALL, minutes=LONG, out=out, resume=True)


@pytest.mark.parametrize("name", ["tuning.journal", "trial-000000.safetensors"])
def test_what_is_damaged_is_refused(name: str, shop_log: pd.DataFrame, out: Path) -> None:
    interrupted(shop_log, out, 1)
    path = journal_of(out).with_name(name)
    path.write_bytes(path.read_bytes()[20:])
    with pytest.raises(RunError, match=rf"{name} is damaged.*: delete .* to search anew"):
        tune(shop_log, SMALL, minutes=1e-6, out=out, resume=True)
    path.unlink()
    if path.suffix == ".safetensors":
        with pytest.raises(RunError, match=rf"{name} is missing: delete"):
            tune(shop_log, SMALL, minutes=1e-6, out=out, resume=True)


# --- what cannot be


@pytest.mark.parametrize("model", [name for name in MODELS if name not in LEARNED])
def test_a_model_that_counts_has_nothing_to_tune(
    model: str, shop_log: pd.DataFrame, out: Path
) -> None:
    message = f"model {model} has no training to tune: .* is trained: fusion, sasrec"
    with pytest.raises(ValueError, match=message):
        tune(shop_log, TrainConfig(model), minutes=1, out=out)


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(minutes: float, shop_log: pd.DataFrame, out: Path) -> None:
    with pytest.raises(ValueError, match="`minutes` must be a number above 0, not"):
        tune(shop_log, SMALL, minutes=minutes, out=out)


def test_where_everything_was_given_there_is_nothing_to_search(
    shop_log: pd.DataFrame, out: Path
) -> None:
    settings = {
        "hidden_dim": 16, "n_negatives": 2, "user_dropout": 0.2, "dropout": 0.1,
    }  # fmt: skip
    config = TrainConfig("neumf", settings, learning_rate=0.01, weight_decay=0.1, batch_events=100)
    with pytest.raises(ValueError, match=r"was given \(batch_events, dropout, .*: leave one out"):
        tune(shop_log, config, minutes=1, out=out)


def test_without_optuna_the_error_says_how_to_install_it(
    shop_log: pd.DataFrame, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"needs optuna.*: pip install 'attnrec\[tune\]'"):
        tune(shop_log, SMALL, minutes=1, out=out)


# --- what a search may look at


@pytest.mark.parametrize("split", ["leave-one-out", "last-session"])
def test_the_test_events_are_never_asked_for(
    split: Any, shop_log: pd.DataFrame, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Part] = []
    held_out: Callable[[Split, Part, int | None], Any] = Split.held_out

    def spy(self: Split, part: Part, most_users: int | None = None) -> Any:
        asked.append(part)
        return held_out(self, part, most_users)

    monkeypatch.setattr(Split, "held_out", spy)
    pairs = shop_log.assign(timestamp=shop_log["timestamp"] // 2)  # sessions of two events
    config = replace(SMALL, split=split)
    interrupted(pairs, out, 3, config=config)
    quietly = {"resume": True, "reporting": lambda *step: None}
    tune(pairs, config, minutes=1e-6, out=out, **quietly)
    assert asked and set(asked) == {"valid"}


def test_changing_the_test_events_changes_no_trial(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    log, report = read_log(shop_log)
    last = (log.offsets[1:] - 1)[np.diff(log.offsets) >= 3]
    other_items = log.item_index.copy()
    other_items[last] = (other_items[last] + 17) % log.n_items
    changed = replace(log, item_index=other_items)
    assert changed.fingerprint() != log.fingerprint()
    searches = []
    for name, one in (("first", log), ("second", changed)):
        watcher = Watcher(8)
        with pytest.raises(KeyboardInterrupt):
            tune_log(
                one, report, DataRecipe(), SMALL, minutes=LONG, out=tmp_path / name,
                progress=watcher,
            )  # fmt: skip
        searches.append(tried(watcher.trials))
    assert len(searches[0]) == 8 and searches[0] == searches[1]

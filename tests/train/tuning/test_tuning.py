"""A search: what it tries, what it leaves alone, what it keeps, and what it may not look at."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from attnrec.runtime.errors import RunError
from attnrec.train import DataRecipe, Run, TrainConfig, train, train_final, tune
from attnrec.train.data.split import Part, Split
from attnrec.train.evaluation.validation import Validation
from attnrec.train.models import MODELS
from attnrec.train.models.base import LearnedModel
from attnrec.train.runs.train import read_log
from attnrec.train.tuning import trials as tuning_search
from attnrec.train.tuning.search import tune_log
from attnrec.train.tuning.space import values_of
from attnrec.train.tuning.store import Trial

SMALL = TrainConfig(
    "attention-pool", {"hidden_dim": 16, "max_len": 10}, epochs=3, batch_events=100, threads=1
)
LONG = 60.0  # minutes: these searches are interrupted
LEARNED = [name for name, kind in MODELS.items() if issubclass(kind.model, LearnedModel)]


class Watcher:
    """Keeps the trials, and interrupts inside of one of them."""

    def __init__(self, interrupt_in: int | None = None) -> None:
        self.interrupt_in = interrupt_in
        self.trials: list[Trial] = []
        self.begun: list[int] = []

    def on_move(self, number: int, share: float, seconds: float) -> None:
        assert 0 < share <= 1 and seconds > 0
        if number not in self.begun:
            self.begun.append(number)
        if number == self.interrupt_in:
            raise KeyboardInterrupt

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


def tried(trials: list[Trial]) -> list[Any]:
    """What they tried and came to, without what depends on the machine."""
    return [(t.number, dict(t.values), t.outcome, t.ndcg, list(t.curve)) for t in trials]


@pytest.fixture(scope="module")
def searched(shop_log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of twelve trials, whose time is then over."""
    out = tmp_path_factory.mktemp("searched") / "run"
    interrupted(shop_log, out, 12)
    quietly = {"resume": True, "reporting": lambda *step: None}
    return tune(shop_log, SMALL, minutes=1e-6, out=out, **quietly)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def state_of(out: Path) -> Path:
    return out.with_name("run.unfinished") / "tuning.json"


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
    assert not state_of(tmp_path / "run").parent.exists()


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
    told = searched.metrics["tuning"]
    finished = [t for t in told["trials"] if t["outcome"] in ("done", "cut short")]
    best = told["trials"][told["best"]]
    assert len(told["trials"]) == 12 and told["best"] > 0
    assert best["ndcg@10"] == max(t["ndcg@10"] for t in finished)
    assert best["ndcg@10"] == searched.metrics["valid"]["ndcg@10"]
    assert best["ndcg@10"] >= told["trials"][0]["ndcg@10"]
    loaded = Run.load(searched.directory)
    measured = Validation(loaded.split, repeats=False).metrics(loaded.model).to_json()
    assert measured == searched.metrics["valid"]
    assert values_of(loaded.config, loaded.model.config).items() >= best["values"].items()
    assert not state_of(searched.directory).parent.exists()


def test_the_lead_is_that_of_the_figures(searched: Run) -> None:
    told = searched.metrics["tuning"]
    recipe, best = (told["trials"][n]["ndcg@10"] for n in (0, told["best"]))
    assert told["gain"] == pytest.approx(best - recipe, abs=2e-6)
    low, high = told["gain_interval"]
    assert low <= told["gain"] <= high
    assert told["seconds"] >= sum(t["seconds"] for t in told["trials"]) - 0.1


def test_why_a_setting_has_its_value_names_the_search(searched: Run) -> None:
    told = searched.metrics["tuning"]
    best = told["trials"][told["best"]]["values"]
    changed = {name for name, value in best.items() if value != told["recipe"][name]}
    assert changed == searched.metrics.get("recipe", {}).keys()
    assert all("trials; the recipe gives" in r for r in searched.metrics["recipe"].values())


def test_the_report_shows_the_search(searched: Run) -> None:
    page = (searched.directory / "report.html").read_text(encoding="utf-8")
    told = searched.metrics["tuning"]
    assert "The search for settings" in page and "partly luck" not in page
    assert f"the best of {len(told['trials'])} trials" in page
    assert "Validation NDCG@10 of the trials" in page
    assert "NDCG@10 by the value of a setting" in page


def test_a_final_run_repeats_what_was_found(searched: Run, tmp_path: Path) -> None:
    final = train_final(searched, out=tmp_path / "final", reporting=lambda *step: None)
    assert final.config == searched.config
    assert final.metrics["tuning"] == searched.metrics["tuning"]


def test_a_trial_that_fails_is_told_and_the_search_goes_on(
    shop_log: pd.DataFrame, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = tuning_search.fit_model

    def sometimes(*arguments: Any) -> Any:
        if watcher.trials and len(watcher.trials) % 2:
            raise RuntimeError("not enough memory")
        return fit(*arguments)

    watcher = Watcher(4)
    monkeypatch.setattr(tuning_search, "fit_model", sometimes)
    with pytest.raises(KeyboardInterrupt):
        tune(shop_log, SMALL, minutes=LONG, out=out, progress=watcher)
    outcomes = [(t.outcome, t.reason) for t in watcher.trials]
    assert outcomes[1] == outcomes[3] == ("failed", "not enough memory")
    assert outcomes[0] == ("done", None)


def test_a_recipe_that_fails_fails_as_a_training_does(
    shop_log: pd.DataFrame, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(tuning_search, "fit_model", fail)
    with pytest.raises(RuntimeError, match="not enough memory"):
        tune(shop_log, SMALL, minutes=LONG, out=out)
    assert not out.exists() and not state_of(out).parent.exists()


def test_a_search_of_failures_ends(
    shop_log: pd.DataFrame, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, watcher = tuning_search.fit_model, Watcher()

    def once(*arguments: Any) -> Any:
        if watcher.trials:
            raise RuntimeError("not enough memory")
        return fit(*arguments)

    monkeypatch.setattr(tuning_search, "fit_model", once)
    run = tune(shop_log, SMALL, minutes=LONG, out=out, progress=watcher)
    assert len(watcher.trials) == 6 and run.metrics["tuning"]["best"] == 0


# --- going on


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    whole = interrupted(shop_log, tmp_path / "whole", 9)
    first = interrupted(shop_log, tmp_path / "run", 3)
    rest = interrupted(shop_log, tmp_path / "run", 9, resume=True)
    assert [t.number for t in rest] == list(range(3, 9))
    assert tried(first + rest) == tried(whole)
    run = tune(shop_log, SMALL, minutes=1e-6, out=tmp_path / "run", resume=True)
    assert len(run.metrics["tuning"]["trials"]) == 9  # no time was left
    assert not state_of(tmp_path / "run").parent.exists()


def test_the_minutes_before_an_interruption_count(shop_log: pd.DataFrame, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        tune(shop_log, SMALL, minutes=LONG, out=out, progress=Watcher(2))
    assert "kept up to trial 1" in "".join(stopped.value.__notes__)
    state = json.loads(state_of(out).read_text())
    assert state["seconds"] > state["trials"][-1]["after"]  # of the trial that was lost, too
    state["seconds"] = 59.5 * 60
    state_of(out).write_text(json.dumps(state))
    watcher = Watcher()
    run = tune(shop_log, SMALL, minutes=59.5, out=out, progress=watcher, resume=True)
    assert watcher.begun == [] and len(run.metrics["tuning"]["trials"]) == 2


def test_a_recipe_that_was_cut_short_is_trained_anew_with_more_minutes(
    shop_log: pd.DataFrame, out: Path
) -> None:
    def stop(*step: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(shop_log, SMALL, minutes=1e-6, out=out, reporting=stop)
    assert json.loads(state_of(out).read_text())["trials"][0]["outcome"] == "cut short"
    (first,) = interrupted(shop_log, out, 1, resume=True)
    assert (first.number, first.outcome) == (0, "done")


def test_nothing_is_kept_before_the_first_trial_is_over(shop_log: pd.DataFrame, out: Path) -> None:
    assert interrupted(shop_log, out, 0) == []
    assert not state_of(out).parent.exists()


def test_only_the_recipe_and_the_best_are_kept(shop_log: pd.DataFrame, out: Path) -> None:
    trials = interrupted(shop_log, out, 8)
    best = max((t for t in trials if t.counts), key=lambda t: t.ndcg or 0.0)
    weights = {path.name for path in state_of(out).parent.glob("*.safetensors")}
    assert weights == {f"trial-{number:06}.safetensors" for number in (0, best.number)}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(SMALL, seed=1), "unfinished search with seed 0, not 1"),
        (replace(SMALL, settings={"hidden_dim": 16}), "unfinished search with settings"),
        (replace(SMALL, model="sasrec"), "unfinished search with model 'attention-pool'"),
    ],
)
def test_a_search_with_other_arguments_is_refused(
    config: TrainConfig, message: str, shop_log: pd.DataFrame, out: Path
) -> None:
    interrupted(shop_log, out, 1)
    before = state_of(out).read_bytes()
    with pytest.raises(RunError, match=message):
        tune(shop_log, config, minutes=LONG, out=out, resume=True)
    assert state_of(out).read_bytes() == before


def test_a_search_on_another_log_is_refused(shop_log: pd.DataFrame, out: Path) -> None:
    interrupted(shop_log, out, 1)
    with pytest.raises(RunError, match=r"unfinished search with data .* or delete that directory"):
        tune(shop_log.iloc[:-1], SMALL, minutes=LONG, out=out, resume=True)


def test_searches_and_trainings_are_not_mixed_up(shop_log: pd.DataFrame, out: Path) -> None:
    interrupted(shop_log, out, 1)
    with pytest.raises(
        RunError, match="holds a search that was interrupted: go on with `tune` and `resume`"
    ):
        tune(shop_log, SMALL, minutes=LONG, out=out)
    for resume in (False, True):
        with pytest.raises(RunError, match="holds a search that was interrupted"):
            train(shop_log, SMALL, out=out, resume=resume)
    state_of(out).unlink()
    (state_of(out).parent / "epoch-000001-step-000001.checkpoint").touch()
    with pytest.raises(RunError, match="holds a training that was interrupted, not a search"):
        tune(shop_log, SMALL, minutes=LONG, out=out, resume=True)


@pytest.mark.parametrize("name", ["tuning.json", "trial-000000.safetensors"])
def test_what_is_damaged_is_refused(name: str, shop_log: pd.DataFrame, out: Path) -> None:
    interrupted(shop_log, out, 1)
    path = state_of(out).with_name(name)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=rf"{name} is damaged.*: delete .* to search anew"):
        tune(shop_log, SMALL, minutes=1e-6, out=out, resume=True)
    path.unlink()
    if name != "tuning.json":
        with pytest.raises(RunError, match=f"{name} is missing"):
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
    with pytest.raises(ValueError, match="`tune` must be a number above 0, not"):
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
    import attnrec.train

    monkeypatch.delitem(sys.modules, "attnrec.train.tuning.study", raising=False)
    monkeypatch.delattr(attnrec.train, "tuning_study", raising=False)
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

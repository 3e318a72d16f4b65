"""A run directory: complete, replaced as a whole, and never a bare exception."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from attnrec.runtime.errors import RunError
from attnrec.train import Run, TrainConfig, train, train_final
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.evaluation.validation import Validation
from attnrec.train.runs.target import check_target
from attnrec.train.runs.train import read_log, train_log

SMALL = TrainConfig(
    settings={"hidden_dim": 16, "max_len": 10}, epochs=2, batch_events=100, threads=1
)
FILES = {
    "config.json",
    "data.json",
    "metrics.json",
    "catalogue.parquet",
    "items.parquet",
    "interactions.parquet",
    "weights.safetensors",
}
ITEMS = pd.DataFrame({"item_id": ["item 03", "item 04"], "title": ["Kettle", "Mug"]})
HISTORIES = [[], ["item 03"], ["item 03", "item 04", "no such item", "item 06"]]


@pytest.fixture(scope="module")
def run(shop_log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(shop_log, SMALL, items=ITEMS, out=tmp_path_factory.mktemp("train") / "run")


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    """A copy of the run that may be damaged."""
    replace(run, directory=tmp_path / "run").save()
    return tmp_path / "run"


def same_weights(one: Run, other: Run) -> bool:
    left, right = one.model.state_dict(), other.model.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def test_a_run_holds_every_file(run: Run) -> None:
    names = {path.name for path in run.directory.iterdir()}
    assert names == FILES


def test_a_loaded_run_is_the_run_that_was_saved(run: Run) -> None:
    loaded = Run.load(run.directory)
    assert (loaded.config, loaded.recipe, loaded.data) == (run.config, run.recipe, run.data)
    assert loaded.metrics == run.metrics
    assert same_weights(loaded, run)
    assert loaded.split.interactions.fingerprint() == run.split.interactions.fingerprint()
    answers, expected = (
        TorchRecommender(r.model, r.split.catalogue).recommend_batch(HISTORIES, 40)
        for r in (loaded, run)
    )
    assert answers == expected
    assert "Mug" in (answers[0].titles or [])


@pytest.mark.parametrize("model", ["popularity", "markov-chain"])
def test_a_model_without_epochs_is_kept_too(
    model: str, shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    run = train(shop_log, TrainConfig(model), out=tmp_path / "run")
    assert run.metrics["epochs"] == [] and run.metrics["best_epoch"] is None
    assert run.metrics["valid"]["n_users"] > 50
    assert {path.name for path in run.directory.iterdir()} == FILES
    assert same_weights(Run.load(run.directory), run)


@pytest.mark.parametrize("model", ["sasrec", "fusion"])
def test_the_best_epoch_is_kept_with_its_figures_or_those_after_tuning(
    model: str, shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    config = TrainConfig(model, {"hidden_dim": 8}, epochs=3, batch_events=100)
    run = train(shop_log, config, out=tmp_path / "run")
    best = run.metrics.epochs[run.metrics.best_epoch - 1].valid
    assert best["ndcg@10"] == max(e.valid["ndcg@10"] for e in run.metrics.epochs)
    if model == "sasrec":
        means = {name for name in best if not name.endswith("_interval")}
        assert {n: run.metrics.valid[n] for n in means} == {n: best[n] for n in means}
    validation = Validation(run.split, repeats=False)
    measured = validation.metrics(validation.ranking(run.model)).to_json()
    assert run.metrics.valid == measured


# --- damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


@pytest.mark.parametrize("damage", [cut, empty, noise, Path.unlink], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", sorted(FILES))
def test_a_damaged_or_missing_file_is_a_run_error(
    name: str, damage: Callable[[Path], None], copy: Path
) -> None:
    damage(copy / name)
    with pytest.raises(RunError, match=r"train again|run directory"):
        Run.load(copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", []),
        ("config.json", {}),
        ("config.json", {"train": {}, "model_config": {}}),
        ("config.json", {"train": {"colour": 1}, "model_config": {}, "final": False}),
        ("config.json", {"train": {}, "model_config": {"n_items": 3}, "final": False}),
        ("config.json", {"train": {}, "model_config": {"n_items": "3"}, "final": False}),
        ("data.json", []),
        ("data.json", {"recipe": {}}),
        ("data.json", {"recipe": [], "report": {}}),
        ("data.json", {"recipe": {"colour": 1}, "report": {}}),
        ("metrics.json", []),
        ("metrics.json", 3),
        ("metrics.json", {"valid": {}}),
    ],
)
def test_a_file_with_other_content_is_a_run_error(name: str, content: Any, copy: Path) -> None:
    (copy / name).write_text(json.dumps(content))
    with pytest.raises(RunError, match="train again"):
        Run.load(copy)


def changed_config(copy: Path, **changes: Any) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    "settings", [{"hidden_dim": 64}, {"n_blocks": 9}, {"time_gaps": True}], ids=str
)
def test_settings_that_do_not_belong_to_the_weights_are_told_in_one_sentence(
    settings: dict[str, Any], copy: Path
) -> None:
    stored = json.loads((copy / "config.json").read_text())
    changed_config(copy, model_config=stored["model_config"] | settings)
    with pytest.raises(RunError, match=r"config\.json does not belong to the weights") as refusal:
        Run.load(copy)
    message = str(refusal.value)
    assert "weights.safetensors" in message and message.endswith("train again")
    assert "\n" not in message and len(message) < 200 + 2 * len(str(copy))


def test_a_run_of_a_model_that_is_not_registered_is_not_damaged(copy: Path) -> None:
    own = json.loads((copy / "config.json").read_text())["train"]
    changed_config(copy, train=own | {"model": "gru"})
    message = r"the model 'gru', which is not registered here: import the module with its line "
    with pytest.raises(RunError, match=message + r"MODELS\['gru'\]") as refusal:
        Run.load(copy)
    assert "damaged" not in str(refusal.value)
    assert "train again" not in str(refusal.value)


def test_a_run_of_another_version_is_not_damaged_and_read_if_it_can_be(copy: Path) -> None:
    changed_config(copy, attnrec="9.9.9")
    Run.load(copy)
    own = json.loads((copy / "config.json").read_text())["model_config"]
    changed_config(copy, model_config=own | {"a_new_setting": 1})
    with pytest.raises(RunError, match=r"was written by attnrec 9\.9\.9.*install attnrec 9\.9\.9"):
        Run.load(copy)


def test_files_of_different_runs_do_not_pass_for_one(copy: Path, run: Run) -> None:
    log = run.split.interactions
    other = replace(log, item_index=log.item_index[::-1].copy())
    other.save(copy)
    with pytest.raises(RunError, match="does not follow from the interactions"):
        Run.load(copy)


@pytest.mark.parametrize("name", ["no such directory", "."])
def test_a_directory_without_a_run_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        Run.load(tmp_path / name)


# --- replacing


def test_a_new_run_takes_the_place_of_the_old_one(copy: Path, shop_log: pd.DataFrame) -> None:
    train(shop_log, TrainConfig("popularity"), out=copy)
    assert Run.load(copy).config.model == "popularity"
    assert {path.name for path in copy.iterdir()} == FILES
    assert [path.name for path in copy.parent.iterdir()] == ["run"]


def test_a_failure_while_saving_leaves_the_old_run(
    copy: Path, run: Run, shop_log: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full_disk)
    with pytest.raises(OSError, match="no space left"):
        train(shop_log, replace(SMALL, seed=1), out=copy)
    # The checkpoints stay as well: only saving has to be done again.
    assert sorted(path.name for path in copy.parent.iterdir()) == ["run", "run.unfinished"]
    assert same_weights(Run.load(copy), run)


def test_a_failure_at_the_last_step_leaves_the_old_run(
    copy: Path, run: Run, shop_log: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def busy(source: Path, target: Path) -> None:
        if Path(target) == copy and Path(source).name != "old":
            raise PermissionError("the directory is in use")
        rename(source, target)

    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(PermissionError, match="in use"):
        train(shop_log, TrainConfig("popularity"), out=copy)
    assert [path.name for path in copy.parent.iterdir()] == ["run"]
    assert same_weights(Run.load(copy), run)


@pytest.mark.parametrize(
    ("out", "message"),
    [("a file", "is a file"), ("missing/run", "does not exist; make it first")],
)
def test_a_target_that_cannot_be_is_refused(
    out: str, message: str, shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(RunError, match=message):
        train(shop_log, SMALL, out=tmp_path / out)


def test_a_target_whose_name_is_no_unicode_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not valid Unicode; name another `out`"):
        check_target(tmp_path / os.fsdecode(b"caf\xe9"))


def test_an_empty_directory_may_become_a_run(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    train(shop_log, TrainConfig("popularity"), out=tmp_path / "run")
    assert Run.load(tmp_path / "run").config.model == "popularity"


# --- what training may look at


def without_seconds(metrics: Any) -> Any:
    return replace(metrics, epochs=[replace(epoch, seconds=0.0) for epoch in metrics.epochs])


def test_training_never_looks_at_the_test_events(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    log, report = read_log(shop_log)
    last = (log.offsets[1:] - 1)[np.diff(log.offsets) >= 3]
    other_items = log.item_index.copy()
    other_items[last] = (other_items[last] + 17) % log.n_items
    changed: Interactions = replace(log, item_index=other_items)
    assert changed.fingerprint() != log.fingerprint()

    recipe = DataRecipe()
    first = train_log(log, report, recipe, SMALL, out=tmp_path / "first")
    second = train_log(changed, report, recipe, SMALL, out=tmp_path / "second")
    assert same_weights(first, second)
    assert without_seconds(first.metrics) == without_seconds(second.metrics)


def test_training_again_gives_the_same_run(
    run: Run, shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    again = train(shop_log, SMALL, items=ITEMS, out=tmp_path / "again")
    assert same_weights(again, run)
    assert without_seconds(again.metrics) == without_seconds(run.metrics)
    other = train(shop_log, replace(SMALL, seed=1), items=ITEMS, out=tmp_path / "other")
    assert not same_weights(other, run)


# --- the final run


def test_a_final_run_trains_to_the_best_epoch_on_every_event(run: Run, tmp_path: Path) -> None:
    metrics = replace(run.metrics, best_epoch=1)
    final = train_final(replace(run, metrics=metrics), out=tmp_path / "final")
    assert final.split.final and final.config == run.config
    n_events = run.split.interactions.n_events
    assert len(final.split.sequences.rows) == n_events > len(run.split.sequences.rows)
    assert [(e.epoch, e.valid) for e in final.metrics.epochs] == [(1, None)]


def test_a_final_run_keeps_the_figures_of_the_run_before_and_says_so(
    run: Run, tmp_path: Path
) -> None:
    final = train_final(run, out=tmp_path / "final")
    assert final.metrics["valid"] == run.metrics["valid"]
    assert "before the held-out events were added" in final.metrics["of"]
    loaded = Run.load(tmp_path / "final")
    assert loaded.split.final and same_weights(loaded, final)
    with pytest.raises(ValueError, match="is a final run already"):
        train_final(loaded, out=tmp_path / "more final")


def test_a_final_run_of_counts_counts_every_event(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    run = train(shop_log, TrainConfig("popularity"), out=tmp_path / "run")
    final = train_final(run, out=tmp_path / "final")
    assert final.split.catalogue.n_events.sum() == run.split.interactions.n_events
    assert final.metrics["valid"] == run.metrics["valid"]

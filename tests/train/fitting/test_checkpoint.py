"""Checkpoints: what they keep, when they serve, and what is refused rather than mixed up."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from attnrec.runtime.errors import RunError
from attnrec.train import DataRecipe, Run, TrainConfig, train, train_final
from attnrec.train.fitting.checkpoint import Checkpoints
from attnrec.train.fitting.loop import fit_by_gradient
from attnrec.train.fitting.pace import Pace
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.models import MODELS
from attnrec.train.runs.train import fit_model, new_model
from attnrec.train.splits.split import divide

SMALL = TrainConfig(
    "sasrec",
    settings={"hidden_dim": 16, "max_len": 10},
    epochs=3,
    batch_events=100,
    threads=1,
    seed=10,  # best after the second epoch
)


class Watcher:
    """Counts the steps, and interrupts after one of them, or (step 0) after an epoch."""

    def __init__(self, epoch: int = 0, step: int = 0) -> None:
        self.moment = (epoch, step)
        self.steps: list[tuple[int, int]] = []

    def on_start(self, n_epochs: int) -> None:
        pass

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        self.steps.append((epoch, step))
        if (epoch, step) == self.moment:
            raise KeyboardInterrupt

    def on_epoch(self, record: EpochRecord) -> None:
        if (record.epoch, 0) == self.moment:
            raise KeyboardInterrupt


def interrupt(log: pd.DataFrame, out: Path, epoch: int, step: int = 0, **more: Any) -> str:
    """Train until then; returns the notes of the error."""
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(log, SMALL, out=out, progress=Watcher(epoch, step), **more)
    return "\n".join(getattr(stopped.value, "__notes__", []))


def result(run: Run) -> tuple[bytes, Any]:
    """Weights and figures as they are on the disk, without the seconds."""
    metrics = json.loads((run.directory / "metrics.json").read_text())
    for record in metrics["epochs"]:
        del record["seconds"]
    return (run.directory / "weights.safetensors").read_bytes(), metrics


@pytest.fixture(scope="module")
def unbroken(shop_log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(shop_log, SMALL, out=tmp_path_factory.mktemp("unbroken") / "run")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def kept(out: Path) -> list[Path]:
    return sorted(out.with_name("run.unfinished").iterdir())


def test_checkpoints_change_nothing(unbroken: Run) -> None:
    torch.manual_seed(SMALL.seed)
    split = divide(unbroken.split.interactions, "leave-one-out")
    model = MODELS["sasrec"].model(unbroken.model.config)
    best_epoch = unbroken.metrics.best_epoch
    assert best_epoch == 2  # so that the last weights are not the best, here and below
    pace = Pace(SMALL, stop_after=best_epoch)
    fit_by_gradient(model, split, SMALL, None, pace=lambda: pace)
    for name, weight in unbroken.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)


@pytest.mark.parametrize(("epoch", "step"), [(1, 0), (2, 3), (3, 0)])
def test_a_resumed_training_repeats_no_epoch_that_is_kept(
    epoch: int, step: int, shop_log: pd.DataFrame, out: Path, unbroken: Run
) -> None:
    interrupt(shop_log, out, epoch, step)
    watcher = Watcher()
    resumed = train(shop_log, SMALL, out=out, progress=watcher, resume=True)
    assert result(resumed) == result(unbroken)
    first = epoch + 1 if step == 0 else epoch
    assert sorted({epoch for epoch, _ in watcher.steps}) == list(range(first, 4))


@pytest.mark.parametrize("name", ["sasrec", "user-item-attention", "neumf"])
def test_inside_an_epoch_no_step_that_is_kept_is_repeated(
    name: str, out: Path, unbroken: Run
) -> None:
    config = replace(SMALL, model=name, settings={"hidden_dim": 16}, epochs=2)
    split = divide(unbroken.split.interactions, "leave-one-out")

    def fit(watcher: Watcher | None, checkpoints: Checkpoints | None) -> dict[str, torch.Tensor]:
        model = new_model(config, config.model_config(**split.sizes()))
        fit_model(model, split, config, None, watcher, checkpoints)
        return model.state_dict()

    for step in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            fit(Watcher(1, step), Checkpoints(out, {}, seconds_apart=0))
    assert [path.stem[-3:] for path in kept(out)] == ["004", "005"]
    watcher = Watcher()
    resumed = fit(watcher, Checkpoints(out, {}, seconds_apart=0))
    assert watcher.steps[0] == (1, 6)
    for name, weight in fit(None, None).items():
        assert torch.equal(resumed[name], weight)


def test_an_interruption_says_how_to_go_on(shop_log: pd.DataFrame, out: Path) -> None:
    assert interrupt(shop_log, out, 1, 1) == ""  # nothing is kept yet
    assert not out.with_name("run.unfinished").exists()
    note = interrupt(shop_log, out, 2)
    assert str(kept(out)[-1]) in note
    assert "the same command with `resume` goes on" in note


def test_the_time_before_the_interruption_counts(shop_log: pd.DataFrame, out: Path) -> None:
    interrupt(shop_log, out, 2)
    watcher = Watcher()
    settings = replace(SMALL, max_minutes=1e-5)  # more time or less may be given than before
    resumed = train(shop_log, settings, out=out, progress=watcher, resume=True)
    assert watcher.steps == []
    assert len(resumed.metrics.epochs) == 2


def test_a_final_training_is_resumed_too(unbroken: Run, out: Path) -> None:
    whole = train_final(unbroken, out=out.with_name("whole"))
    with pytest.raises(KeyboardInterrupt):
        train_final(unbroken, out=out, progress=Watcher(2, 2))
    watcher = Watcher()
    resumed = train_final(unbroken, out=out, progress=watcher, resume=True)
    assert watcher.steps[0] == (2, 1)
    assert result(resumed) == result(whole)
    assert not out.with_name("run.unfinished").exists()


# --- what is there already


def test_an_unfinished_training_is_not_overwritten(shop_log: pd.DataFrame, out: Path) -> None:
    interrupt(shop_log, out, 1)
    before = {path: path.read_bytes() for path in kept(out)}
    with pytest.raises(RunError, match=r"run\.unfinished .* interrupted: go on with `resume`"):
        train("no such log", SMALL, out=out)  # it is not even read
    assert {path: path.read_bytes() for path in kept(out)} == before


@pytest.mark.parametrize("config", [SMALL, TrainConfig("popularity")], ids=lambda c: c.model)
def test_with_nothing_to_resume_training_starts_and_says_so(
    config: TrainConfig, shop_log: pd.DataFrame, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(shop_log, replace(config, epochs=1), out=out, resume=True)
    assert "nothing to resume, training from the start" in caplog.text
    assert Run.load(out).config.model == config.model


OTHER: list[tuple[TrainConfig, DataRecipe, str]] = [
    (replace(SMALL, seed=1), DataRecipe(), "with seed 10, not 1: "),
    (replace(SMALL, epochs=4), DataRecipe(), "with epochs 3, not 4: "),
    (replace(SMALL, settings={"max_len": 10}), DataRecipe(), "settings.hidden_dim 16, not 64: "),
    (TrainConfig("popularity"), DataRecipe(), "with model 'sasrec', not 'popularity': "),
    (SMALL, DataRecipe(repeats=True), "with recipe.repeats False, not True: "),
]


@pytest.mark.parametrize(("config", "recipe", "message"), OTHER, ids=[m for _, _, m in OTHER])
def test_a_training_with_other_settings_is_refused_and_nothing_is_lost(
    config: TrainConfig,
    recipe: DataRecipe,
    message: str,
    shop_log: pd.DataFrame,
    out: Path,
) -> None:
    interrupt(shop_log, out, 1)
    before = {path: path.read_bytes() for path in kept(out)}
    with pytest.raises(RunError, match=re.escape(message)) as refused:
        train(shop_log, config, recipe=recipe, out=out, resume=True)
    assert "delete that directory" in str(refused.value)
    assert {path: path.read_bytes() for path in kept(out)} == before


def test_a_training_on_other_data_is_refused(shop_log: pd.DataFrame, out: Path) -> None:
    interrupt(shop_log, out, 1)
    with pytest.raises(RunError, match=r"with data '[0-9a-f]{64}', not '[0-9a-f]{64}': "):
        train(shop_log[:-1], SMALL, out=out, resume=True)


def test_another_number_of_threads_is_allowed_with_a_warning(
    shop_log: pd.DataFrame, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(shop_log, out, 3)  # trained, not saved
    try:
        resumed = train(shop_log, replace(SMALL, threads=2), out=out, resume=True)
    finally:
        torch.set_num_threads(1)
    assert "threads was 1, now 2: not bit for bit the same" in caplog.text
    assert len(resumed.metrics.epochs) == 3


def test_what_is_not_ours_beside_the_checkpoints_stays(shop_log: pd.DataFrame, out: Path) -> None:
    interrupt(shop_log, out, 1)
    notes = kept(out)[0].with_name("notes.txt")
    notes.write_text("the good one")
    train(shop_log, SMALL, out=out, resume=True)
    assert kept(out) == [notes]


def test_a_file_in_the_place_of_the_checkpoints_is_refused(
    shop_log: pd.DataFrame, out: Path
) -> None:
    out.with_name("run.unfinished").write_text("not yet")
    with pytest.raises(RunError, match=r"run\.unfinished is a file"):
        train(shop_log, SMALL, out=out)


# --- damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, empty, flip_a_bit], ids=lambda d: d.__name__)
def test_the_checkpoint_before_a_damaged_one_serves(
    damage: Callable[[Path], None],
    shop_log: pd.DataFrame,
    out: Path,
    unbroken: Run,
    caplog: pytest.LogCaptureFixture,
) -> None:
    interrupt(shop_log, out, 3)
    before, newest = kept(out)
    damage(newest)
    watcher = Watcher()
    resumed = train(shop_log, SMALL, out=out, progress=watcher, resume=True)
    assert f"{newest} is damaged" in caplog.text
    assert f"going on from {before.name}" in caplog.text
    assert watcher.steps[0] == (3, 1)
    assert result(resumed) == result(unbroken)


def test_where_all_are_damaged_training_starts_anew(
    shop_log: pd.DataFrame, out: Path, unbroken: Run, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(shop_log, out, 3)
    for path in kept(out):
        cut(path)
    assert result(train(shop_log, SMALL, out=out, resume=True)) == result(unbroken)
    assert "nothing to resume" in caplog.text

"""Checkpoints: what they keep, when they serve, and what is refused rather than mixed up."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from attnrec.runtime.errors import RunError
from attnrec.train import DataRecipe, Run, TrainConfig, checkpoint, train, train_final
from attnrec.train.loop import fit_by_gradient
from attnrec.train.models import MODELS
from attnrec.train.split import leave_one_out
from attnrec.train.training_state import EpochRecord

SMALL = TrainConfig(
    settings={"hidden_dim": 16, "max_len": 10}, epochs=3, batch_events=100, threads=1
)


class Watcher:
    """Counts the steps, and interrupts after one of them, or (step 0) after an epoch."""

    def __init__(self, epoch: int = 0, step: int = 0) -> None:
        self.moment = (epoch, step)
        self.steps: list[tuple[int, int]] = []

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        self.steps.append((epoch, step))
        if (epoch, step) == self.moment:
            raise KeyboardInterrupt

    def on_epoch(self, record: EpochRecord) -> None:
        if (record.epoch, 0) == self.moment:
            raise KeyboardInterrupt


def interrupt(log: pd.DataFrame, out: Path, epoch: int, step: int = 0, **more: Any) -> str:
    """Train until then; returns what the error says beside its name."""
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


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr(checkpoint, "SECONDS_APART", 0)


def kept(out: Path) -> list[Path]:
    return sorted(out.with_name("run.unfinished").iterdir())


def test_checkpoints_change_nothing(unbroken: Run) -> None:
    torch.manual_seed(SMALL.seed)
    split = leave_one_out(unbroken.split.interactions)
    model = MODELS["sasrec"].model(unbroken.model.config)
    fit_by_gradient(model, split.sequences, SMALL, None)  # keeps its last epoch
    assert unbroken.metrics["best_epoch"] == 3
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


def test_inside_an_epoch_no_step_that_is_kept_is_repeated(
    shop_log: pd.DataFrame, out: Path, unbroken: Run, often: None
) -> None:
    interrupt(shop_log, out, 1, 3)
    interrupt(shop_log, out, 1, 5, resume=True)
    assert [path.stem[-3:] for path in kept(out)] == ["004", "005"]
    watcher = Watcher()
    resumed = train(shop_log, SMALL, out=out, progress=watcher, resume=True)
    assert watcher.steps[0] == (1, 6)
    assert result(resumed) == result(unbroken)


def test_an_interruption_says_how_to_go_on(shop_log: pd.DataFrame, out: Path) -> None:
    assert interrupt(shop_log, out, 1, 1) == ""  # nothing is kept yet
    assert not out.with_name("run.unfinished").exists()
    note = interrupt(shop_log, out, 2)
    assert str(kept(out)[-1]) in note
    assert "the same command with --resume goes on" in note


def test_the_time_before_the_interruption_counts(
    shop_log: pd.DataFrame, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(shop_log, out, 1)
    spent = 120.0
    clock = checkpoint.time.monotonic
    monkeypatch.setattr("time.monotonic", lambda: clock() + spent)
    resumed = train(shop_log, replace(SMALL, max_minutes=1), out=out, resume=True)

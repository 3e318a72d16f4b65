"""What the caller's torch, numpy and random are set to is theirs again after every call."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnrec.export import export
from attnrec.train import Run, TrainConfig, evaluate, train, train_final
from attnrec.train.tuning.search import tune

SMALL = TrainConfig(
    "sasrec", {"hidden_dim": 8, "max_len": 5}, epochs=1, batch_events=200, threads=2
)


@pytest.fixture(scope="module")
def run(shop_log, tmp_path_factory) -> Run:
    made = train(shop_log, SMALL, out=tmp_path_factory.mktemp("run") / "run")
    export(made, made.directory / "model.onnx")
    return made


class Fault:
    """Stops a training in its first step."""

    def on_start(self, n_epochs: int) -> None: ...

    def on_step(self, *values: Any) -> None:
        raise KeyboardInterrupt

    def on_epoch(self, record: Any) -> None: ...

    def on_move(self, *values: Any) -> None:
        raise KeyboardInterrupt

    def on_trial(self, *values: Any) -> None: ...


def stopped(work: Callable[..., Any], *args: Any, **named: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        work(*args, progress=Fault(), **named)


CALLS = {
    "train": lambda log, run, out: train(log, SMALL, out=out),
    "train, stopped": lambda log, run, out: stopped(train, log, SMALL, out=out),
    "train, counted": lambda log, run, out: train(log, TrainConfig("markov-chain"), out=out),
    "train_final": lambda log, run, out: train_final(run, out=out),
    "tune": lambda log, run, out: tune(log, SMALL, minutes=0.001, out=out),
    "tune, stopped": lambda log, run, out: stopped(tune, log, SMALL, minutes=0.1, out=out),
    "load": lambda log, run, out: Run.load(run.directory),
    "export": lambda log, run, out: export(run, out.with_suffix(".onnx"), "int8"),
    "evaluate": lambda log, run, out: evaluate(run.directory / "model.onnx"),
}


@pytest.mark.parametrize("name", CALLS)
def test_random_numbers_and_threads_of_the_caller_stay(
    name, shop_log, run, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    for seeded in (torch.manual_seed, np.random.seed, random.seed):
        seeded(11)
    legacy = np.random.get_state()[1].tolist()  # noqa: NPY002
    states = torch.get_rng_state(), random.getstate()
    try:
        CALLS[name](shop_log, run, tmp_path / "out")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == legacy  # noqa: NPY002
    assert random.getstate() == states[1]


def test_a_seed_gives_the_same_weights_whatever_the_caller_drew(shop_log, tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = train(shop_log, SMALL, out=tmp_path / "one")
    torch.rand(5)
    other = train(shop_log, SMALL, out=tmp_path / "other")
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(weight, other.model.state_dict()[name], msg=name)

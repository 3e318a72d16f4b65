"""Several processes train as one does, the first alone writes and prints, a failure ends them all.

`torchrun` itself is started by one test here and by those of docs/training.md. In the others the
processes are forked from one that has imported torch already, with the environment that torchrun
gives them.
"""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.distributed import descent, train_together
from attnrec.train.fitting.state import TrainingState
from attnrec.train.models.base import LearnedModel
from attnrec.train.models.configs import SASRecConfig
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.neumf import NeuMF
from attnrec.train.models.sasrec import SASRec
from attnrec.train.models.sasrec_recency import RecencySASRec
from attnrec.train.runs.run import Run
from attnrec.train.splits.split import divide

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the command does, before torch

_GRACE = 4  # seconds: the others print their own error until then

SETTINGS = [
    "--model", "sasrec", "--hidden-dim", "32", "--max-len", "20", "--epochs", "3",
    "--threads", "1", "--no-report",
]  # fmt: skip


def as_rank(rank: int, n: int, port: int, target: Callable[..., None], arguments: Any) -> None:
    """What torchrun does for a process."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = (rank, rank, n, n, "127.0.0.1", port)
    os.environ.update({name: str(value) for name, value in zip(names, values, strict=True)})
    torch.set_num_threads(1)
    target(rank, *arguments)


def start(target: Callable[..., None], *arguments: Any, n: int = 2) -> list[int | None]:
    """Exit codes of `n` processes, by rank; negative where a signal ended one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["attnrec.cli.training", "torch._dynamo", __name__])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        context.Process(target=as_rank, args=(rank, n, port, target, arguments))
        for rank in range(n)
    ]
    for process in processes:
        process.start()
    running = list(processes)
    while running:
        wait([process.sentinel for process in running], timeout=120)
        running = [process for process in processes if process.is_alive()]
        if any(process.exitcode for process in processes):  # torchrun ends the others then
            for process in running:
                process.join(_GRACE)
                process.kill()
    return [process.exitcode for process in processes]


def command(rank: int, folder: Path, arguments: list[str], whose: int, what: str) -> None:
    """`attnrec-train`; the process `whose` dies, or fails, in the second epoch."""
    from attnrec.cli import compare, train, tune
    from attnrec.cli.options import run_training_command

    for name in ("out", "err"):
        setattr(sys, f"std{name}", (folder / f"{name}-{rank}").open("a", buffering=1))
    sys.argv = ["attnrec-train", *arguments]
    if rank == whose:
        loss_of, n_losses = SASRec.training_loss, iter(range(100))

        def training_loss(model: SASRec, batch: Any) -> Tensor:
            if next(n_losses) == 5:
                if what == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ValueError("out of luck")
            return loss_of(model, batch)

        SASRec.training_loss = training_loss  # type: ignore[method-assign]
    run_training_command(
        tune.tune
        if "--minutes" in arguments
        else compare.compare
        if "--model" not in arguments
        else train.train,
        prefix="",
    )


@dataclass
class Shop:
    """A log, and trainings on it into a run directory."""

    folder: Path
    log: Path

    def train(self, *more: str, n: int = 2, whose: int = -1, what: str = "") -> list[int | None]:
        arguments = [str(self.log), "--out", str(self.folder / "run"), *SETTINGS, *more]
        return start(command, self.folder, arguments, whose, what, n=n)

    def printed(self, rank: int) -> tuple[str, str]:
        out, err = ((self.folder / f"{stream}-{rank}").read_text() for stream in ("out", "err"))
        return out, err

    def result(self) -> tuple[bytes, Any]:
        """Weights and figures of the run; the seconds are different every time."""
        metrics = json.loads((self.folder / "run" / "metrics.json").read_text())
        for record in metrics["epochs"]:
            del record["seconds"]
        return (self.folder / "run" / "weights.safetensors").read_bytes(), metrics


@pytest.fixture
def shop(log: Path, tmp_path: Path) -> Shop:
    return Shop(tmp_path, log)


@pytest.fixture(scope="module")
def unbroken(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("unbroken"), log)
    assert shop.train("--json") == [0, 0], shop.printed(0)
    return shop


# --- as one process


class Sparing(SASRec):
    """A model from outside, with a parameter that its loss does not use."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__(config)
        self.aside = torch.nn.Parameter(torch.ones(3, 3))


@dataclass
class Steps:
    """An epoch on `events` from Python, by any number of processes; each notes what it sees."""

    events: Interactions
    kind: type[LearnedModel]
    config: TrainConfig
    folder: Path

    def take(self, n: int) -> list[list[tuple[Tensor, list[Tensor | None], float]]]:
        """By process and step: loss, gradients, the next random number."""
        assert start(take_steps, self, n=n) == [0] * n
        return [torch.load(self.folder / f"noted-{rank}") for rank in range(n)]


def take_steps(rank: int, steps: Steps) -> None:
    def work() -> None:
        split = divide(steps.events, "leave-one-out")
        torch.manual_seed(0)
        model = steps.kind(steps.config.model_config(**split.sizes()))  # type: ignore[arg-type]
        model.prepare(split)
        state = TrainingState(model, steps.config)
        descend, noted = descent(state, seed=0), []
        for batch in model.batches(split, BATCH_EVENTS).epoch(np.random.default_rng(0)):
            loss = descend(batch)
            gradients = [p.grad if p.grad is None else p.grad.clone() for p in model.parameters()]
            noted.append((loss, gradients, torch.rand(1).item()))
            state.step += 1
        torch.save(noted, steps.folder / f"noted-{rank}")

    train_together(work)


BATCH_EVENTS = 20  # two histories of 10 and less: of three processes one often has nothing
EXACT = {"hidden_dim": 16, "max_len": 10, "dropout": 0.0}
KINDS: dict[str, tuple[int, type[LearnedModel], TrainConfig]] = {
    "attention": (3, SASRec, TrainConfig("sasrec", {**EXACT, "decayed_history": True})),
    "attention and counts": (2, Fusion, TrainConfig("fusion", {**EXACT, "ease": True})),
    # Every item is a negative, so that no draw decides.
    "sparse gradients": (
        3,
        SASRec,
        TrainConfig("sasrec", {**EXACT, "loss": "sampled-softmax", "n_negatives": 1000}),
    ),
    "pairs": (3, NeuMF, TrainConfig("neumf", {"dropout": 0.0})),
    "a parameter that is not used": (2, Sparing, TrainConfig("sasrec", EXACT)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_of_every_step_are_those_of_one_process(
    kind: str, shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    # Rows go to the processes in turn, and every third of the users counts more than the others.
    log = shop_log.assign(event=np.where(shop_log["user_id"].str[-1] < "3", "buy", "view"))
    events, _ = load_interactions(log, DataRecipe(event_weights={"buy": 20}))
    n, *model = KINDS[kind]
    steps = Steps(events, *model, tmp_path)
    (alone,), together = steps.take(1), steps.take(n)
    for noted in together:
        for (loss, gradients, _), (loss_alone, gradients_alone, _) in zip(
            noted, alone, strict=True
        ):
            torch.testing.assert_close(loss, loss_alone)
            torch.testing.assert_close(gradients, gradients_alone, rtol=1e-3, atol=1e-6)


def test_random_numbers_differ_between_processes_and_gradients_do_not(
    shop_events: Interactions, tmp_path: Path
) -> None:
    random = {"dropout": 0.5, "loss": "sampled-softmax", "n_negatives": 8, "time_gaps": True}
    config = TrainConfig("sasrec", {**EXACT, **random})
    first, second = Steps(shop_events, RecencySASRec, config, tmp_path).take(2)
    for (loss, gradients, _), (other_loss, others, _) in zip(first, second, strict=True):
        torch.testing.assert_close((loss, gradients), (other_loss, others), rtol=0, atol=0)
    assert len({number for *_, number in (*first, *second)}) == len(first) + len(second) > 20


SCRIPT = """
import pathlib, sys
from attnrec.train import TrainConfig, train
from attnrec.train.fitting.distributed import train_together

def n_threads_of_gloo():
    names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)

def work():
    for model, settings in (("sasrec", {"dropout": 0.0}), ("attention-pool", {})):
        config = TrainConfig(model, settings, epochs=2, batch_events=400, threads=1)
        train("log.csv", config, out=pathlib.Path(sys.argv[1], model))
    print("trained")

pathlib.Path(sys.argv[1]).mkdir(exist_ok=True)
train_together(work)
print(n_threads_of_gloo(), "threads")  # one that outlives the group may abort the process
"""


def test_a_script_under_torchrun_trains_as_one_process_does(log: Path, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(log.read_bytes())
    (tmp_path / "script.py").write_text(SCRIPT)
    losses = {}
    for start, out in (
        (["torchrun", "--standalone", "--nproc-per-node", "2"], "2"),
        (["python"], "1"),
    ):
        done = subprocess.run(
            [Path(sys.executable).parent / start[0], *start[1:], "script.py", out],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("trained") == 1
        assert done.stdout.count("0 threads") == int(out)
        assert "find_unused_parameters" not in done.stderr  # no warning of torch
        metrics = Run.load(tmp_path / out / "sasrec").metrics
        losses[out] = [epoch.loss for epoch in metrics.epochs]
    assert losses["2"] == pytest.approx(losses["1"], rel=1e-4)


def test_the_first_process_alone_prints_and_writes(unbroken: Shop) -> None:
    out, err = unbroken.printed(0)
    assert json.loads(out)["model"] == "sasrec"
    assert err.count("epoch   3  loss") == 1
    assert unbroken.printed(1) == ("", "")
    names = {path.name for path in unbroken.folder.iterdir()}
    assert names == {"run", "out-0", "out-1", "err-0", "err-1"}


def test_a_model_that_counts_is_written_once(shop: Shop) -> None:
    arguments = [str(shop.log), "--out", str(shop.folder / "run"), "--model", "markov-chain"]
    assert start(command, shop.folder, arguments, -1, "") == [0, 0]
    assert Run.load(shop.folder / "run").config.model == "markov-chain"
    assert shop.printed(1) == ("", "")


# --- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "5"], "error: a search trains in one process: start it without torchrun"),
        (["--epochs", "0"], "error: --epochs must be a whole number, from 1 to 100000, not 0\n"),
    ],
)
def test_what_cannot_be_is_refused_before_the_log_is_read(
    options: list[str], message: str, shop: Shop
) -> None:
    assert shop.train(*options)[0] == 2
    assert shop.printed(0)[1].startswith(message)  # a log that is read is printed before


def test_a_comparison_of_models_is_refused(shop: Shop) -> None:
    arguments = [str(shop.log), "--out", str(shop.folder / "all")]
    assert start(command, shop.folder, arguments, -1, "")[0] == 2
    error = shop.printed(0)[1]
    assert error.startswith("error: models are compared in one process")
    assert "`" not in error, "names of Python are no options"
    assert not (shop.folder / "all").exists()


@pytest.mark.parametrize("what", ["die", "fail"])
@pytest.mark.parametrize("whose", [0, 1])
def test_a_process_that_fails_ends_the_training_which_is_resumed_bit_for_bit(
    whose: int, what: str, shop: Shop, unbroken: Shop
) -> None:
    codes = shop.train("-q", whose=whose, what=what)
    assert 0 not in codes and (codes[whose] == -9) == (what == "die")
    if what == "fail":
        whose_error = "process 1 failed: " if whose else ""
        assert shop.printed(whose)[1].startswith(f"{whose_error}error: out of luck\n")
    if (whose, what) != (0, "die"):
        message = shop.printed(0)[1]
        expected = "out of luck" if whose == 0 else "a process of the training cannot be reached"
        assert message.startswith(f"error: {expected}")
        assert "--resume goes on there" in message and "Traceback" not in message
    assert shop.train("-q", "--resume") == [0, 0], shop.printed(0)
    assert shop.result() == unbroken.result()


def test_one_process_may_go_on_with_a_training_of_two(shop: Shop) -> None:
    assert 0 not in shop.train("-q", whose=0, what="fail")
    assert shop.train("--resume", n=1) == [0]
    assert "processes was 2, now 1: not bit for bit the same" in shop.printed(0)[1]
    assert len(Run.load(shop.folder / "run").metrics.epochs) == 3

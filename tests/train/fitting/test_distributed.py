"""Several processes train as one does, end together, and say once what went wrong.

Real `torchrun` is started by one test here and by those of docs/training.md. In the others the
processes are forked from one that has imported torch already, with the environment that torchrun
gives them.
"""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from attnrec.export import export
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.split import leave_one_out
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.distributed import train_together
from attnrec.train.fitting.loop import fit_by_gradient
from attnrec.train.models import MODELS
from attnrec.train.models.base import LearnedModel, catalogue_scores
from attnrec.train.runs.run import Run
from attnrec.train.runs.train import train

SETTINGS = [
    "--model", "sasrec", "--hidden-dim", "32", "--max-len", "20", "--epochs", "3",
    "--threads", "1", "--no-report",
]  # fmt: skip

# The command, with somebody watching who may end a process or make it fail.
COMMAND = """
import os, signal, sys
from attnrec.cli import train as command
from attnrec.cli import train_runs as runs
from attnrec.train.fitting import checkpoint
from attnrec.train.models.sasrec import SASRec

sys.stdout = open(f"{messages}.out", "w", buffering=1)
sys.stderr = open(messages, "w", buffering=1)
sys.argv = ["attnrec-train", *arguments]
checkpoint.SECONDS_APART = 0
n_losses = 0

def happen(what):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"fail": ValueError, "bug": ZeroDivisionError, "interrupt": KeyboardInterrupt}[what](
        "out of luck"
    )

if at == "loss":
    loss = SASRec.training_loss
    def training_loss(model, batch):
        global n_losses
        n_losses += 1
        if n_losses == 6:
            happen(what)
        return loss(model, batch)
    SASRec.training_loss = training_loss

class Watched(runs.TrainingProgress):
    def on_step(self, epoch, step, n_steps, loss):
        if at == "step" and (epoch, step) == (2, 2):
            happen(what)
    def on_epoch(self, record):
        super().on_epoch(record)
        if at == "epoch" and record.epoch == 2:
            happen(what)

runs.TrainingProgress = Watched
command.main()
"""


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


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
    context.set_forkserver_preload(["attnrec.cli.train_runs", "torch._dynamo", __name__])
    port = free_port()
    processes = [
        context.Process(target=as_rank, args=(rank, n, port, target, arguments))
        for rank in range(n)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def command(rank: int, folder: Path, arguments: list[str], whose: int, watch: Any) -> None:
    names = {"messages": str(folder / f"messages-{rank}"), "arguments": arguments}
    quiet = {"at": "", "what": ""}
    exec(COMMAND, names | quiet | (watch if rank == whose else {}))


@dataclass
class Shop:
    """A log, and trainings on it into `out`."""

    folder: Path
    log: Path

    @property
    def out(self) -> Path:
        return self.folder / "run"

    def train(self, *more: str, whose: int = 0, **watch: str) -> list[int | None]:
        arguments = [str(self.log), "--out", str(self.out), *SETTINGS, *more]
        return start(command, self.folder, arguments, whose, watch)

    def said(self, rank: int) -> str:
        return "".join((self.folder / f"messages-{rank}{s}").read_text() for s in ("", ".out"))

    def result(self) -> tuple[bytes, Any]:
        """Weights and figures of the run; the seconds are different every time."""
        metrics = json.loads((self.out / "metrics.json").read_text())
        for record in metrics["epochs"]:
            del record["seconds"]
        return (self.out / "weights.safetensors").read_bytes(), metrics


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 training events of people who walk around a ring of 300 items."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(150):
        place = int(rng.integers(300))
        for step in range(22):
            lines.append(f"{user},{place},{step}")
            place = (place + int(rng.choice([1, 1, 2, 5]))) % 300
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def shop(log: Path, tmp_path: Path) -> Shop:
    return Shop(tmp_path, log)


@pytest.fixture(scope="module")
def unbroken(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    shop = Shop(tmp_path_factory.mktemp("unbroken"), log)
    assert shop.train() == [0, 0], shop.said(0)
    assert shop.said(1) == ""
    return shop.result()


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    folder = Path(sys.executable).parent
    return subprocess.run(
        [folder / "torchrun", "--standalone", "--nproc-per-node", "2", *arguments],
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
    )


# --- as one process


def train_alone(events: Interactions, config: TrainConfig) -> tuple[LearnedModel, list[float]]:
    split = leave_one_out(events)
    torch.manual_seed(config.seed)
    model = MODELS[config.model].model(config.model_config(**split.sizes()))
    assert isinstance(model, LearnedModel)
    records = fit_by_gradient(model, split, config, None)
    return model, [record.loss for record in records]


def train_along(rank: int, events: Interactions, config: TrainConfig, folder: Path) -> None:
    def lead() -> None:
        model, losses = train_alone(events, config)
        (folder / "losses").write_text(json.dumps(losses))
        safetensors.torch.save_file(model.state_dict(), folder / "0")

    train_together(lead)


def weights(folder: Path, rank: int) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = safetensors.torch.load_file(folder / str(rank))
    return loaded


@pytest.mark.parametrize(("n", "batch_events"), [(2, 200), (3, 20)])
def test_the_model_is_that_of_one_process(
    n: int, batch_events: int, shop_events: Interactions, tmp_path: Path
) -> None:
    # 20 events are two windows of 10 and less: there are steps with nothing for rank 2.
    config = TrainConfig(
        "sasrec",
        {"hidden_dim": 16, "max_len": 10, "dropout": 0.0},
        epochs=2,
        batch_events=batch_events,
    )
    assert start(train_along, shop_events, config, tmp_path, n=n) == [0] * n
    model, losses = train_alone(shop_events, config)
    assert json.loads((tmp_path / "losses").read_text()) == pytest.approx(losses, rel=1e-4)
    # Not the weights themselves: the bias of the keys changes no score, so that its gradient is
    # rounding alone, of which Adam makes steps as large as any.
    model.eval()
    history = torch.arange(1, 9).view(2, 4)
    expected = catalogue_scores(model, history)
    model.load_state_dict(weights(tmp_path, 0))
    torch.testing.assert_close(catalogue_scores(model, history), expected, rtol=0, atol=0.01)


RANDOM = [
    ("sasrec", {"max_len": 10, "dropout": 0.5, "loss": "sampled-softmax", "n_negatives": 8}),
    ("neumf", {"dropout": 0.5}),
]


@pytest.mark.parametrize(("model", "settings"), RANDOM, ids=[model for model, _ in RANDOM])
def test_all_processes_have_the_same_weights_bit_for_bit(
    model: str, settings: dict[str, Any], shop_events: Interactions, tmp_path: Path
) -> None:
    config = TrainConfig(model, settings, epochs=2, batch_events=200)
    assert start(train_along, shop_events, config, tmp_path) == [0, 0]
    first, second = weights(tmp_path, 0), weights(tmp_path, 1)
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    alone, losses = train_alone(shop_events, config)
    assert json.loads((tmp_path / "losses").read_text()) == pytest.approx(losses, rel=0.1)
    # Dropout and negatives are drawn by each process for itself.
    assert not all(torch.equal(weight, first[name]) for name, weight in alone.state_dict().items())


def test_two_processes_train_a_run_like_that_of_one(shop: Shop) -> None:
    assert shop.train("--model", "fusion", "--json") == [0, 0], shop.said(0)
    figures = json.loads((shop.folder / "messages-0.out").read_text())
    assert shop.said(0).count("epoch   3  loss") == 1
    assert shop.said(1) == ""
    run = Run.load(shop.out)
    export(run, shop.folder / "model.onnx")
    alone = train(shop.log, run.config, out=shop.folder / "alone")
    for one, other in zip(run.metrics["epochs"], alone.metrics["epochs"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.1)
    assert figures["ndcg@10"] > 0.5
    assert figures["ndcg@10"] == pytest.approx(alone.metrics["valid"]["ndcg@10"], abs=0.05)


def test_models_that_count_are_made_by_rank_0_alone(shop: Shop) -> None:
    arguments = [str(shop.log), "--out", str(shop.out), "--model", "markov-chain", "--no-report"]
    assert start(command, shop.folder, arguments, 0, {}) == [0, 0]
    assert Run.load(shop.out).config.model == "markov-chain"
    assert shop.said(1) == ""


def train_and_name_threads(rank: int, shop: Shop) -> None:
    def keep_names(when: str) -> None:
        names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
        (shop.folder / f"threads-{when}-{rank}").write_text("".join(names))

    def lead() -> None:
        config = TrainConfig("sasrec", epochs=1, settings={"hidden_dim": 16})
        train(shop.log, config, out=shop.out)
        keep_names("during")

    train_together(lead)
    keep_names("after")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_no_thread_of_the_group_outlives_the_training(shop: Shop) -> None:
    # One that did would abort the process now and then, where Python ends.
    assert start(train_and_name_threads, shop) == [0, 0]
    assert "gloo" in (shop.folder / "threads-during-0").read_text()
    for rank in range(2):
        assert "gloo" not in (shop.folder / f"threads-after-{rank}").read_text()


# --- errors


def test_one_error_is_shown_for_a_bad_argument(shop: Shop) -> None:
    assert shop.train("--epochs", "0")[0] == 2
    assert shop.said(0) == "error: epochs must be a whole number, at least 1, not 0\n"
    assert shop.said(1) == ""


@pytest.mark.parametrize(
    ("what", "at", "codes", "message"),
    [
        ("fail", "step", [2, 0], "error: out of luck\n"),
        ("fail", "loss", [2, 0], "error: out of luck\n"),
        ("interrupt", "epoch", [130, 0], "error: interrupted; earlier files are as they were\n"),
    ],
)
def test_an_error_of_rank_0_ends_the_others_without_a_word(
    what: str, at: str, codes: list[int], message: str, shop: Shop
) -> None:
    assert shop.train("-q", what=what, at=at) == codes
    assert shop.said(0).startswith(message)
    assert shop.said(1) == ""


def test_rank_0_tells_what_failed_in_another_process(shop: Shop) -> None:
    assert shop.train("-q", what="bug", at="loss", whose=1) == [2, 0]
    message, how_to_go_on = shop.said(0).splitlines()
    assert message == "error: process 1 of 2 failed: ZeroDivisionError: out of luck"
    assert "--resume goes on there" in how_to_go_on
    assert shop.said(1) == ""


def test_a_process_that_is_killed_ends_the_training(shop: Shop) -> None:
    assert shop.train("-q", what="die", at="loss", whose=1) == [2, -9]
    message = shop.said(0)
    assert message.startswith("error: a process of the training is gone (")
    assert "--resume goes on there" in message and "Traceback" not in message


@pytest.mark.parametrize("at", ["step", "loss"])
def test_a_training_whose_rank_0_is_killed_is_resumed_bit_for_bit(
    at: str, shop: Shop, unbroken: tuple[bytes, Any]
) -> None:
    assert shop.train("-q", what="die", at=at) == [-9, 1]
    assert shop.said(1) == ""
    assert shop.train("-q", "--resume") == [0, 0]
    assert shop.result() == unbroken


def test_torchrun_may_restart_a_training_by_itself(
    shop: Shop, unbroken: tuple[bytes, Any]
) -> None:
    arguments = [str(shop.log), "--out", str(shop.out), *SETTINGS, "--resume"]
    script = shop.folder / "command.py"
    script.write_text(
        "import os\n"
        "is_first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'\n"
        "at, what = 'step' if is_first and os.environ['RANK'] == '0' else '', 'die'\n"
        f"messages = '{shop.folder}/messages-' + os.environ['RANK']\n"
        f"arguments = {arguments!r}\n{COMMAND}"
    )
    done = torchrun("--max-restarts", "1", str(script))
    assert done.returncode == 0, done.stderr
    assert "exitcode: -9" in done.stderr
    assert "going on from epoch-000002-step-000000002" in shop.said(0)
    assert shop.result() == unbroken


def test_one_process_may_go_on_with_a_training_of_two(shop: Shop) -> None:
    assert shop.train("-q", what="die", at="step") == [-9, 1]
    arguments = [str(shop.log), "--out", str(shop.out), *SETTINGS, "--resume"]
    assert start(command, shop.folder, arguments, 0, {}, n=1) == [0]
    assert "processes was 2, now 1: not bit for bit the same" in shop.said(0)
    assert len(Run.load(shop.out).metrics["epochs"]) == 3

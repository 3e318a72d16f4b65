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
import pandas as pd
import pytest
import torch
from torch import Tensor

from attnrec.export import export
from attnrec.train.data.batches import Batch
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.split import divide
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.distributed import descent, train_together, with_others
from attnrec.train.fitting.state import EpochRecord, TrainingState
from attnrec.train.models.base import LearnedModel
from attnrec.train.models.configs import SASRecConfig
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.neumf import NeuMF
from attnrec.train.models.sasrec import SASRec
from attnrec.train.models.sasrec_recency import RecencySASRec
from attnrec.train.runs.run import Run
from attnrec.train.runs.train import train

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the command does, before torch

SETTINGS = [
    "--model", "sasrec", "--hidden-dim", "32", "--max-len", "20", "--epochs", "3",
    "--threads", "1", "--no-report",
]  # fmt: skip

# The command, with somebody watching who may end a process or make it fail.
COMMAND = """
import logging, os, signal, sys, time, warnings
from attnrec.cli import train, training, tune
from attnrec.cli.options import run_training_command
from attnrec.train.fitting import checkpoint
from attnrec.train.models.sasrec import SASRec

sys.stdout = open(f"{messages}.out", "a", buffering=1)
sys.stderr = open(messages, "a", buffering=1)
sys.argv = ["attnrec-train", *arguments]
checkpoint.SECONDS_APART = 0
n_losses = 0

def happen(what):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "interrupt":  # Ctrl-C reaches every process of a terminal
        for pid in all_pids():
            os.kill(pid, signal.SIGINT)
        time.sleep(1)
    raise {"fail": ValueError, "bug": ZeroDivisionError}[what]("out of luck")

if at == "loss":
    loss = SASRec.training_loss
    def training_loss(model, batch):
        global n_losses
        n_losses += 1
        warnings.warn("of a model")
        logging.getLogger("attnrec").warning("of a model")
        if n_losses == 6:
            happen(what)
        return loss(model, batch)
    SASRec.training_loss = training_loss

class Watched(training.TrainingProgress):
    def on_step(self, epoch, step, n_steps, loss):
        if at == "step" and (epoch, step) == (2, 2):
            happen(what)
    def on_epoch(self, record):
        super().on_epoch(record)
        if at == "epoch" and record.epoch == 2:
            happen(what)

training.TrainingProgress = Watched
run_training_command(tune.tune if "--minutes" in arguments else train.train, prefix="")
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
    context.set_forkserver_preload(["attnrec.cli.training", "torch._dynamo", __name__])
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
    def all_pids() -> list[int]:
        return [int(path.read_text()) for path in sorted(folder.glob("pid-*"), reverse=True)]

    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    messages = str(folder / f"messages-{rank}")
    names = {"messages": messages, "arguments": arguments, "all_pids": all_pids}
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
    """As on the first of several machines, where a restart finds the store of the one before."""
    folder = Path(sys.executable).parent
    nodes = ["--nnodes", "1", "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    return subprocess.run(
        [folder / "torchrun", *nodes, "--nproc-per-node", "2", *arguments],
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
    )


# --- as one process


class Sparing(SASRec):
    """A model of somebody else, with a parameter that its loss does not use."""

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
    def lead() -> None:
        split = divide(steps.events, "leave-one-out")
        torch.manual_seed(0)
        model = steps.kind(steps.config.model_config(**split.sizes()))  # type: ignore[arg-type]
        model.prepare(split)
        state, batches = TrainingState(model, steps.config), model.batches(split, BATCH_EVENTS)
        batches = list(batches.epoch(np.random.default_rng(0)))
        with with_others(note_steps, steps.folder, state, batches):
            note_steps(steps.folder, state, batches)

    train_together(lead)


def note_steps(folder: Path, state: TrainingState, batches: list[Batch]) -> None:
    descend, noted = descent(state, seed=0), []
    for batch in batches:
        loss = descend(batch)
        gradients = [
            p.grad if p.grad is None else p.grad.clone() for p in state.model.parameters()
        ]
        noted.append((loss, gradients, torch.rand(1).item()))
        state.step += 1
    torch.save(noted, folder / f"noted-{os.environ['RANK']}")


BATCH_EVENTS = 20  # two histories of 10 and less: of three processes one often has nothing
EXACT = {"hidden_dim": 16, "max_len": 10, "dropout": 0.0}
KINDS: dict[str, tuple[type[LearnedModel], TrainConfig]] = {
    "attention": (RecencySASRec, TrainConfig("sasrec", {**EXACT, "fading_sum": True})),
    "attention and counts": (Fusion, TrainConfig("fusion", {**EXACT, "ease": True})),
    "pairs": (NeuMF, TrainConfig("neumf", {"dropout": 0.0})),
    "a parameter that is not used": (Sparing, TrainConfig("sasrec", EXACT)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 3])
def test_loss_and_gradient_of_every_step_are_those_of_one_process(
    n: int, kind: str, shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    # Rows go to the processes in turn, and every third of the users counts more than the others.
    log = shop_log.assign(event=np.where(shop_log["user_id"].str[-1] < "3", "buy", "view"))
    events, _ = load_interactions(log, DataRecipe(event_weights={"buy": 20}))
    steps = Steps(events, *KINDS[kind], tmp_path)
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


def test_two_processes_train_a_run_like_that_of_one(shop: Shop) -> None:
    assert shop.train("--set", "dropout=0", "--json") == [0, 0], shop.said(0)
    figures = json.loads((shop.folder / "messages-0.out").read_text())
    assert shop.said(0).count("epoch   3  loss") == 1
    assert shop.said(1) == ""
    run = Run.load(shop.out)
    export(run, shop.folder / "model.onnx")
    alone = train(shop.log, run.config, out=shop.folder / "alone")
    losses, expected = ([r["loss"] for r in one.metrics["epochs"]] for one in (run, alone))
    assert losses == pytest.approx(expected, rel=1e-4)
    assert figures["ndcg@10"] == pytest.approx(alone.metrics["valid"]["ndcg@10"], abs=0.02)


def test_models_that_count_are_made_by_rank_0_alone(shop: Shop) -> None:
    arguments = [str(shop.log), "--out", str(shop.out), "--model", "markov-chain", "--no-report"]
    assert start(command, shop.folder, arguments, 0, {}) == [0, 0]
    assert Run.load(shop.out).config.model == "markov-chain"
    assert shop.said(1) == ""


TWO_TRAININGS = """
import os, pathlib
from attnrec.train import TrainConfig, train
from attnrec.train.fitting.distributed import train_together

def has_threads():
    names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    return any("gloo" in name for name in names)

def lead():
    for name in ("sasrec", "attention-pool"):
        train(folder + "log.csv", TrainConfig(name, epochs=1), out=folder + name)
    assert has_threads()

train_together(lead)
assert not has_threads()
pathlib.Path(folder + "ended-" + os.environ["RANK"]).touch()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_no_thread_of_the_group_outlives_its_trainings(shop: Shop) -> None:
    # One that did would abort the process now and then, where Python ends.
    (shop.folder / "log.csv").write_bytes(shop.log.read_bytes())
    script = shop.folder / "script.py"
    script.write_text(f"folder = {str(shop.folder) + os.sep!r}{TWO_TRAININGS}")
    done = torchrun(str(script))  # forked from a process with torch's modules, it could not fail
    assert done.returncode == 0, done.stderr
    assert len(list(shop.folder.glob("ended-*"))) == 2
    assert "find_unused_parameters" not in done.stderr  # nor does torch advise anybody


# --- errors


def test_one_error_is_shown_for_a_bad_argument(shop: Shop) -> None:
    assert shop.train("--epochs", "0")[0] == 2
    assert shop.said(0) == "error: --epochs must be a whole number, from 1 to 100000, not 0\n"
    assert shop.said(1) == ""


def test_a_search_is_refused_before_the_log_is_read(shop: Shop) -> None:
    assert shop.train("--minutes", "5") == [2, 1]
    assert shop.said(0).startswith("error: a search trains in one process: start it without")
    assert shop.said(1) == ""


@pytest.mark.parametrize(
    ("what", "at", "code", "message"),
    [
        ("fail", "step", 2, "error: out of luck\n"),
        ("fail", "loss", 2, "error: out of luck\n"),
        ("interrupt", "step", 130, "error: interrupted; earlier files are as they were\n"),
    ],
)
def test_an_error_of_rank_0_ends_the_others_without_a_word(
    what: str, at: str, code: int, message: str, shop: Shop
) -> None:
    assert shop.train("-q", what=what, at=at) == [code, 1]
    assert message in shop.said(0)
    assert "--resume goes on there" in shop.said(0)
    assert shop.said(1) == ""


def test_rank_0_tells_what_failed_in_another_process(shop: Shop) -> None:
    assert shop.train("-q", what="bug", at="loss", whose=1) == [2, 1]
    message, how_to_go_on = shop.said(0).splitlines()
    failure = "process 1 of 2 failed: ZeroDivisionError: out of luck"
    assert message == f"error: {failure}; earlier files are as they were"
    assert "--resume goes on there" in how_to_go_on
    assert shop.said(1) == ""


class Failing:
    def on_start(self, n_epochs: int) -> None: ...
    def on_epoch(self, record: EpochRecord) -> None: ...
    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        raise ValueError("out of luck")


def train_on_after_an_error(rank: int, shop: Shop) -> None:
    config = TrainConfig("sasrec", epochs=1, settings={"hidden_dim": 16})

    def lead() -> None:
        with pytest.raises(ValueError, match="out of luck"):
            train(shop.log, config, out=shop.out, progress=Failing())
        train(shop.log, config, out=shop.folder / "other")

    with pytest.raises(ConnectionError, match=r"out of step after an error \(out of luck\)"):
        train_together(lead)


def test_nothing_more_is_trained_after_an_error_inside_of_a_training(shop: Shop) -> None:
    # The others wait inside of a step, and would take the next training for the rest of it.
    assert start(train_on_after_an_error, shop) == [0, 1]


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


def test_torchrun_may_restart_a_training_in_which_a_process_failed(
    shop: Shop, unbroken: tuple[bytes, Any]
) -> None:
    arguments = [str(shop.log), "--out", str(shop.out), *SETTINGS, "--resume"]
    script = shop.folder / "command.py"
    script.write_text(
        "import os\n"
        "rank, attempt = os.environ['RANK'], os.environ['TORCHELASTIC_RESTART_COUNT']\n"
        "at, what = 'loss' if (rank, attempt) == ('1', '0') else '', 'bug'\n"
        f"messages = '{shop.folder}/messages-' + rank\n"
        f"arguments = {arguments!r}\n{COMMAND}"
    )
    done = torchrun("--max-restarts", "1", str(script))
    assert done.returncode == 0, done.stderr
    assert shop.said(0).count("error: process 1 of 2 failed: ZeroDivisionError: out of luck;") == 1
    assert "going on from epoch-" in shop.said(0)
    assert shop.said(1) == ""
    assert shop.result() == unbroken


def test_one_process_may_go_on_with_a_training_of_two(shop: Shop) -> None:
    assert shop.train("-q", what="die", at="step") == [-9, 1]
    arguments = [str(shop.log), "--out", str(shop.out), *SETTINGS, "--resume"]
    assert start(command, shop.folder, arguments, 0, {}, n=1) == [0]
    assert "processes was 2, now 1: not bit for bit the same" in shop.said(0)
    assert len(Run.load(shop.out).metrics["epochs"]) == 3

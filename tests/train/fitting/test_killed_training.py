"""`attnrec-train` killed at any moment: `--resume` ends with the weights of an unbroken training.

Every training here is a process of its own, with real signals and a real limit on the disk. The
processes are forked from one that has imported torch already; apart from that they are what a
shell would start.
"""

import json
import multiprocessing
import signal
import tempfile
import time
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

ANY_MODEL = ["--hidden-dim", "32", "--max-len", "20", "--epochs", "2", "--threads", "1", "-q"]
WITH_REPORT = [*ANY_MODEL, "--model", "sasrec"]
SETTINGS = [*WITH_REPORT, "--no-report"]
FIRST_STEP, LAST_STEP = 1, 4
"""Of an epoch of sasrec on the log below. Others have more steps."""
NEVER = (0, 0)

# The real command, with callbacks that may kill it or fill the disk.
COMMAND = """
import os, resource, signal, sys, time
from attnrec.cli import train as command, training
from attnrec.cli.console import run_command

sys.stderr = open(messages, "w", buffering=1)

# Up to `often_until` every step takes an hour, after which a checkpoint is due.
monotonic, hours = time.monotonic, 0
time.monotonic = lambda: monotonic() + 3600 * hours

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Watched(training.TrainingProgress):
    def take_an_hour(self, moment):
        global hours
        hours += moment < often_until

    def on_start(self, n_epochs):
        self.take_an_hour((1, 0))

    def on_step(self, epoch, step, n_steps, loss):
        self.take_an_hour((epoch, step))
        if (epoch, step) == die_at:
            die()
        if (epoch, step) == end_at:
            os.kill(os.getpid(), ended_by)

    def on_epoch(self, record):
        self.take_an_hour((record.epoch + 1, 0))
        if (record.epoch, 0) == end_at:
            os.kill(os.getpid(), ended_by)
        if record.epoch == disk_full_after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    def on_report(self, what, done, n_steps):
        if done == die_at_report_step:
            die()

rename = os.replace

def watched_rename(source, target):
    rename(source, target)
    if die_after_rename_to and str(target).endswith(die_after_rename_to):
        die()

os.replace = watched_rename
training.TrainingProgress = Watched
check = command.check_target

def unprivileged_check(*target, **how):
    # Not earlier: other users may not be able to import the rest from root's Python.
    if unprivileged and os.geteuid() == 0:
        os.setuid(65534)
    check(*target, **how)

command.check_target = unprivileged_check
run_command(command.train, arguments)
"""


@dataclass
class Shop:
    """A log, and trainings on it into `out`."""

    folder: Path
    log: Path
    options: list[str] = field(default_factory=lambda: SETTINGS)

    @property
    def out(self) -> Path:
        return self.folder / "run"

    @property
    def unfinished(self) -> Path:
        return self.folder / "run.unfinished"

    @property
    def messages(self) -> str:
        return (self.folder / "messages").read_text()

    def start(self, *more: str, **watch: Any) -> BaseProcess:
        context = multiprocessing.get_context("forkserver")
        # torch's optimizers import the second one when they are first made: 4 s otherwise.
        context.set_forkserver_preload(["attnrec.cli.training", "torch._dynamo"])
        quiet = {
            "often_until": NEVER, "die_at": NEVER, "end_at": NEVER, "ended_by": 0,
            "disk_full_after": 0, "die_at_report_step": -1,
            "die_after_rename_to": "", "unprivileged": False,
            "messages": str(self.folder / "messages"),
            "arguments": [str(self.log), "--out", str(self.out), *self.options, *more],
        }  # fmt: skip
        process = context.Process(target=exec, args=(COMMAND, quiet | watch))
        process.start()
        return process

    def train(self, *more: str, **watch: Any) -> int:
        """Returns the exit code, negative where a signal ended it."""
        process = self.start(*more, **watch)
        process.join(60)
        assert process.exitcode is not None
        return process.exitcode

    def checkpoints(self) -> list[str]:
        return sorted(path.stem for path in self.found("epoch-*"))

    def half_written(self) -> list[Path]:
        return self.found(".*")

    def found(self, pattern: str) -> list[Path]:
        try:
            return list(self.unfinished.glob(pattern))
        except FileNotFoundError:  # a training that ends removes it meanwhile
            return []

    def result(self) -> tuple[bytes, Any]:
        """Weights and figures of the run; the seconds are different every time."""
        metrics = json.loads((self.out / "metrics.json").read_text())
        for record in metrics["epochs"]:
            del record["seconds"]
        metrics.get("report", {}).pop("seconds", None)
        return (self.out / "weights.safetensors").read_bytes(), metrics


@pytest.fixture
def shop(log: Path, tmp_path: Path) -> Shop:
    return Shop(tmp_path, log)


@pytest.fixture(scope="module")
def unbroken(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    """What every training below has to end with."""
    shop = Shop(tmp_path_factory.mktemp("unbroken"), log)
    assert shop.train() == 0, shop.messages
    assert not shop.unfinished.exists()
    return shop.result()


def assert_resumes(shop: Shop, unbroken: tuple[bytes, Any]) -> None:
    assert shop.train("--resume") == 0, shop.messages
    assert shop.result() == unbroken
    left = {"run", "messages"}
    assert {path.name for path in shop.folder.iterdir()} == left


FIRST = "epoch-000002-step-000000000"
"""The checkpoint at the end of the first epoch."""

# What is done to a training, and the checkpoints it leaves.
KILLS: dict[str, tuple[dict[str, tuple[int, int]], list[str]]] = {
    "inside the first epoch": ({"die_at": (1, 2)}, []),
    "at the first step of the second epoch": ({"die_at": (2, FIRST_STEP)}, [FIRST]),
    "after the last step of all": ({"die_at": (2, LAST_STEP)}, [FIRST]),
    "inside the first epoch, two steps after a checkpoint": (
        {"often_until": (1, 2), "die_at": (1, 4)},
        ["epoch-000001-step-000000001", "epoch-000001-step-000000002"],
    ),
    "inside the second epoch, two steps after a checkpoint": (
        {"often_until": (2, 1), "die_at": (2, 3)},
        [FIRST, "epoch-000002-step-000000001"],
    ),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_training_is_resumed_bit_for_bit(
    moment: str, shop: Shop, unbroken: tuple[bytes, Any]
) -> None:
    watch, checkpoints = KILLS[moment]
    assert shop.train(**watch) == -9
    assert shop.checkpoints() == checkpoints
    assert not shop.out.exists()
    assert_resumes(shop, unbroken)


def test_a_killed_training_of_the_default_model_is_resumed_bit_for_bit(
    log: Path, tmp_path: Path
) -> None:
    whole = Shop(tmp_path / "whole", log, [*ANY_MODEL, "--no-report"])
    whole.folder.mkdir()
    assert whole.train() == 0, whole.messages
    for moment, (watch, checkpoints) in KILLS.items():
        if "inside" in moment:
            shop = replace(whole, folder=tmp_path / moment)
            shop.folder.mkdir()
            assert shop.train(**watch) == -9
            assert shop.checkpoints() == checkpoints
            assert_resumes(shop, whole.result())


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("SIGINT", (1, 1)),
        ("SIGHUP", (1, 1)),
        ("SIGTERM", (1, LAST_STEP)),
        ("SIGTERM", (1, 0)),
        ("SIGTERM", (2, 3)),
    ],
)
def test_a_signal_leaves_a_checkpoint_of_its_step_and_says_how_to_go_on(
    name: str, moment: tuple[int, int], shop: Shop, unbroken: tuple[bytes, Any]
) -> None:
    number = getattr(signal, name)
    assert shop.train(end_at=moment, ended_by=number) == 128 + number, shop.messages
    epoch, step = moment
    epoch += step == 0  # then the next one has begun
    assert shop.checkpoints()[-1] == f"epoch-{epoch:06}-step-{step:09}"
    assert "the same command with --resume goes on" in shop.messages
    assert_resumes(shop, unbroken)


@pytest.mark.parametrize("often_until", [NEVER, (2, LAST_STEP)], ids=["epoch's end", "inside"])
def test_a_training_killed_while_it_writes_a_checkpoint_is_resumed(
    often_until: tuple[int, int], shop: Shop, unbroken: tuple[bytes, Any]
) -> None:
    while not shop.half_written():
        # Where the signal came after the write, this goes on, or trains anew, and tries again.
        process = shop.start("--resume", often_until=often_until)
        while process.is_alive() and not (shop.checkpoints() and shop.half_written()):
            time.sleep(0)
        process.kill()
        process.join()
    assert shop.checkpoints()
    assert_resumes(shop, unbroken)


@pytest.mark.parametrize("last_rename", ["/old", "/run"])
def test_a_kill_while_the_run_takes_its_place_loses_neither_run(
    last_rename: str, shop: Shop, unbroken: tuple[bytes, Any]
) -> None:
    assert shop.train("--seed", "1", "--epochs", "1") == 0
    earlier = shop.result()
    assert shop.train(die_after_rename_to=last_rename) == -9
    # The next start puts things right, even where it refuses to go on.
    assert shop.train() == 2
    assert shop.result() == (earlier if last_rename == "/old" else unbroken)
    assert_resumes(shop, unbroken)


def test_a_kill_while_the_report_is_made_costs_no_training(
    log: Path, tmp_path: Path, unbroken: tuple[bytes, Any]
) -> None:
    shop = Shop(tmp_path, log, WITH_REPORT)
    assert shop.train(die_at_report_step=2) == -9
    assert not shop.out.exists()
    # A step would kill it.
    assert shop.train("--resume", die_at=(2, FIRST_STEP)) == 0, shop.messages
    weights, metrics = shop.result()
    assert metrics.pop("report") and (shop.out / "report.html").is_file()
    assert (weights, metrics) == unbroken


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before(
    shop: Shop, unbroken: tuple[bytes, Any]
) -> None:
    assert shop.train(disk_full_after=1) == 2
    assert shop.checkpoints() == [FIRST] and not shop.half_written()
    assert "epoch-000003-step-000000000.checkpoint: File too large" in shop.messages
    assert f"{FIRST}.checkpoint: the same command with --resume goes on" in shop.messages
    assert "Traceback" not in shop.messages
    assert_resumes(shop, unbroken)


def test_a_full_disk_at_the_end_costs_no_training(shop: Shop, unbroken: tuple[bytes, Any]) -> None:
    assert shop.train(disk_full_after=2) == 2
    assert "File too large" in shop.messages and "--resume goes on" in shop.messages
    assert sorted(path.name for path in shop.folder.iterdir()) == ["messages", "run.unfinished"]
    # A step would kill it.
    assert shop.train("--resume", die_at=(2, FIRST_STEP)) == 0, shop.messages
    assert shop.result() == unbroken


def test_a_target_that_cannot_be_written_is_refused_before_the_log_is_read(log: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to other users
        folder = Path(name)
        log = folder / "log.csv"
        log.write_text("no columns of a log")  # what reading it would say
        shop = Shop(folder, log)
        (folder / "messages").write_text("")
        (folder / "messages").chmod(0o666)
        folder.chmod(0o555)
        assert shop.train(unprivileged=True) == 2, shop.messages
        assert f"{folder} is not writable; name another --out" in shop.messages
        folder.chmod(0o755)
        assert shop.train("--resume") == 2
        assert "user_id" in shop.messages

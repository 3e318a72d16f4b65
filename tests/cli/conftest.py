"""A small log on disk, trained, exported: what the commands work on."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from attnrec.cli.bench.command import bench
from attnrec.cli.compare import compare
from attnrec.cli.console import run_command
from attnrec.cli.evaluate import evaluate
from attnrec.cli.export import export
from attnrec.cli.recommend.command import recommend
from attnrec.cli.serve import serve
from attnrec.cli.train import train
from attnrec.cli.tune import tune

COMMANDS = {
    "train": train, "tune": tune, "compare": compare, "export": export, "evaluate": evaluate,
    "recommend": recommend, "serve": serve, "bench": bench,
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process: run("train", "--seed", "1")."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(command: str, *arguments: object) -> Outcome:
        texts = [str(argument) for argument in arguments]
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_command(COMMANDS[command], texts)
        captured = capsys.readouterr()
        return Outcome(int(stopped.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 users walk along a ring of 25 items; the ids keep their leading zeros."""
    chance = random.Random(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(30):
        place = chance.randrange(25)
        for step in range(chance.randrange(3, 40)):
            lines.append(f"u{user},{place:03},{1_700_000_000 + step}")
            place = (place + chance.choice([1, 1, 1, 2])) % 25
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def titles(log: Path) -> Path:
    """An items table with a title for every item."""
    path = log.with_name("items.csv")
    rows = "".join(f"{i:03},Place {i} [bold]\n" for i in range(25))
    path.write_text("item_id,title\n" + rows)
    return path


@pytest.fixture(scope="session")
def trained(
    log: Path,
    titles: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tracing_once: Callable[[], AbstractContextManager[None]],
) -> Path:
    """A run directory with its exported file."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    arguments = [str(log), "--items", str(titles), "--out", str(directory), "-q", "--threads", "1"]
    arguments += ["--hidden-dim", "16", "--max-len", "10", "--epochs", "2", "--repeats"]
    for command, texts in ((train, arguments), (export, [str(directory), "-q"])):
        with tracing_once(), pytest.raises(SystemExit) as stopped:
            run_command(command, texts)
        assert not stopped.value.code
    return directory

"""Two trainings into one run directory at the same time: the second is refused."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from attnrec.runtime.errors import RunError
from attnrec.train import TrainConfig, train, tune
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.tuning.study import Trial

SMALL = TrainConfig(
    "sasrec", settings={"hidden_dim": 16, "max_len": 10}, epochs=1, batch_events=100, threads=1
)
BUSY = r"run is being written by another command: wait for it, or name another `out`"

HOLDER = """
import sys, time
from pathlib import Path
from attnrec.train.run_files import training_alone
with training_alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


class Second:
    """Tries to train into the same directory, while a training or a search is under way."""

    def __init__(self, log: pd.DataFrame, out: Path, *, resume: bool) -> None:
        self.log, self.out, self.resume = log, out, resume
        self.refusals: list[str] = []

    def on_start(self, n_epochs: int) -> None:
        self._try()

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        pass

    def on_move(self, number: int, share: float, seconds: float) -> None:
        pass

    def on_epoch(self, record: EpochRecord) -> None:
        self._try()

    def on_trial(self, trial: Trial, best: Trial | None) -> None:
        self._try()

    def _try(self) -> None:
        with pytest.raises(RunError) as caught:
            train(self.log, SMALL, out=self.out, resume=self.resume)
        self.refusals.append(str(caught.value))


@pytest.mark.parametrize("resume", [False, True])
def test_the_second_is_refused_and_the_first_goes_on(
    shop_log: pd.DataFrame, tmp_path: Path, resume: bool
) -> None:
    out = tmp_path / "run"
    second = Second(shop_log, out, resume=resume)
    run = train(shop_log, SMALL, out=out, progress=second)
    assert len(second.refusals) == 2  # before anything is kept, and after
    assert set(second.refusals) == {f"{out} {BUSY.removeprefix('run ')}"}
    assert run.metrics["best_epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    train(shop_log, SMALL, out=out)  # afterwards it is replaced as ever


def test_a_search_is_alone_too(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    second = Second(shop_log, tmp_path / "run", resume=False)
    tune(shop_log, SMALL, minutes=0.05, out=tmp_path / "run", progress=second)
    assert second.refusals and all("is being written" in text for text in second.refusals)


def test_a_killed_process_holds_nothing_up(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    out = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=BUSY):
        train("no such log", SMALL, out=out)  # it is not even read
    holder.kill()
    holder.wait()
    holder.stdout.close()
    train(shop_log, SMALL, out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

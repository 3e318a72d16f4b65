"""`sasrec` of attnrec as `training_speed.py` compares it, with a clock around its training.

    python attnrec_sasrec.py LOG THREADS MINUTES

The shape of the peer, and the decayed history with which the default of attnrec
begins (a matrix of 64 x 64 more). Its own defaults for everything else, but it may train until
its learning rate has fallen: validation goes up and down before.
"""

import sys
import tempfile
from pathlib import Path

from curve import Curve

from attnrec.train import TrainConfig
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.runs.train import read_log, train_log

SHAPE = {
    "max_len": 100, "hidden_dim": 64, "n_blocks": 2, "n_heads": 2, "dropout": 0.2,
    "loss": "softmax", "decayed_history": True,
}  # fmt: skip


class Watch:
    """Tells the curve. The `seconds` of an `EpochRecord` include the validation of its epoch."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    def on_start(self, n_epochs: int) -> None:
        self.curve.go_on()

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        if step == n_steps:
            self.curve.pause()

    def on_epoch(self, record: EpochRecord) -> None:
        self.curve.tell(record.valid["ndcg@10"])
        self.curve.go_on()


def main() -> None:
    log_file, threads, minutes = sys.argv[1:]
    log, report = read_log(log_file)
    config = TrainConfig(
        "sasrec", settings=SHAPE, threads=int(threads), max_minutes=float(minutes), patience=10
    )
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch(Curve())
        out = Path(folder) / "run"
        run = train_log(log, report, DataRecipe(), config, out=out, progress=watch)
    epochs = run.metrics.epochs
    if len(epochs) == config.schedule.epochs:
        stopped_by = "schedule"
    elif epochs[-1].epoch - run.metrics.best_epoch >= config.schedule.patience:
        stopped_by = "patience"
    else:
        stopped_by = "minutes"
    weights = sum(parameter.numel() for parameter in run.model.parameters())
    n_items = run.split.catalogue.n_items
    watch.curve.end(stopped_by, n_items=n_items, n_weights=weights)


if __name__ == "__main__":
    main()

"""SASRec of RecTools 0.19, trained until validation NDCG@10 stands still. Run by its own Python.

    python rectools_sasrec.py QUESTIONS.npz BATCH_SIZE MINUTES LISTS.npz

Its defaults, but for width, heads and batch size. It keeps the newest 101 training events of each
user, pads all to 100, and its learning rate is constant. RecTools has no validation metric of its
own; here a Lightning callback ranks, while the clock stands still. LISTS.npz: the first 21 items
of everybody after the best epoch, for another evaluator.
"""

import sys
import warnings

import numpy as np
import pandas as pd
import torch
from curve import Curve
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

MAX_LEN, PATIENCE, LISTED = 100, 5, 21


class Questions:
    """The validation events, in the item numbers of a model that was fitted."""

    def __init__(self, arrays: dict[str, np.ndarray], item_of: np.ndarray) -> None:
        """item_of: our number of each of the model's items (N,), 0 for padding."""
        number = np.zeros(max(item_of.max(), arrays["rows"].max()) + 1, np.int64)
        number[item_of] = np.arange(len(item_of))
        histories = np.split(number[arrays["rows"]], arrays["offsets"][1:-1])
        asked = np.flatnonzero(arrays["targets"] >= 0)
        self.item_of = item_of
        self.seen = [histories[user] for user in asked]
        self.targets = number[arrays["targets"][asked]]  # 0: the model does not know it
        self.x = np.zeros((len(asked), MAX_LEN), np.int64)
        for row, history in zip(self.x, self.seen, strict=True):
            known = history[history > 0][-MAX_LEN:]
            row[MAX_LEN - len(known) :] = known

    @torch.no_grad()
    def ask(self, model: torch.nn.Module) -> tuple[float, np.ndarray, np.ndarray]:
        """NDCG@10, ties counting against the model; the first items of everybody, their scores."""
        table = model.item_model.get_all_embeddings()
        gains, lists, scores = [], [], []
        for start in range(0, len(self.x), 256):
            x = torch.from_numpy(self.x[start : start + 256])
            found = model.encode_sessions({"x": x}, table)[:, -1] @ table.T  # (B, N)
            for row, seen in zip(found, self.seen[start:], strict=False):
                row[seen] = -torch.inf
            found[:, 0] = -torch.inf
            target = torch.from_numpy(self.targets[start : start + 256])
            rank = (found >= found.gather(1, target[:, None])).sum(dim=1)  # itself is the 1
            gains.append(torch.where((rank <= 10) & (target > 0), 1 / torch.log2(rank + 1.0), 0.0))
            best, where = found.topk(LISTED)
            lists.append(self.item_of[where.numpy()])
            scores.append(best.numpy())
        return float(torch.cat(gains).mean()), np.concatenate(lists), np.concatenate(scores)


class Validate(Callback):
    """Tells the curve, keeps the best lists, and stops."""

    def __init__(self, curve: Curve, arrays: dict[str, np.ndarray], minutes: float) -> None:
        self.curve, self.arrays, self.minutes = curve, arrays, minutes
        self.questions: Questions | None = None
        self.best: dict[str, np.ndarray] = {}
        self.stopped_by = ""

    def __deepcopy__(self, memo: dict) -> "Validate":
        """RecTools fits with a deep copy of its trainer; this one has to hear of it."""
        return self

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        ids = module.data_preparator.item_id_map.get_external_sorted_by_internal()
        self.questions = Questions(self.arrays, np.array([0, *ids[1:]], np.int64))
        self.curve.go_on()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.curve.pause()
        module.eval()
        ndcg, items, scores = self.questions.ask(module.torch_model)
        module.train()
        if self.curve.tell(ndcg):
            self.best = {"items": items, "scores": scores}
        if self.curve.epoch - self.curve.best_epoch >= PATIENCE:
            self.stopped_by = "patience"
        elif self.curve.seconds > self.minutes * 60:
            self.stopped_by = "minutes"
        trainer.should_stop = bool(self.stopped_by)
        self.curve.go_on()


def dataset(arrays: dict[str, np.ndarray]) -> Dataset:
    """The training events; time is the place in the log."""
    lengths = np.diff(arrays["offsets"])
    rows = arrays["rows"]
    events = {
        Columns.User: np.repeat(np.arange(len(lengths)), lengths),
        Columns.Item: rows,
        Columns.Weight: 1,
        Columns.Datetime: pd.to_datetime(np.arange(len(rows)), unit="s"),
    }
    return Dataset.construct(pd.DataFrame(events))


def main() -> None:
    questions, batch_size, minutes, lists = sys.argv[1:]
    warnings.filterwarnings("ignore")
    seed_everything(0)
    arrays = dict(np.load(questions))
    validate = Validate(Curve(), arrays, float(minutes))

    def trainer() -> Trainer:
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
        quiet["enable_model_summary"] = False
        return Trainer(max_epochs=-1, accelerator="cpu", callbacks=[validate], **quiet)

    model = SASRecModel(
        n_blocks=2, n_heads=2, n_factors=64, dropout_rate=0.2, session_max_len=MAX_LEN,
        loss="softmax", lr=1e-3, batch_size=int(batch_size), get_trainer_func=trainer,
    )  # fmt: skip
    model.fit(dataset(arrays))
    np.savez(lists, **validate.best)
    weights = sum(parameter.numel() for parameter in model.torch_model.parameters())
    n_items = len(validate.questions.item_of) - 1
    validate.curve.end(validate.stopped_by, n_items=n_items, n_weights=weights)


if __name__ == "__main__":
    main()

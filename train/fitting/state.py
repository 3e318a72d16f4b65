"""The state of a training: its learning curve, and all that its next step depends on."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.device import random_states, set_random_states
from attnrec.train.fitting.row_adamw import RowAdamW
from attnrec.train.models.base import LearnedModel, learned_tensors

_TABLES_OF_AGE = {"recency", "of_pair", "of_event"}


@dataclass(frozen=True)
class EpochRecord:
    """One point of the learning curve."""

    epoch: int
    """From 1."""
    loss: float
    """Mean training loss."""
    valid: dict[str, Any] | None
    """Validation figures; None in a final run, which has nothing to validate on."""
    seconds: float
    """Spent on training so far, also before an interruption."""
    seen_ndcg: float | None = None
    """NDCG@10 on trained events, `Split.seen`; less that of validation it is the overfitting gap.
    None in a final run, and where no user has two such events."""
    share: float = 1.0
    """Of the steps of the epoch: below 1 where the time was over."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)


class TrainingState:
    """A model between two steps of its training.

    The order of the data is not stored: it follows from seed and epoch.
    """

    def __init__(self, model: LearnedModel, config: TrainConfig) -> None:
        """Before the first step."""
        self.model = model
        self.device, self.precision = model.device, config.precision
        # Fused: one pass over weights and moments instead of a dozen, 3 % of a step.
        self.optimizer = RowAdamW(
            _groups(model, config.weight_decay), lr=config.learning_rate, fused=True
        )
        self.records: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}  # weights of the best epoch so far
        # Of the epoch under way: steps done, their share, sum of their losses, targets they had.
        self.step, self.share, self.loss_sum, self.n_targets = 0, 0.0, 0.0, 0
        self._started = time.monotonic()

    @property
    def epoch(self) -> int:
        """The epoch under way, from 1."""
        return len(self.records) + 1

    def to(self, device: torch.device) -> None:
        """Move model and optimizer there."""
        settings = self.optimizer.state_dict()
        self.device = device
        self.model.to(device)
        self.optimizer = RowAdamW(_groups(self.model, 0.0))
        self.optimizer.load_state_dict(settings)  # with the moments, which follow the weights

    def seconds(self) -> float:
        """Spent on training so far, also before an interruption."""
        return time.monotonic() - self._started

    def count_step(self, share: float, loss: Tensor, n_targets: int) -> None:
        """After a step: the share of its epoch that is done, its mean loss, its targets."""
        self.step, self.share = self.step + 1, share
        self.n_targets += n_targets
        self.loss_sum += loss.item() * n_targets

    def record(self, valid: dict[str, Any] | None, seen_ndcg: float | None) -> EpochRecord:
        """The record of the epoch under way, at its end."""
        loss, seconds = self.loss_sum / self.n_targets, round(self.seconds(), 2)
        return EpochRecord(self.epoch, loss, valid, seconds, seen_ndcg, round(self.share, 4))

    def end_epoch(self, record: EpochRecord) -> None:
        """Keep the record, and the weights if they are the best so far."""
        self.records.append(record)
        self.step, self.share, self.loss_sum, self.n_targets = 0, 0.0, 0.0, 0
        if best_epoch(self.records) == len(self.records):
            for name, value in learned_tensors(self.model).items():
                kept = self.best.setdefault(name, torch.empty_like(value, device="cpu"))
                kept.copy_(value)  # in place: no second table is made every epoch

    def take_best(self) -> None:
        """Give the model the weights of its best epoch, if there is one."""
        self.model.load_state_dict(self.best, strict=False)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, optimizer and random numbers, named "part/name"."""
        parts = {"model": learned_tensors(self.model), "best": self.best}
        parts["random"] = random_states()
        # By the number of the parameter.
        parts |= {str(number): m for number, m in self.optimizer.state_dict()["state"].items()}
        return {f"{p}/{name}": value for p, part in parts.items() for name, value in part.items()}

    def facts(self) -> dict[str, Any]:
        """The rest, for JSON, which stores floats exactly."""
        return {
            "records": [record.to_json() for record in self.records],
            "epoch": [self.step, self.share, self.loss_sum, self.n_targets],
            "seconds": self.seconds(),
        }

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Become the state that `tensors` and `facts` were taken from."""
        parts: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for path, value in tensors.items():
            part, name = path.split("/", 1)
            parts[part][name] = value.clone()  # in aligned memory, as before
        self.model.load_state_dict(parts.pop("model"), strict=False)
        self.best = parts.pop("best", {})
        set_random_states(parts.pop("random"))
        moments = {int(number): part for number, part in parts.items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.records = [EpochRecord(**record) for record in facts["records"]]
        self.step, self.share, self.loss_sum, self.n_targets = facts["epoch"]
        self._started = time.monotonic() - facts["seconds"]


def _groups(model: LearnedModel, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters that decay, which are matrices and vectors of items, and those that do not.

    Decay of biases and norms does not regularize, and decay of `recency` and the tables of the
    time bias would make all ages alike.
    """
    groups: tuple[list[Tensor], list[Tensor]] = [], []
    for name, parameter in model.named_parameters():
        is_free = parameter.ndim < 2 or name.rsplit(".", 1)[-1] in _TABLES_OF_AGE
        groups[is_free].append(parameter)
    return [
        {"params": groups[False], "weight_decay": weight_decay},
        {"params": groups[True], "weight_decay": 0.0},
    ]


def best_epoch(records: Sequence[EpochRecord]) -> int:
    """The first epoch with the best validation NDCG@10; 0 where nothing was validated.

    By the recorded, rounded figure, so that the kept epoch is the best one in metrics.json.
    """
    figures = [record.valid["ndcg@10"] for record in records if record.valid is not None]
    return figures.index(max(figures)) + 1 if figures else 0

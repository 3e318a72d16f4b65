"""Where a training stands: its learning curve, and everything that its next step depends on."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from attnrec.train.config import TrainConfig
from attnrec.train.models.protocol import TableModel


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
    """Spent on training so far, before an interruption included."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)


class TrainingState:
    """A model between two steps of its training.

    The order of the data is no part of it: that of an epoch follows from seed and epoch.
    """

    def __init__(self, model: TableModel, config: TrainConfig) -> None:
        """The state before the first step."""
        self.model = model
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.records: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}  # weights of the best epoch so far
        self.start_epoch()
        self._started = time.monotonic()

    def start_epoch(self) -> None:
        """Nothing is done yet of the epoch that follows those recorded."""
        self.step, self.loss_sum, self.n_targets = 0, 0.0, 0

    @property
    def epoch(self) -> int:
        """The epoch under way, from 1."""
        return len(self.records) + 1

    @property
    def seconds(self) -> float:
        """Time spent so far."""
        return time.monotonic() - self._started

    def end_epoch(self, valid: dict[str, Any] | None) -> None:
        """Record the epoch under way, and keep its weights if it is the best so far."""
        loss = self.loss_sum / self.n_targets
        self.records.append(EpochRecord(self.epoch, loss, valid, round(self.seconds, 2)))
        if best_epoch(self.records) == len(self.records):
            self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.start_epoch()

    def tensors(self) -> dict[str, Tensor]:
        """Weights, optimizer and random numbers, named "part/name"."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "model": self.model.state_dict(),
            "best": self.best,
            "random": {"state": torch.get_rng_state()},
        }
        for number, moments in self.optimizer.state_dict()["state"].items():
            parts[f"optimizer {number}"] = moments
        return {f"{p}/{name}": value for p, part in parts.items() for name, value in part.items()}

    def facts(self) -> dict[str, Any]:
        """The rest, for JSON, which keeps every bit of a float."""
        return {
            "records": [record.to_json() for record in self.records],
            "step": self.step,
            "loss_sum": self.loss_sum,
            "n_targets": self.n_targets,
            "seconds": self.seconds,
        }

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Become the state that `tensors` and `facts` were taken from."""
        parts: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for path, value in tensors.items():
            part, name = path.split("/", 1)
            # A copy in torch's own aligned memory, as it was before.
            parts[part][name] = value.clone()
        self.model.load_state_dict(parts.pop("model"))
        self.best = parts.pop("best", {})
        torch.set_rng_state(parts.pop("random")["state"])
        moments = {
            int(part.removeprefix("optimizer ")): part_of for part, part_of in parts.items()
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.records = [EpochRecord(**record) for record in facts["records"]]
        self.step, self.loss_sum = facts["step"], facts["loss_sum"]
        self.n_targets = facts["n_targets"]
        self._started = time.monotonic() - facts["seconds"]


def best_epoch(records: Sequence[EpochRecord]) -> int:
    """The first epoch with the best validation NDCG@10; 0 where nothing was validated.

    By the figure as it is recorded, so that the kept epoch is the one a reader finds best.
    """
    figures = [record.valid["ndcg@10"] for record in records if record.valid is not None]
    return figures.index(max(figures)) + 1 if figures else 0

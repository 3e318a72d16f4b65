"""The training loop of models that learn by gradient."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from attnrec.train.batches import TrainingBatches
from attnrec.train.config import TrainConfig
from attnrec.train.evaluation import Metrics
from attnrec.train.losses import catalogue_softmax
from attnrec.train.models.protocol import TableModel
from attnrec.train.split import Sequences

logger = logging.getLogger(__name__)

_WARMUP = 0.04  # share of all steps
_LAST_LEARNING_RATE = 0.02  # of the peak


class Progress(Protocol):
    """What the loop tells whoever watches."""

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        """After each step; `step` counts from 1 within the epoch, `loss` is the mean so far."""

    def on_epoch(self, record: "EpochRecord") -> None:
        """After each epoch and its validation."""


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
    """Since the start of training."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)


def fit_by_gradient(
    model: TableModel,
    sequences: Sequences,
    config: TrainConfig,
    validate: Callable[[], Metrics] | None,
    progress: Progress | None = None,
    stop_after: int | None = None,
) -> list[EpochRecord]:
    """Train `model` in place and leave it at its best epoch by validation NDCG@10, in eval mode.

    validate: asks the model as it is now; None for a final run, which keeps its last epoch.
    stop_after: end after this epoch of a schedule made for `config.epochs`.
    """
    batches = TrainingBatches(sequences, model.config.max_len, config.batch_events)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    records: list[EpochRecord] = []
    best: dict[str, Tensor] = {}
    best_ndcg, best_epoch = -1.0, 0
    started = time.monotonic()
    for epoch in range(1, (stop_after or config.epochs) + 1):
        loss = _train_epoch(model, batches, optimizer, config, epoch, progress)
        model.eval()
        valid = None if validate is None else validate()
        record = EpochRecord(
            epoch, loss, valid.to_json() if valid else None, round(time.monotonic() - started, 2)
        )
        records.append(record)
        if progress is not None:
            progress.on_epoch(record)
        # By the figure as it is recorded, so that the kept epoch is the one a reader finds best.
        if record.valid is not None and record.valid["ndcg@10"] > best_ndcg:
            best_ndcg, best_epoch = record.valid["ndcg@10"], epoch
            best = {name: value.clone() for name, value in model.state_dict().items()}
        if valid is not None and epoch - best_epoch >= config.patience:
            logger.info("no better validation NDCG@10 for %d epochs: stopping", config.patience)
            break
        if config.max_minutes is not None and record.seconds > config.max_minutes * 60:
            logger.info("stopping after %.1f minutes, as asked", record.seconds / 60)
            break
    if best:
        model.load_state_dict(best)
    return records


def _train_epoch(
    model: TableModel,
    batches: TrainingBatches,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    epoch: int,
    progress: Progress | None,
) -> float:
    """One pass over the training events; returns the mean loss per event."""
    model.train()
    rng = np.random.default_rng([config.seed, epoch])
    epoch_batches = list(batches.epoch(rng))
    total, n_events = 0.0, 0
    for step, (inputs, targets) in enumerate(epoch_batches, start=1):
        done = (epoch - 1 + (step - 1) / len(epoch_batches)) / config.epochs
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(done)
        loss = training_loss(model, inputs, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        n_targets = int((targets > 0).sum())
        total, n_events = total + loss.item() * n_targets, n_events + n_targets
        if progress is not None:
            progress.on_step(epoch, step, len(epoch_batches), total / n_events)
    return total / n_events


def training_loss(model: TableModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross-entropy over the catalogue at every position that has a target.

    inputs: the event before each target (B, T), row 0 at the start of a history; targets (B, T),
    0 where there is none (padding): nothing is computed for those beyond the state.
    """
    table = model.item_table()  # (N + 1, D)
    vectors = torch.nn.functional.embedding(inputs, table)  # (B, T, D)
    states = model.states(vectors, inputs > 0)  # (B, T, D)
    asked = targets > 0
    return catalogue_softmax(states[asked], table[1:], targets[asked] - 1)


def learning_rate_factor(done: float) -> float:
    """Share of the peak learning rate when `done` (0 to 1) of training is over."""
    if done < _WARMUP:
        return max(done, 1e-3) / _WARMUP
    return max(_LAST_LEARNING_RATE, (1 - done) / (1 - _WARMUP))

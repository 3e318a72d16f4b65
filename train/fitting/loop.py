"""The training loop of models that learn by gradient."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from attnrec.train.data.batches import Batches
from attnrec.train.data.split import Split
from attnrec.train.evaluation.metrics import Metrics
from attnrec.train.fitting.checkpoint import Checkpoints
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.distributed import Descend, descent, from_first
from attnrec.train.fitting.state import EpochRecord, TrainingState, best_epoch
from attnrec.train.models.base import LearnedModel

logger = logging.getLogger(__name__)

_WARMUP = 0.04  # share of all steps
_LAST_LEARNING_RATE = 0.02  # of the peak


class Progress(Protocol):
    """Callbacks of the loop."""

    def on_start(self, n_epochs: int) -> None:
        """Before the first step; there are at most so many epochs."""

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        """After each step; `step` counts from 1 within the epoch, `loss` is the mean so far."""

    def on_epoch(self, record: EpochRecord) -> None:
        """After each epoch and its validation."""


def fit_by_gradient(
    model: LearnedModel,
    split: Split,
    config: TrainConfig,
    validate: Callable[[], Metrics] | None,
    progress: Progress | None = None,
    stop_after: int | None = None,
    checkpoints: Checkpoints | None = None,
    seen_ndcg: Callable[[], float | None] | None = None,
) -> list[EpochRecord]:
    """Train `model` in place and leave it at its best epoch by validation NDCG@10, in eval mode.

    It stays on the device that it was trained on.

    validate: figures of the model as it is now; None for a final run, which keeps its last epoch.
    stop_after: end after this epoch of a schedule made for all of them.
    checkpoints: where the state is kept; training goes on from the one found there.
    seen_ndcg: NDCG@10 on trained events, for the record only.
    """
    model.prepare(split)
    batches = model.batches(split, config.schedule.batch_events)
    state = _begun(model, config, checkpoints)
    n_epochs = stop_after or config.schedule.epochs
    if progress is not None:
        progress.on_start(n_epochs)
    descend = descent(state, config.seed)
    while not _is_over(state.records, config, n_epochs):
        with state.optimizer.catching_up(model):
            train_epoch(state, batches, config, descend, progress, checkpoints)
        model.eval()
        valid = None if validate is None else validate().to_json()
        seen = None if seen_ndcg is None else seen_ndcg()
        state.end_epoch(from_first(state.record(valid, seen)))
        if checkpoints is not None:
            checkpoints.save(state)
        if progress is not None:
            progress.on_epoch(state.records[-1])
    if state.best:
        model.load_state_dict(state.best)
    model.eval()
    return state.records


def _begun(
    model: LearnedModel, config: TrainConfig, checkpoints: Checkpoints | None
) -> TrainingState:
    """The state that the first process finds in its checkpoints, else a new one."""
    state = TrainingState(model, config)
    found = from_first(None if checkpoints is None else checkpoints.take())
    if found is not None:
        state.restore(*found)
    return state


def _is_over(records: Sequence[EpochRecord], config: TrainConfig, n_epochs: int) -> bool:
    """Whether training ends after the epochs so far."""
    if not records:
        return False
    last = records[-1]
    patience = config.schedule.patience
    if last.valid is not None and last.epoch - best_epoch(records) >= patience:
        logger.info("no better validation NDCG@10 for %d epochs: stopping", patience)
        return True
    if config.max_minutes is not None and last.seconds > config.max_minutes * 60:
        logger.info("stopping after %.1f minutes, the limit", last.seconds / 60)
        return True
    return last.epoch >= n_epochs


def train_epoch(
    state: TrainingState,
    batches: Batches,
    config: TrainConfig,
    descend: Descend,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
) -> None:
    """One pass over the training events, or the rest of it where `state` is inside of one."""
    model, optimizer = state.model, state.optimizer
    model.train()
    epoch = batches.epoch(np.random.default_rng([config.seed, state.epoch]))
    for step, batch in enumerate(epoch, start=1):
        if step <= state.step:
            continue
        done = (state.epoch - 1 + (step - 1) / len(epoch)) / config.schedule.epochs
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(done)
        loss = descend(batch)
        optimizer.step()
        n_targets = int((batch.targets > 0).sum())
        state.step, state.n_targets = step, state.n_targets + n_targets
        state.loss_sum += loss.item() * n_targets
        if checkpoints is not None and checkpoints.is_due():
            checkpoints.save(state)
        if progress is not None:
            mean = state.loss_sum / state.n_targets
            progress.on_step(state.epoch, step, len(epoch), mean)


def learning_rate_factor(done: float) -> float:
    """Share of the peak learning rate when `done` (0 to 1) of training is over."""
    if done < _WARMUP:
        return max(done, 1e-3) / _WARMUP
    return max(_LAST_LEARNING_RATE, (1 - done) / (1 - _WARMUP))

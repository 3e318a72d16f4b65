"""The training loop of models that learn by gradient."""

import logging
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from attnrec.train.evaluation.metrics import Metrics
from attnrec.train.fitting.checkpoint import Checkpoints
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.device import freed_memory_is_kept
from attnrec.train.fitting.distributed import Descend, descent, from_first
from attnrec.train.fitting.interruption import Interruption, Stopped, interruption
from attnrec.train.fitting.pace import Pace
from attnrec.train.fitting.state import EpochRecord, TrainingState, best_epoch
from attnrec.train.models.base import LearnedModel
from attnrec.train.splits.batches import Batches
from attnrec.train.splits.split import Split

logger = logging.getLogger(__name__)


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
    pace: Callable[[], Pace] | None = None,
    checkpoints: Checkpoints | None = None,
    seen_ndcg: Callable[[], float | None] | None = None,
) -> list[EpochRecord]:
    """Train `model` in place and leave it at its best epoch by validation NDCG@10, in eval mode.

    It stays on the device that it was trained on.

    validate: figures of the model as it is now; None for a final run, which keeps its last epoch.
    pace: where training ends, and how the learning rate falls; made when the model is prepared,
    None: by the configuration alone.
    checkpoints: where the state is kept; training goes on from the one found there, and SIGINT,
    SIGTERM and SIGHUP leave one.
    seen_ndcg: NDCG@10 on trained events, for the record only.
    """
    model.prepare(split)
    batches = model.batches(split, config.schedule.batch_events)
    state = _begun(model, config, checkpoints)
    descend = descent(state, config.seed)
    chosen = Pace(config) if pace is None else pace()
    if progress is not None:
        progress.on_start(math.ceil(chosen.stop_after))
    with interruption() as signals, freed_memory_is_kept():
        try:
            while not _is_over(state, config, chosen):
                train_epoch(
                    state, batches, config, descend, chosen, progress, checkpoints, signals
                )
                model.eval()
                with chosen.checking():
                    valid = None if validate is None else validate().to_json()
                    seen = None if seen_ndcg is None else seen_ndcg()
                state.end_epoch(from_first(state.record(valid, seen)))
                if checkpoints is not None and checkpoints.is_affordable():
                    checkpoints.save(state)
                if progress is not None:
                    progress.on_epoch(state.records[-1])
        except Stopped:
            if checkpoints is not None:
                checkpoints.save(state)
            raise
    state.take_best()
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


def _is_over(state: TrainingState, config: TrainConfig, pace: Pace) -> bool:
    """Whether training ends after the epochs so far."""
    if not state.records:
        return False
    records, last = state.records, state.records[-1]
    patience = config.schedule.patience
    if last.valid is not None and last.epoch - best_epoch(records) >= patience:
        logger.info("no better validation NDCG@10 for %d epochs: stopping", patience)
        return True
    if pace.is_out_of_time(state.seconds()):
        logger.warning(
            "stopping after %.1f of %d epochs: the time is over, with what validation needs",
            last.epoch - 1 + last.share,
            config.schedule.epochs,
        )
        return True
    return last.epoch >= pace.stop_after


def train_epoch(
    state: TrainingState,
    batches: Batches,
    config: TrainConfig,
    descend: Descend,
    pace: Pace,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    signals: Interruption | None = None,
) -> None:
    """One pass over the training events, or the rest of it where `state` is inside of one.

    The pace may end it early, but never before its first step.
    """
    signals = signals or Interruption()
    epoch = batches.epoch(np.random.default_rng([config.seed, state.epoch]))
    state.model.train()
    with state.optimizer.catching_up(state.model), signals.stepping():
        for step, batch in enumerate(epoch, start=1):
            if step <= state.step:
                continue
            place = state.epoch - 1 + (step - 1) / len(epoch)
            if state.step and pace.is_over(place, state.seconds()):
                break
            factor = pace.learning_rate_factor(place, state.seconds())
            for group in state.optimizer.param_groups:
                group["lr"] = config.learning_rate * factor
            loss = descend(batch)
            state.optimizer.step()
            state.count_step(step / len(epoch), loss, int((batch.targets > 0).sum()))
            if checkpoints is not None and checkpoints.is_due():
                checkpoints.save(state)
            if progress is not None:
                mean = state.loss_sum / state.n_targets
                progress.on_step(state.epoch, step, len(epoch), mean)
            signals.check()
    state.optimizer.catch_up_all()

"""Training by several processes, as `torchrun` starts them: rank 0 leads, the others follow.

    rank 0       runs the command as one process does: reads, validates, keeps, reports
    the others   wait for trainings, take part in every step of each, and leave when rank 0 does

The steps are those of one process: as many, of the same batches, at the same learning rates. Of
each batch every process takes a share, and the gradients are added up, each weighed by what its
targets count in the whole batch. So the weights are those of one process up to rounding, and up
to the random numbers of dropout and negatives, which each process draws for itself; they are
equal on all processes, because all add the same sum to the same weights.

During a training all wait for each other in one place only, the sum of a step. Rank 0 ends a
training, whatever the reason, by saying so in the next sum, for which the others have begun to
compute already; a process that fails tells the others in the same way. So nobody waits for one
who has left, and no message can be taken for another.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from attnrec.runtime.errors import RunError
from attnrec.train.data.batches import Batch, Batches
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.device import seed_random_numbers, training_device
from attnrec.train.fitting.state import TrainingState

_JOINING = timedelta(minutes=5)
_WAITING = timedelta(days=7)  # others wait while rank 0 reads the log, validates and reports

Descend = Callable[[Batch], Tensor]
"""Sets the gradients of a batch for the optimizer and returns its mean loss."""
Training = tuple[TrainingState, Batches, TrainConfig]


class TrainingOver(Exception):
    """For the others: rank 0 has ended this training, or it has failed."""


def n_processes() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined() -> Iterator[int]:
    """The rank of this process, connected with the others for a block; 0 where it is alone.

    `ConnectionError` if they do not find each other, `ValueError` if they cannot train together.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    # Its functions keep the group that exists when they are imported, which the first optimizer
    # does. The threads of a kept group outlive it, and may abort the process where Python ends.
    import_module("torch.distributed.nn")
    device = training_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, rank, size = next(rendezvous("env://", timeout=_JOINING))
        # After a restart by torchrun its store still has the addresses of those who are gone.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt {attempt}", store)  # type: ignore[attr-defined]
        # What is told goes by way of the processor, whatever the sums do.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_WAITING)
    except (RuntimeError, ValueError) as error:
        raise ConnectionError(f"the processes cannot reach each other: {error}") from error
    try:
        _check_alike(device)
        yield rank
    finally:
        if rank == 0 and dist.is_initialized():
            with suppress(ConnectionError):  # whoever is gone need not be told
                _tell(None)
        if dist.is_initialized():
            dist.destroy_process_group()


def _check_alike(device: torch.device) -> None:
    kinds = _gathered(device.type)
    if len(set(kinds)) > 1:
        raise ValueError(
            f"some processes have a GPU, some have none: {', '.join(kinds)}; set "
            "CUDA_VISIBLE_DEVICES= for all to train on the processors"
        )


def next_training() -> Training | None:
    """What rank 0 wants to be helped with; None: nothing more."""
    return _tell(None)


@contextmanager
def led(state: TrainingState, batches: Batches, config: TrainConfig) -> Iterator[Descend]:
    """For a block that trains: how to descend a batch, together with the others if there are any.

    The model is on the device of the training from here on.
    """
    if not dist.is_initialized():
        state.to(training_device())
        yield partial(_descend_alone, state)
        return
    _tell((state, batches, config))
    share = Share(state, config)
    try:
        state.to(share.device)
        yield share.descend
    finally:
        share.end()


def _descend_alone(state: TrainingState, batch: Batch) -> Tensor:
    loss = state.model.training_loss(batch.to(state.device))
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


class Share:
    """What one process does of each step of a training."""

    def __init__(self, state: TrainingState, config: TrainConfig) -> None:
        self._state = state
        self._seed = config.seed
        self._rank, self._n_processes = dist.get_rank(), dist.get_world_size()
        self.device = training_device()
        self._is_over = False

    def descend(self, batch: Batch) -> Tensor:
        """Set the gradients of the whole batch and return its mean loss: equal everywhere.

        Rows go to the processes in turn, because neighbours are of similar length. `RunError`
        where another process failed, for rank 0; `TrainingOver` for the others.
        """
        state = self._state
        share = batch.rows(slice(self._rank, None, self._n_processes))
        weight = _weight(share) / _weight(batch)
        # From nothing but the place of the step, so that a checkpoint need not know the others.
        place = [self._seed, state.epoch, state.step, self._rank]
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
        seed_random_numbers(seed, self.device)
        loss = torch.zeros((), device=self.device)
        state.optimizer.zero_grad()
        if weight > 0:  # there may be fewer rows than processes
            loss = state.model.training_loss(share.to(self.device)) * weight
            loss.backward()  # type: ignore[no-untyped-call]
        return self._sum(loss.detach())

    def fail(self, error: Exception) -> None:
        """Tell the others, in the place of the next step."""
        with suppress(TrainingOver):
            self._sum(failure=f"{type(error).__name__}: {error}")

    def end(self) -> None:
        """Rank 0 ends the training, in the place of the next step; no matter if it is over."""
        if not self._is_over:
            with suppress(TrainingOver, ConnectionError):  # an error that led here says more
                self._sum(ends=True)

    def _sum(
        self, loss: Tensor | None = None, failure: str | None = None, ends: bool = False
    ) -> Tensor:
        """Add up gradients and loss of all processes; who fails or ends has none of them.

        One buffer for all: gradients, which parameters have any, loss, failures, the end.
        """
        device = self.device
        parameters = [p for p in self._state.model.parameters() if p.requires_grad]
        grads = [p.grad if loss is not None else None for p in parameters]
        told = [*(grad is not None for grad in grads), 0.0, failure is not None, ends]
        flags = torch.tensor(told, dtype=torch.float32).to(device)
        if loss is not None:
            flags[-3] = loss
        parts = [
            torch.zeros(p.numel(), device=device) if grad is None else grad.flatten()
            for p, grad in zip(parameters, grads, strict=True)
        ]
        buffer = torch.cat([*parts, flags])
        try:
            dist.all_reduce(buffer)
        except RuntimeError as error:
            self._is_over = True
            raise _lost(error) from error
        *sums, flags = torch.split(buffer, [*(p.numel() for p in parameters), len(flags)])
        *has_gradient, total, n_failed, is_end = flags.tolist()
        if is_end or n_failed:
            self._is_over = True
            self._leave(failure, is_end=bool(is_end))
        for p, summed, has in zip(parameters, sums, has_gradient, strict=True):
            p.grad = summed.view_as(p) if has else None
        return torch.tensor(total)

    def _leave(self, failure: str | None, *, is_end: bool) -> None:
        if not is_end:
            failures = _gathered(failure)
            if self._rank == 0:
                rank, text = next((r, text) for r, text in enumerate(failures) if text is not None)
                raise RunError(f"process {rank} of {self._n_processes} failed: {text}")
        raise TrainingOver


def _weight(batch: Batch) -> float:
    """What the targets of a batch count together."""
    asked = batch.targets > 0
    return float(asked.sum() if batch.weights is None else batch.weights[asked].sum())


def _tell(training: Training | None) -> Training | None:
    """From rank 0 to all; what the others give is ignored."""
    message: list[Any] = [training]
    try:
        dist.broadcast_object_list(message, src=0, device=torch.device("cpu"))
    except RuntimeError as error:
        raise _lost(error) from error
    told: Training | None = message[0]
    return told


def _gathered(text: Any) -> list[Any]:
    """What each process has, by rank."""
    found: list[Any] = [None] * dist.get_world_size()
    try:
        dist.all_gather_object(found, text)
    except RuntimeError as error:
        raise _lost(error) from error
    return found


def _lost(error: RuntimeError) -> ConnectionError:
    """A process is gone, without a word; leave the group, which is none any more."""
    dist.destroy_process_group()
    return ConnectionError(f"a process of the training is gone ({error})")

"""Training by several processes, as `torchrun` starts them: rank 0 leads, the others follow.

    rank 0       runs the command as one process does: reads, validates, keeps, reports
    the others   wait for trainings, take part in every step of each, and leave when rank 0 does

The steps are those of one process: as many, of the same batches, at the same learning rates. Each
process takes some rows of a batch, and torch's DistributedDataParallel adds up the gradients
during the backward pass, each weighed by what its targets count in the whole batch. So the weights
are those of one process up to rounding, and up to the random numbers of dropout and negatives,
which each process draws for itself.

A process that fails leaves the group, which ends the sums of all. The others stay until rank 0 has
said why, because torchrun ends all when one is gone.
"""

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _get_default_store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from attnrec.train.data.batches import Batch
from attnrec.train.fitting.device import seed_random_numbers, training_device
from attnrec.train.fitting.state import TrainingState
from attnrec.train.models.base import LearnedModel

_JOINING = timedelta(minutes=5)
_WAITING = timedelta(days=7)  # others wait while rank 0 reads the log, validates and reports
_TELLING = timedelta(seconds=30)  # from a failure until rank 0 has said so
_LEAVING = 1.0  # seconds: rank 0 is gone by then, and torchrun reports the first that is
_FAILURE, _OVER = "failure", "over"  # keys of the store

Value = TypeVar("Value")
Descend = Callable[[Batch], Tensor]
"""Sets the gradients of a batch for the optimizer and returns its mean loss."""


def n_processes() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def train_together(lead: Callable[[], None]) -> None:
    """Call `lead` in rank 0, or where there is one process; the others help, and return after it.

    Under torchrun every process calls this, and whatever `lead` trains is trained by all. Errors
    are raised once: by rank 0, or by the first process of a machine where none could begin. The
    others exit with code 1, without a word.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        lead()
        return
    try:
        _join(training_device())
    except (ConnectionError, ValueError):
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        raise SystemExit(1) from None
    if dist.get_rank() > 0:
        _follow()
        return
    try:
        lead()
        _broadcast(None)
    except SystemExit as end:  # of a command
        if not end.code:
            _broadcast(None)
        raise
    finally:
        _get_default_store().set(_OVER, "")
        dist.destroy_process_group()


def _join(device: torch.device) -> None:
    """Connect with the others; `ValueError` if they cannot train together."""
    # Its functions keep the group that exists when they are imported, which the first optimizer
    # does. The threads of a kept group outlive it, and may abort the process where Python ends.
    import_module("torch.distributed.nn")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, rank, size = next(rendezvous("env://", timeout=_JOINING))
        # After a restart torchrun's store may still have the addresses of those who are gone.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt {attempt}", store)  # type: ignore[attr-defined]
        # What is told goes by way of the processor, whatever the sums do.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_WAITING)
        kinds: list[Any] = [None] * size
        dist.all_gather_object(kinds, device.type)
    except RuntimeError as error:
        raise ConnectionError(f"the processes cannot reach each other: {error}") from error
    if len(set(kinds)) > 1:
        dist.destroy_process_group()
        raise ValueError(
            f"some processes have a GPU, some have none: {', '.join(kinds)}; set "
            "CUDA_VISIBLE_DEVICES= for all to train on the processors"
        )


def _follow() -> None:
    """Take part in what rank 0 asks for, until there is no more, and leave."""
    logging.getLogger("attnrec").setLevel(logging.CRITICAL)  # rank 0 says the same
    warnings.simplefilter("ignore")
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches every process; what follows from it is for rank 0 to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    store, failure = _get_default_store(), ""
    try:
        while (work := _broadcast(None)) is not None:
            work()
        dist.destroy_process_group()
        return
    except ConnectionError:
        pass
    except Exception as error:
        failure = f"process {dist.get_rank()} of {dist.get_world_size()} failed: "
        failure += f"{type(error).__name__}: {error}"
        store.set(_FAILURE, failure)
    dist.destroy_process_group()
    try:
        store.wait([_OVER], _TELLING)
        time.sleep(_LEAVING)
    except dist.DistNetworkError:  # rank 0, which may keep the store, is gone
        pass
    except dist.DistStoreError:
        if failure:
            raise ConnectionError(failure) from None
    raise SystemExit(1)


@contextmanager
def with_others(work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """For a block that trains: the processes that follow, if there are any, call `work` meanwhile.

    After an error in such a block there is no other: the others are still inside of a step.
    """
    if not dist.is_initialized():
        yield
        return
    store = _get_default_store()
    if store.check([_FAILURE]):
        failure = store.get(_FAILURE).decode()
        raise ConnectionError(f"the processes are out of step after an error ({failure})")
    _broadcast(partial(work, *arguments))
    try:
        yield
    except Exception as error:
        store.set(_FAILURE, str(error))
        raise


def from_rank_0(value: Value) -> Value:
    """That of the process that leads."""
    return cast(Value, _broadcast(value)) if dist.is_initialized() else value


def _broadcast(value: Any) -> Any:
    message = [value]
    with _reaching_others():
        dist.broadcast_object_list(message, src=0, device=torch.device("cpu"))
    return message[0]


@contextmanager
def _reaching_others() -> Iterator[None]:
    """`ConnectionError`, in rank 0 with what went wrong, if a block fails for want of another."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        store, text = _get_default_store(), f"a process of the training is gone ({error})"
        if dist.get_rank() == 0 and store.check([_FAILURE]):
            text = store.get(_FAILURE).decode()
        raise ConnectionError(text) from error


class _Loss(nn.Module):
    """The loss of a model in the form that DistributedDataParallel wraps."""

    def __init__(self, model: LearnedModel) -> None:
        super().__init__()
        self.model = model
        # Where there is none at all, torch prints that looking for them is slow.
        self.unused = nn.Parameter(torch.zeros((), device=model.device))

    def forward(self, batch: Batch) -> Tensor:
        return self.model.training_loss(batch)


def descent(state: TrainingState, seed: int) -> Descend:
    """How to descend a batch, together with the others if there are any.

    The model is on the device of the training from here on.
    """
    state.to(training_device())
    if not dist.is_initialized():
        return partial(_descend_alone, state)
    # A model may leave parameters unused. Looking for them also keeps the order of the sums from
    # changing after the first step, so that a resume repeats them. Buffers are large and constant.
    together = DistributedDataParallel(
        _Loss(state.model),
        find_unused_parameters=True,
        forward_sync_buffers=False,
        init_sync=False,
    )
    return partial(_descend_together, state, together, seed)


def _descend_alone(state: TrainingState, batch: Batch) -> Tensor:
    loss = state.model.training_loss(batch.to(state.device))
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _descend_together(state: TrainingState, loss_of: nn.Module, seed: int, batch: Batch) -> Tensor:
    """Rows go to the processes in turn, because neighbours are of similar length."""
    rank, n = dist.get_rank(), dist.get_world_size()
    own = batch.rows(slice(rank, None, n))
    share = _weight(own) / _weight(batch)
    if share == 0:  # fewer rows than processes: it takes part with a loss that counts nothing
        own = batch
    # From nothing but the place of the step, so that a checkpoint need not know the others.
    place = [seed, state.epoch, state.step, rank]
    number = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
    seed_random_numbers(number, state.device)
    state.optimizer.zero_grad()
    with _reaching_others():
        loss = loss_of(own.to(state.device)) * share
        (loss * n).backward()  # the gradients are averaged
        total: Tensor = loss.detach()
        dist.all_reduce(total)
    return total


def _weight(batch: Batch) -> float:
    """What the targets of a batch count together."""
    asked = batch.targets > 0
    return float(asked.sum() if batch.weights is None else batch.weights[asked].sum())

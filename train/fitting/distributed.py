"""Training by several processes, as `torchrun` starts them: each runs the same command.

Every process reads the log, goes through the same loop and validates; the first alone writes
files and prints. A step takes the batch of one process: each takes some of its rows, and torch's
DistributedDataParallel adds up the gradients during the backward pass, each weighed by what its
targets count in the whole batch. So the weights are those of one process up to rounding, and up
to the random numbers of dropout and negatives, which each process draws for itself. When a
process fails, torchrun ends the others.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from attnrec.train.fitting.device import autocast, seed_random_numbers, training_device
from attnrec.train.fitting.state import TrainingState
from attnrec.train.models.base import LearnedModel
from attnrec.train.splits.batches import Batch

_WAITING = timedelta(days=7)  # the others wait while the first makes its report
_FIRST_PRINTS = 2.0  # seconds: an error of all processes is printed by the first until then

_SUMS_END = 0.5  # seconds

Value = TypeVar("Value")
Descend = Callable[[Batch], Tensor]
"""Sets the gradients of a batch for the optimizer and returns its mean loss."""


def n_processes() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def train_together(work: Callable[[], object]) -> None:
    """Call `work` in each process that torchrun started, or in the only one.

    Whatever `work` trains is trained by all. What the processes after the first print is shown
    only where they fail.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        work()
        return
    rank = os.environ["RANK"]
    with nullcontext() if rank == "0" else _silent_unless_it_fails(f"process {rank}"):
        _join(training_device())
        try:
            work()
        except BaseException:
            # Threads of gloo that drop their last sum need Python's lock, which the end of the
            # group holds while it waits for them: without this they may wait for each other.
            time.sleep(_SUMS_END)
            raise
        finally:
            dist.destroy_process_group()


@contextmanager
def _silent_unless_it_fails(name: str) -> Iterator[None]:
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            yield
    except BaseException as error:
        if not isinstance(error, SystemExit) or error.code:
            time.sleep(_FIRST_PRINTS)  # torchrun ends this process if the first has failed
            text = printed.getvalue()
            sys.stderr.write(f"{name} failed: {text[max(0, text.rfind('error: ')) :]}")
        raise


def _join(device: torch.device) -> None:
    """Connect with the others; `ValueError` if they cannot train together."""
    # Its functions keep the group that exists when they are imported, which the first optimizer
    # does. The threads of a kept group outlive it, and may abort the process where Python ends.
    import_module("torch.distributed.nn")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Python objects are sent by way of the processor, whatever the sums do.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _reaching_others():
        dist.init_process_group(backend, timeout=_WAITING)
        kinds = [""] * dist.get_world_size()
        dist.all_gather_object(kinds, device.type)
    if len(set(kinds)) > 1:
        dist.destroy_process_group()
        raise ValueError(
            f"some processes have a GPU, some have none: {', '.join(kinds)}; set "
            "CUDA_VISIBLE_DEVICES= for all to train on the processors"
        )


def from_first(value: Value) -> Value:
    """The value of the first process, in all."""
    if not dist.is_initialized():
        return value
    message = [value]
    with _reaching_others():
        dist.broadcast_object_list(message, src=0, device=torch.device("cpu"))
    return message[0]


@contextmanager
def _reaching_others() -> Iterator[None]:
    """`ConnectionError` where a block fails because another process cannot be reached."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise ConnectionError(f"a process of the training cannot be reached ({error})") from error


class _Loss(nn.Module):
    """The loss of a model in the form that DistributedDataParallel wraps."""

    def __init__(self, model: LearnedModel) -> None:
        super().__init__()
        self.model = model
        # Where every parameter is used, torch warns that looking for unused ones is slow.
        self.unused = nn.Parameter(torch.zeros((), device=model.device))

    def forward(self, batch: Batch) -> Tensor:
        return self.model.training_loss(batch)


def descent(state: TrainingState, seed: int) -> Descend:
    """How to descend a batch, together with the other processes if there are any.

    The model is on the device of the training from here on.
    """
    state.to(training_device())
    if not dist.is_initialized():
        return partial(_descend, state, state.model.training_loss)
    if state.device.type == "cuda":  # nccl adds up dense gradients alone
        for part in state.model.modules():
            if isinstance(part, nn.Embedding):
                part.sparse = False
    # A model may leave parameters unused. Looking for them also keeps the order of the sums from
    # changing after the first step, so that a resume repeats them. Buffers are large and constant.
    loss_of = DistributedDataParallel(
        _Loss(state.model), find_unused_parameters=True, forward_sync_buffers=False
    )
    return partial(_descend_together, state, loss_of, seed)


def _descend(
    state: TrainingState, loss_of: Callable[[Batch], Tensor], batch: Batch, share: float = 1.0
) -> Tensor:
    """Set the gradients of a share of the loss; torch averages them over the processes."""
    with autocast(state.precision, state.device):
        loss = loss_of(batch.to(state.device)) * share
    state.optimizer.zero_grad()
    (loss * n_processes()).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _descend_together(state: TrainingState, loss_of: nn.Module, seed: int, batch: Batch) -> Tensor:
    """Rows go to the processes in turn, because neighbours are of similar length."""
    rank = dist.get_rank()
    own = batch.rows(slice(rank, None, n_processes()))
    share = _weight(own) / _weight(batch)
    # From the place of the step alone, so that a checkpoint need not hold those of all processes.
    place = [seed, state.epoch, state.step, rank]
    number = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
    seed_random_numbers(number, state.device)
    with _reaching_others():
        # With fewer rows than processes, some take part with a loss of weight 0.
        total = _descend(state, loss_of, own if share else batch, share)
        dist.all_reduce(total)
    return total


def _weight(batch: Batch) -> float:
    """The sum of the weights of all targets of a batch."""
    is_target = batch.targets > 0
    return float(is_target.sum() if batch.weights is None else batch.weights[is_target].sum())

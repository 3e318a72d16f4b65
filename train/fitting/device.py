"""Where a training computes: on a GPU where there is one, else on the processor.

Only the placement is ours: what a batch and a model need is moved here, and every other tensor is
made where its inputs are. The tests prove that on torch's "meta" device, which computes nothing;
on a real GPU attnrec has not been run yet.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_CPU = torch.device("cpu")


def training_device() -> torch.device:
    """That of this process. `ValueError` where a process of torchrun has no GPU of its own."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", str(local_rank + 1)))
    return choose_device(n_gpus, local_rank, n_processes)


def choose_device(n_gpus: int, local_rank: int = 0, n_processes: int = 1) -> torch.device:
    """One GPU for each process of a machine, by its number there; without any the processor."""
    if n_gpus == 0:
        return _CPU
    if n_processes > n_gpus:
        raise ValueError(
            f"{n_processes} processes cannot share {n_gpus} GPUs; start at most {n_gpus} "
            "(torchrun --nproc-per-node), or set CUDA_VISIBLE_DEVICES= to train on the processor"
        )
    return torch.device("cuda", local_rank)


def random_states() -> dict[str, Tensor]:
    """What torch's next random numbers follow from, also those on a GPU."""
    states = {"state": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    """Go on from there; with what there is, if they were taken on another machine."""
    torch.set_rng_state(states["state"])
    if torch.cuda.is_available() and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def torch_as_it_was() -> Iterator[None]:
    """For a block, or a function, that seeds torch, draws from it or sets its threads.

    After it, also after an error, random numbers and threads are those of the caller again.
    """
    n_threads = torch.get_num_threads()
    has_gpus = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = range(torch.cuda.device_count()) if has_gpus else ()
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        torch.set_num_threads(n_threads)


def seed_random_numbers(seed: int, device: torch.device) -> None:
    """Begin torch's random numbers anew.

    Not `torch.manual_seed`: where there is no GPU, that keeps a stack trace each time in case one
    is started later, which is slow beside a step of training.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)

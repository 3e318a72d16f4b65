"""Device and random numbers of a training: a GPU where there is one, else the processor.

Model and batches are moved there; every other tensor is made on the device of its inputs. The
tests check that on torch's "meta" device, which computes nothing. It has not been run on a GPU.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attnrec.train.fitting.config import Precision

_CPU = torch.device("cpu")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt in malloc.h
_KEPT_BYTES, _LARGEST_BLOCK = 1 << 29, 1 << 25


def training_device() -> torch.device:
    """The device of this process. `ValueError` where torchrun starts more processes than GPUs."""
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


def autocast(precision: Precision | None, device: torch.device) -> torch.autocast:
    """For the forward pass of a step: matrix products in the precision of the configuration."""
    if precision is None and device.type == "cuda" and torch.cuda.is_bf16_supported():
        precision = "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def freed_memory_is_kept() -> Iterator[None]:
    """For a training, whose steps free and allocate the same sizes again and again.

    By default glibc returns such memory to the system, and the kernel clears every page of it
    anew: 6 % of the time of a step. Elsewhere this does nothing. After the block the limits are
    those that glibc itself comes to in a program with large arrays.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
    library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_BLOCK)
        library.malloc_trim(0)


def random_states() -> dict[str, Tensor]:
    """The states of torch's random numbers, also those on a GPU."""
    states = {"state": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    """Restore them; without a GPU, only that of the processor."""
    torch.set_rng_state(states["state"])
    if torch.cuda.is_available() and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def torch_as_it_was() -> Iterator[None]:
    """For a block, or a function, that seeds torch, draws from it or sets its threads.

    After it, also after an error, random numbers and threads are as they were before.
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
    """Seed torch's random numbers.

    Not by `torch.manual_seed`: without a GPU that keeps a stack trace on each call, which is slow
    compared with a step of training.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)

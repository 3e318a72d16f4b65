"""The softmax over the catalogue beside torch's chunked `linear_cross_entropy`.

    OMP_NUM_THREADS=1 python benchmarks/softmax_loss.py

Forward and backward of one batch with one thread: processor milliseconds, medians of turns in one
process, and the peak of memory beyond the inputs, each in a process of its own. With weights of
the rows, torch needs `reduction="none"`, which computes the logits twice.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions
from torch.nn.functional import linear_cross_entropy

from attnrec.train.layers.losses import _chunk_rows, catalogue_softmax


def by_torch(states: Tensor, table: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    options = LinearCrossEntropyOptions(batch_chunk_size=_chunk_rows(len(table)))
    cross_entropy = partial(linear_cross_entropy, states, table, targets, options=options)
    if weights is None:
        return cross_entropy()
    return cross_entropy(reduction="none") @ (weights / weights.sum())


def milliseconds(loss: Callable[..., Tensor], *question: Tensor | None) -> float:
    started = time.process_time()
    loss(*question).backward()
    return 1e3 * (time.process_time() - started)


def peak(loss: Callable[..., Tensor], *question: Tensor | None) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    milliseconds(loss, *question)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    milliseconds(
        by_torch,
        torch.ones(2, 2, requires_grad=True),
        torch.ones(3, 2),
        torch.ones(2).long(),
        None,
    )
    print("| items | width | targets | own | torch | own, weights | torch, weights |")
    for n_items, width, n_rows in product((3_650, 12_000, 50_000), (64, 128), (800, 2_400)):
        table = (torch.randn(n_items, width) / width).requires_grad_()
        states, targets = (
            torch.randn(n_rows, width, requires_grad=True),
            torch.randint(n_items, (n_rows,)),
        )
        ways = [
            (loss, states, table, targets, weights)
            for weights in (None, torch.rand(n_rows))
            for loss in (catalogue_softmax, by_torch)
        ]
        turns = [[milliseconds(*way) for way in ways] for _ in range(11)]
        cells = []
        for way, times in zip(ways, zip(*turns[1:], strict=True), strict=True):
            with multiprocessing.get_context("fork").Pool(1) as alone:
                cells.append(f"{statistics.median(times):.0f} ms, {alone.apply(peak, way):.0f} MB")
        print(f"| {n_items:,} | {width} | {n_rows:,} | {' | '.join(cells)} |", flush=True)

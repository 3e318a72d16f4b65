"""Item vectors in 4 bits, rounded so that the scores which decide who is listed stay.

GPTQ (Frantar et al. 2022, algorithm 1) gives what rounding took from one value of a vector back to
the next ones, as far as the states that it is multiplied with go together in both. Here every
item has its own such states, those in whose lists it may come: they lie closer together than all
states, so more can be given back. The rest moves only scores that are far from any list.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 32
"""Values that share a scale, where the width is a multiple of it; else all of a vector do."""
CODES = (-8, 7)
"""The lowest and the highest code of 4 bits."""
_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Shares of its largest value that may become the largest code of a block: of few codes, none
should be kept for one far value."""
_FEW_CODES = 7  # at most, for these shares to be worth trying
_NOTHING = 1e-30  # where float32 ends, a scale would become 0
_N_NEAR = 50  # best items of a state, whose scores count
_EVERYBODY = 2.5  # weight of all states beside one that an item is near to
_DAMPING = 0.01  # of the mean variance, as in the paper
_SWEEPS = 2  # a third one moves 1 code in 400
_UNIT = 1e-4  # by so much a length may differ from 1
_ROWS = 512  # vectors that are rounded at once
_MOST_SCORES = 1 << 24  # that are compared at once


def round_table(table: Tensor, states: Tensor) -> Tensor:
    """The nearest table (N + 1, D) that 4 bits can hold, for states (n, D) of real histories.

    Where all vectors of `table` have the length 1, those of the result have it, too. The largest
    value of a block keeps the code that it has by itself, so whoever rounds the result again with
    the `scales_of` such a block finds the same codes.
    """
    n_rows, dim = table.shape
    is_unit = bool(((table.norm(dim=1) - 1).abs() < _UNIT).all())
    block = BLOCK if dim % BLOCK == 0 else dim
    item_of, state_of = _near(table, states)
    everywhere = (states.T @ states).double() / len(states)  # (D, D)
    rounded = torch.empty_like(table)
    for start in range(0, n_rows, _ROWS):
        rows = slice(start, min(start + _ROWS, n_rows))
        bounds = np.searchsorted(item_of, np.arange(rows.start, rows.stop + 1))
        moments = everywhere.expand(rows.stop - rows.start, dim, dim) * _EVERYBODY
        for row, (first, stop) in enumerate(itertools.pairwise(bounds)):
            own = states[state_of[first:stop]]
            moments[row] += (own.T @ own).double()
            moments[row] /= stop - first + _EVERYBODY
        ridge = _DAMPING * moments.diagonal(dim1=1, dim2=2).mean(dim=1) + 1e-12  # (R,)
        values = table[rows].double()
        if is_unit:  # an error along the vector itself is undone when its length is made 1
            across = torch.eye(dim).double() - values[:, :, None] * values[:, None, :]
            moments = across @ moments @ across
        moments += ridge[:, None, None] * torch.eye(dim)
        rounded[rows] = _round(values, moments, block).float()
    return F.normalize(rounded, dim=1) if is_unit else rounded


def scales_of(blocks: Tensor, lowest: int, highest: int) -> Tensor:
    """Scales (R, C / block, 1) of blocks (R, C / block, block): those that lose least.

    Where there are more codes below 0 than above, the largest value of a block is to get the
    lowest, so its scale may be negative.
    """
    far = blocks.gather(2, blocks.abs().argmax(dim=2, keepdim=True))
    whole = far / lowest if -lowest > highest else far.abs() / highest
    # A block of nothing has no scale; any will do.
    whole = torch.where(far.abs() > _NOTHING, whole, 1.0)
    shares = [-lowest / highest] if -lowest > highest else []  # as many codes above 0 as below
    shares += _SHRUNK if highest <= _FEW_CODES else [1.0]
    best, fewest = whole, torch.full_like(whole, torch.inf)
    for share in shares if len(shares) > 1 else []:
        scales = whole * share
        codes = (blocks / scales).round().clamp(lowest, highest)
        lost = (blocks - codes * scales).square().sum(dim=2, keepdim=True)
        best, fewest = torch.where(lost < fewest, scales, best), torch.minimum(lost, fewest)
    return best


def _near(table: Tensor, states: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of an item and a state that it is near to, in the order of the items."""
    k = min(_N_NEAR, len(table) - 1)
    parts = torch.split(states, max(1, _MOST_SCORES // len(table)))
    best = [(part @ table[1:].T).topk(k).indices + 1 for part in parts]
    items = torch.cat(best).numpy().ravel()  # (n * k,)
    order = np.argsort(items, kind="stable")
    return items[order], order // k


def _round(values: Tensor, moments: Tensor, block: int) -> Tensor:
    """Rounded rows (R, D) for the second moments (R, D, D) of their states."""
    n_rows, dim = values.shape
    blocks = values.view(n_rows, -1, block)
    scales = scales_of(blocks, *CODES).expand_as(blocks).reshape(n_rows, dim)
    # The largest value of a block keeps its code, whatever it is given by others.
    largest = blocks.abs().argmax(dim=2, keepdim=True)
    pinned = torch.zeros_like(blocks, dtype=torch.bool).scatter_(2, largest, True).view_as(values)
    own = (values / scales).round().clamp(*CODES)

    def nearest(wanted: Tensor, d: int) -> Tensor:
        code = (wanted / scales[:, d]).round().clamp(*CODES)
        return torch.where(pinned[:, d], own[:, d], code)

    give_back = torch.linalg.cholesky(torch.linalg.inv(moments)).mT  # upper triangles
    rest, codes = values.clone(), torch.empty_like(values)
    for d in range(dim):
        codes[:, d] = nearest(rest[:, d], d)
        lost = (rest[:, d] - codes[:, d] * scales[:, d]) / give_back[:, d, d]
        rest[:, d:] -= lost[:, None] * give_back[:, d, d:]
    # Then each value again, when all others are known: coordinate descent on the same error.
    for _ in range(_SWEEPS):
        pull = torch.einsum("rde,re->rd", moments, codes * scales - values)  # (R, D)
        for d in range(dim):
            code = nearest(codes[:, d] * scales[:, d] - pull[:, d] / moments[:, d, d], d)
            moved = (code - codes[:, d]) * scales[:, d]
            pull += moments[:, d] * moved[:, None]
            codes[:, d] = code
    return codes * scales

"""From the item table of a trained model to that of a profile with fewer bits."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnrec.export.item_table import Codes, ItemTable, UnfoldedTable
from attnrec.export.scanned_table import (
    LARGEST_NESTED,
    RANK,
    LowRankTable,
    NestedTable,
    ScannedTable,
)
from attnrec.train.models.protocol import TableModel
from attnrec.train.run import Run

SCANNED_FROM = 100_000
"""Items of a catalogue from which on codes stay codes: see `UnfoldedTable`, `ScannedTable`."""
NESTED, LOW_RANK = "int4+4", "int8+pca32"
"""Profiles that exist for large catalogues only."""

_BITS = {"int8": 8, LOW_RANK: 8, NESTED: 8, "int4": 4}
_BLOCKS = {"int8": (64, 32, 16), LOW_RANK: (64,), NESTED: (64, 32, 16), "int4": (32, 16)}
"""Values that share a scale in a scanned table; the first that divides a vector is taken."""
_LEAST_DIM = {LOW_RANK: 3 * RANK}
"""Of shorter vectors, 32 numbers of 8 bits are not less than what other profiles read."""
_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Shares of its largest value that may become the largest code of a block: of few codes, none
should be kept for one far value."""
_NOTHING = 1e-30  # where float32 ends, a scale would become 0
_N_STATES = 20_000
_DAMPING = 0.01  # of the mean variance, as in the paper
_CHUNK = 8192  # rows that stay in the processor's cache


def check_quantizable(run: Run, profiles: Sequence[str]) -> None:
    """`ValueError` for a model without a table, or a catalogue too small for a profile."""
    if not isinstance(run.model, TableModel):
        raise ValueError(
            f"nothing to quantize: {run.config.model} has no item vectors; leave --quantize out"
        )
    for profile in {NESTED, LOW_RANK} & {*profiles}:
        if block_of(run, profile) is None:
            n_items, dim = run.split.catalogue.n_items, run.model.item_table().shape[1]
            raise ValueError(
                f"{profile} is for catalogues of {SCANNED_FROM:,} items and more, with vectors of "
                f"a multiple of {_BLOCKS[profile][-1]} values, at least "
                f"{_LEAST_DIM.get(profile, 16)}; here are {n_items:,} items of {dim}. "
                "int8 has the same quality"
            )


def block_of(run: Run, profile: str) -> int | None:
    """Values that share a scale where the table of a profile is scanned; None: it is not."""
    assert isinstance(run.model, TableModel)
    dim = run.model.item_table().shape[1]
    is_small = run.split.catalogue.n_items < SCANNED_FROM or dim < _LEAST_DIM.get(profile, 0)
    if profile not in _BLOCKS or is_small:
        return None
    return next((block for block in _BLOCKS[profile] if dim % block == 0), None)


def rounded_table(run: Run, profile: str) -> ItemTable:
    """The rounded table of a run, in the form that suits the size of its catalogue."""
    assert isinstance(run.model, TableModel)
    values: NDArray[np.float32] = run.model.item_table().detach().numpy()
    states = _training_states(run, run.model)
    dim, bits, block = values.shape[1], _BITS[profile], block_of(run, profile)
    if profile == NESTED:
        assert block is not None
        return NestedTable(quantize(values, states, block, bits, LARGEST_NESTED))
    if block is not None:
        codes = quantize(values, states, block, bits)
        return (
            LowRankTable(codes, *low_rank(values, states))
            if profile == LOW_RANK
            else (ScannedTable(codes))
        )
    block = 32 if bits < 8 and dim % 32 == 0 else dim
    return UnfoldedTable(quantize(values, states, block, bits))


def quantize(
    values: NDArray[np.float32],
    states: NDArray[np.float32],
    block: int,
    bits: int = 8,
    largest_code: int | None = None,
) -> Codes:
    """Round a table (N + 1, D), one scale for `block` values, to be multiplied with `states`.

    largest_code: None for the largest of the bits.
    GPTQ (Frantar et al. 2022, algorithm 1): column by column, and what rounding took from one
    column is given back by the next ones, as far as the states of real histories (n, D) go
    together in both. So the scores of such states move about half as much as if every value were
    rounded to the nearest code, and the codes take no more room.
    """
    n_rows, dim = values.shape
    largest_code = largest_code or largest_code_of(bits)
    scales = scales_of(values.reshape(n_rows, -1, block), largest_code)
    give_back = np.linalg.cholesky(np.linalg.inv(_together(states))).T  # (D, D), upper triangle
    codes = np.empty((n_rows, dim), dtype=np.int8)
    for start in range(0, n_rows, _CHUNK):  # rows do not depend on each other
        chunk = slice(start, start + _CHUNK)
        rest = values[chunk].astype(np.float64)
        for d in range(dim):
            scale = scales[chunk, d // block, 0]
            code = np.clip(np.rint(rest[:, d] / scale), -largest_code, largest_code)
            lost = (rest[:, d] - code * scale) / give_back[d, d]
            rest[:, d:] -= np.outer(lost, give_back[d, d:])
            codes[chunk, d] = code
    return Codes(codes.reshape(n_rows, -1, block), scales, bits)


def low_rank(
    values: NDArray[np.float32], states: NDArray[np.float32]
) -> tuple[NDArray[np.float32], Codes]:
    """What to multiply a state with, (D, 32), and items (N + 1, 32): nearly the same scores.

    The 32 directions in which the scores of such states (n, D) differ most: a principal component
    analysis of the table (N + 1, D), weighed by how the states are spread.
    """
    spread = _together(states)  # (D, D)
    lengths, axes = np.linalg.eigh(spread)
    half = axes * np.sqrt(lengths) @ axes.T
    weighed = values @ half  # (N + 1, D)
    _, directions = np.linalg.eigh(weighed.T @ weighed)
    kept = directions[:, -RANK:]  # (D, 32)
    projection = (np.linalg.inv(half) @ kept).astype(np.float32)
    projected = (weighed @ kept).astype(np.float32)
    no_states = np.empty((0, RANK), dtype=np.float32)
    return projection, quantize(projected, no_states, RANK)


def _together(states: NDArray[np.float32]) -> NDArray[np.float64]:
    """How the values of states (n, D) go together, (D, D), never singular."""
    dim = states.shape[1]
    together: NDArray[np.float64] = states.T.astype(np.float64) @ states
    together += (_DAMPING * together.trace() / dim + 1e-12) * np.eye(dim)
    return together


def largest_code_of(bits: int) -> int:
    """127 or 7: the same on both sides of 0."""
    return int(2 ** (bits - 1) - 1)


def scales_of(blocks: NDArray[np.float32], largest_code: int) -> NDArray[np.float32]:
    """Scales (R, C / block, 1) of blocks (R, C / block, block): those that lose least."""
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    # A block of nothing has no scale; any will do.
    whole = np.where(largest > _NOTHING, largest / largest_code, 1).astype(np.float32)
    if largest_code > 7:
        return whole
    best, least = whole, np.full(whole.shape, np.inf)
    for share in _SHRUNK:
        scales = whole * np.float32(share)
        codes = np.clip(np.rint(blocks / scales), -largest_code, largest_code)
        lost = np.square(blocks - codes * scales).sum(axis=2, keepdims=True)
        best, least = np.where(lost < least, scales, best), np.minimum(lost, least)
    return best


def _training_states(run: Run, model: TableModel) -> NDArray[np.float32]:
    """States (n, D) after some of the training events, of users of every length."""
    batches = model.batches(run.split, batch_events=800)
    table = model.item_table()
    states: list[Tensor] = []
    with torch.inference_mode():
        for batch in batches.epoch(np.random.default_rng(0)):
            rows = batch.history_index
            vectors = torch.nn.functional.embedding(rows, table)  # (B, T, D)
            found = model.states(vectors, rows > 0, **batch.context(model.inputs))
            states.append(found[batch.targets > 0])
            if sum(map(len, states)) >= _N_STATES:
                break
    together: NDArray[np.float32] = torch.cat(states).numpy()
    return together

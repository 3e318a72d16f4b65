"""From the item table of a trained model to that of a profile with fewer bits."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnrec.export.graph.item_table import Codes, ItemTable, UnfoldedTable
from attnrec.export.graph.scanned_table import NESTED_CODES, NestedTable, ScannedTable
from attnrec.export.refusals import NESTED
from attnrec.train.models.base import TableModel
from attnrec.train.runs.run import Run

SCANNED_FROM = 100_000
"""Items of a catalogue from which on codes stay codes: see `UnfoldedTable`, `ScannedTable`."""

_BITS = {"int8": 8, NESTED: 8, "int4": 4}
_BLOCKS = {"int8": (64, 32, 16), NESTED: (64, 32, 16), "int4": (32, 16)}
"""Values that share a scale in a scanned table; the first that divides a vector is taken."""
_N_STATES = 20_000
_DAMPING = 0.01  # of the mean variance, as in the paper
_SWEEPS = 2  # a third one moves few codes
_CHUNK = 1024  # rows that fit the processor's cache
_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Shares of the largest value of a block that may become its largest code: with few codes, an
outlier should not decide the scale."""
_FEW_CODES = 7  # at most, for these shares to be worth trying
_NOTHING = 1e-30  # where float32 ends, a scale would become 0


def check_quantizable(run: Run, profiles: Sequence[str]) -> None:
    """`ValueError` for a model without a table, or a catalogue too small for a profile."""
    if not isinstance(run.model, TableModel):
        raise ValueError(
            f"nothing to quantize: {run.config.model} has no item vectors; its one profile is fp32"
        )
    if NESTED in profiles and block_of(run, NESTED) is None:
        n_items, dim = run.split.catalogue.n_items, run.model.item_table().shape[1]
        raise ValueError(
            f"{NESTED} is for catalogues of {SCANNED_FROM:,} items and more, with vectors of "
            f"a multiple of {_BLOCKS[NESTED][-1]} values; here are {n_items:,} items of {dim}. "
            "int8 has the same quality"
        )


def block_of(run: Run, profile: str) -> int | None:
    """Values that share a scale where the table of a profile is scanned; None: it is not."""
    assert isinstance(run.model, TableModel)
    dim = run.model.item_table().shape[1]
    if profile not in _BLOCKS or run.split.catalogue.n_items < SCANNED_FROM:
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
        return NestedTable(quantize(values, states, block, bits, NESTED_CODES))
    if block is not None:
        return ScannedTable(quantize(values, states, block, bits))
    block = 32 if bits < 8 and dim % 32 == 0 else dim
    return UnfoldedTable(quantize(values, states, block, bits))


def quantize(
    values: NDArray[np.float32],
    states: NDArray[np.float32],
    block: int,
    bits: int = 8,
    between: tuple[int, int] | None = None,
) -> Codes:
    """Round a table (N + 1, D), one scale for `block` values, to be multiplied with `states`.

    between: the lowest and the highest code; None for those of the bits.
    GPTQ (Frantar et al. 2022, algorithm 1): column by column; the rounding error of one column is
    compensated in the next ones, by the covariance of the states of real histories (n, D). Then
    coordinate descent on the same error. The scores of such states move about a third as much as
    with every value rounded to the nearest code, and the codes take no more room.
    """
    n_rows, dim = values.shape
    between = between or codes_of(bits)
    scales = scales_of(values.reshape(n_rows, -1, block), *between)
    together = _together(states)
    give_back = np.linalg.cholesky(np.linalg.inv(together)).T  # (D, D), upper triangle
    codes = np.empty((n_rows, dim), dtype=np.int8 if between[0] >= -128 else np.int16)
    for start in range(0, n_rows, _CHUNK):  # rows do not depend on each other
        chunk = slice(start, start + _CHUNK)
        each = np.repeat(scales[chunk, :, 0], block, axis=1)  # (R, D)
        codes[chunk] = _swept(
            _given_back(values[chunk], each, give_back, between),
            values[chunk], each, together.astype(np.float32), between,
        )  # fmt: skip
    return Codes(codes.reshape(n_rows, -1, block), scales, bits)


def _given_back(
    values: NDArray[np.float32],
    scales: NDArray[np.float32],
    give_back: NDArray[np.float64],
    between: tuple[int, int],
) -> NDArray[np.float32]:
    """Codes (R, D) of values and scales (R, D); later columns compensate the error of each."""
    rest, codes = values.astype(np.float64), np.empty_like(values)
    for d in range(values.shape[1]):
        codes[:, d] = np.clip(np.rint(rest[:, d] / scales[:, d]), *between)
        lost = (rest[:, d] - codes[:, d] * scales[:, d]) / give_back[d, d]
        rest[:, d:] -= np.outer(lost, give_back[d, d:])
    return codes


def _swept(
    codes: NDArray[np.float32],
    values: NDArray[np.float32],
    scales: NDArray[np.float32],
    together: NDArray[np.float32],
    between: tuple[int, int],
) -> NDArray[np.float32]:
    """Codes (R, D), each the best one given the others of its row."""
    pull = (codes * scales - values) @ together  # (R, D), half the slope of the error
    for _ in range(_SWEEPS):
        for d in range(values.shape[1]):
            ideal = codes[:, d] - pull[:, d] / (together[d, d] * scales[:, d])
            better = np.clip(np.rint(ideal), *between)
            pull += np.outer((better - codes[:, d]) * scales[:, d], together[d])
            codes[:, d] = better
    return codes


def _together(states: NDArray[np.float32]) -> NDArray[np.float64]:
    """Second moments (D, D) of states (n, D), damped so that they are never singular."""
    dim = states.shape[1]
    together: NDArray[np.float64] = states.T.astype(np.float64) @ states
    together += (_DAMPING * together.trace() / dim + 1e-12) * np.eye(dim)
    return together


def codes_of(bits: int) -> tuple[int, int]:
    """Lowest and highest code: -127 and 127, or -8 and 7, where one code more is much."""
    return (-127, 127) if bits == 8 else (-8, 7)


def scales_of(values: NDArray[np.float32], lowest: int, highest: int) -> NDArray[np.float32]:
    """Scales (R, C / block, 1) of blocks (R, C / block, block) with the least squared error.

    With more codes below 0 than above, the largest value of a block gets the lowest code, so the
    scale may be negative.
    """
    blocks = torch.from_numpy(values)
    far = blocks.gather(2, blocks.abs().argmax(dim=2, keepdim=True))
    whole = far / lowest if -lowest > highest else far.abs() / highest
    # For a block of zeros any scale will do.
    whole = torch.where(far.abs() > _NOTHING, whole, 1.0)
    shares = [-lowest / highest] if -lowest > highest else []  # as many codes above 0 as below
    shares += _SHRUNK if highest <= _FEW_CODES else [1.0]
    best, fewest = whole, torch.full_like(whole, torch.inf)
    for share in shares if len(shares) > 1 else []:
        scales = whole * share
        codes = (blocks / scales).round().clamp(lowest, highest)
        lost = (blocks - codes * scales).square().sum(dim=2, keepdim=True)
        best, fewest = torch.where(lost < fewest, scales, best), torch.minimum(lost, fewest)
    found: NDArray[np.float32] = best.numpy()
    return found


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

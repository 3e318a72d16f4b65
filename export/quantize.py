"""From the item table of a trained model to the table of the profile `int8`."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnrec.export.item_table import BlockTable, Codes, UnfoldedTable
from attnrec.train.models.protocol import TableModel
from attnrec.train.run import Run

BLOCKS_FROM = 100_000
"""Items of a catalogue from which on codes stay codes: see `UnfoldedTable`, `BlockTable`."""

_BLOCK = 16
"""Values that share a scale where states are rounded, too. Of what onnxruntime takes the smallest:
with 64, lists change twice as much."""
_LARGEST_CODE = 127
_NOTHING = 1e-30  # where float32 ends, a scale would become 0
_N_STATES = 20_000
_DAMPING = 0.01  # of the mean variance, as in the paper
_CHUNK = 8192  # rows that stay in the processor's cache


def check_quantizable(run: Run) -> None:
    """`ValueError` for a model without a table."""
    if not isinstance(run.model, TableModel):
        raise ValueError(
            f"nothing to quantize: {run.config.model} has no item vectors; leave --quantize out"
        )


def int8_table(run: Run) -> UnfoldedTable | BlockTable:
    """The rounded table of a run, in the form that suits the size of its catalogue."""
    assert isinstance(run.model, TableModel)
    values: NDArray[np.float32] = run.model.item_table().detach().numpy()
    states = _training_states(run, run.model)
    dim = values.shape[1]
    if run.split.catalogue.n_items >= BLOCKS_FROM and dim % _BLOCK == 0:
        return BlockTable(quantize(values, states, _BLOCK))
    return UnfoldedTable(quantize(values, states, dim))


def quantize(values: NDArray[np.float32], states: NDArray[np.float32], block: int) -> Codes:
    """Round a table (N + 1, D), one scale for `block` values, to be multiplied with `states`.

    GPTQ (Frantar et al. 2022, algorithm 1): column by column, and what rounding took from one
    column is given back by the next ones, as far as the states of real histories (n, D) go
    together in both. So the scores of such states move about half as much as if every value were
    rounded to the nearest code, and the codes take no more room.
    """
    n_rows, dim = values.shape
    largest = np.abs(values.reshape(n_rows, -1, block)).max(axis=2, keepdims=True)
    # A block of nothing has no scale; any will do.
    scales = np.where(largest > _NOTHING, largest / _LARGEST_CODE, 1).astype(np.float32)
    together = states.T.astype(np.float64) @ states  # (D, D)
    together += (_DAMPING * together.trace() / dim + 1e-12) * np.eye(dim)
    give_back = np.linalg.cholesky(np.linalg.inv(together)).T  # (D, D), upper triangle
    codes = np.empty((n_rows, dim), dtype=np.int8)
    for start in range(0, n_rows, _CHUNK):  # rows do not depend on each other
        chunk = slice(start, start + _CHUNK)
        rest = values[chunk].astype(np.float64)
        for d in range(dim):
            scale = scales[chunk, d // block, 0]
            code = np.clip(np.rint(rest[:, d] / scale), -_LARGEST_CODE, _LARGEST_CODE)
            lost = (rest[:, d] - code * scale) / give_back[d, d]
            rest[:, d:] -= np.outer(lost, give_back[d, d:])
            codes[chunk, d] = code
    return Codes(codes.reshape(n_rows, -1, block), scales)


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

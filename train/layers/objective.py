"""Which loss a table model descends, as settings: the functions themselves are in `losses`."""

import torch
from torch import Tensor

from attnrec.train.layers.loss_config import LossConfig
from attnrec.train.layers.losses import (
    catalogue_softmax,
    generalized_binary_cross_entropy,
    sampled_softmax,
)


def loss_of(
    config: LossConfig,
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """A scalar: states (M, D), vectors of the items (N, D), true rows (M,), weights (M,).

    Negatives are shared by the batch, each of another item, all items equally likely. Torch's own
    random numbers decide.
    """
    if config.loss == "softmax":
        return catalogue_softmax(states, table, targets, weights)
    negatives = torch.randperm(len(table), device=table.device)[: config.n_negatives]  # (K,)
    if config.loss == "sampled-softmax":
        return sampled_softmax(states, table, targets, negatives, weights)
    return generalized_binary_cross_entropy(
        states, table, targets, negatives, weights, calibration=config.calibration
    )

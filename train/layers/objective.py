"""Which loss a table model descends, as settings: the functions themselves are in `losses`."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnrec.train.layers.loss_config import LossConfig
from attnrec.train.layers.losses import (
    binary_cross_entropy,
    catalogue_softmax,
    generalized_binary_cross_entropy,
    sampled_softmax,
)
from attnrec.train.layers.negatives import SharedNegatives


class Objective:
    """The loss of a configuration on a catalogue."""

    def __init__(self, config: LossConfig, n_events: NDArray[np.integer]) -> None:
        """n_events: training events of each item (N,)."""
        self._config = config
        self._n_items = len(n_events)
        n_negatives = min(config.n_negatives, self._n_items)
        self._negatives = SharedNegatives(n_negatives, n_events, config.negative_power)

    def __call__(
        self, states: Tensor, table: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """A scalar: states (M, D), vectors of the items (N, D), true rows (M,), weights (M,).

        Torch's own random numbers decide about the negatives.
        """
        config = self._config
        if config.loss == "softmax":
            return catalogue_softmax(
                states, table, targets, weights, label_smoothing=config.label_smoothing
            )
        self._negatives.to(states.device)
        negatives = self._negatives.draw()
        if config.loss == "sampled-softmax":
            log_counts = self._negatives.log_expected_counts
            return sampled_softmax(states, table, targets, negatives, log_counts, weights)
        if config.loss == "bce":
            return binary_cross_entropy(states, table, targets, negatives, weights)
        return generalized_binary_cross_entropy(
            states,
            table,
            targets,
            negatives,
            weights,
            n_items=self._n_items,
            calibration=config.calibration,
        )

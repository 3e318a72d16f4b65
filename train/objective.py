"""Which loss a table model descends, as settings: the functions themselves are in `losses`."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attnrec.train.checks import check_choice, check_number, check_whole
from attnrec.train.losses import (
    binary_cross_entropy,
    catalogue_softmax,
    generalized_binary_cross_entropy,
    sampled_softmax,
)
from attnrec.train.negatives import SharedNegatives

Loss = Literal["softmax", "sampled-softmax", "bce", "gbce"]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The settings that models with an item table have in common."""

    loss: Loss = "softmax"
    """The training loss: softmax over the whole catalogue or over a sample of it, or binary
    cross-entropy on sampled items."""
    label_smoothing: float = 0.0
    """Of softmax: share of each target that is spread evenly over the catalogue."""
    n_negatives: int = 512
    """Of the other losses: sampled items that a batch is compared with, K; at most all items."""
    negative_power: float = 0.0
    """Of the other losses: items are sampled by their events to this power; 0: evenly."""
    calibration: float = 0.75
    """Of gbce: 0 leaves the overconfidence that sampling causes, 1 removes it."""

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, get_args(Loss))
        check_whole("n_negatives", self.n_negatives)
        check_number("negative_power", self.negative_power, lowest=0, below=10)
        check_number("label_smoothing", self.label_smoothing, lowest=0, below=1)
        check_number("calibration", self.calibration, lowest=0)
        if self.calibration > 1:
            raise ValueError(f"calibration must be from 0 to 1, not {self.calibration}")


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

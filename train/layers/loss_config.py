"""Settings of the training loss, apart from it: commands read these without torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from attnrec.train.checks import check_choice, check_number, check_size

Loss = Literal["softmax", "sampled-softmax", "gbce"]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The settings that models with an item table have in common."""

    loss: Loss = "softmax"
    """The training loss: softmax over the whole catalogue or over a sample of it, or binary
    cross-entropy on sampled items."""
    n_negatives: int = 512
    """Of the other losses: sampled items that a batch is compared with, K; at most all items."""
    calibration: float = 0.75
    """Of gbce: 0 leaves the overconfidence that sampling causes, as plain binary cross-entropy
    does, 1 removes it."""

    @property
    def samples_items(self) -> bool:
        """Whether a step reads only some items: then their table has sparse gradients."""
        return self.loss != "softmax"

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, get_args(Loss))
        check_size("n_negatives", self.n_negatives)
        check_number("calibration", self.calibration, lowest=0)
        if self.calibration > 1:
            raise ValueError(f"`calibration` must be from 0 to 1, not {self.calibration}")

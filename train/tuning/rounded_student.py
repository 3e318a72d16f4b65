"""A model whose item vectors are rounded, in training to answer as the exact one does.

The vectors stay as they were rounded (`rounding`): pushed through the rounding (a straight-through
estimator), they lose more than they learn (docs/smaller-models.md). What learns is the network
around them, which sees rounded vectors and is scored against them.
"""

import torch
from torch import Tensor
from torch.nn import Parameter

from attnrec.train.data.batches import Batch, Batches
from attnrec.train.data.split import Split
from attnrec.train.layers.loss_config import LossConfig
from attnrec.train.layers.objective import Objective
from attnrec.train.models.base import LearnedModel, TableModel

TARGETS = 0.15
"""A student that only resembles its teacher is a little worse; one that only learns the targets
answers differently. So much of them makes up for what rounding costs."""
_EQUAL = 1e-5  # vectors


class RoundedStudent(LearnedModel):
    """Distillation (Hinton et al. 2015) of the scores, by the exact model, from its states."""

    def __init__(self, teacher: TableModel, student: TableModel, targets: float = TARGETS) -> None:
        """teacher: the exact model; student: a copy of it with rounded vectors. Both are used.

        targets: weight of the loss that the exact model was trained with.
        """
        super().__init__()
        self._targets = targets
        self.config = student.config
        self.teacher = teacher.requires_grad_(False)
        self.student = student
        table_parameter(student).requires_grad_(False)
        with torch.no_grad():
            items = student.item_table()[1:]  # (N, D)
            together = items.T @ items / len(items)  # (D, D)
        self.register_buffer("_together", together, persistent=False)
        self._together: Tensor

    @property
    def inputs(self) -> tuple[str, ...]:
        """Those of the model."""
        return self.student.inputs

    def train(self, mode: bool = True) -> "RoundedStudent":
        """Without dropout: it would be noise in what is to be reproduced."""
        super().train(False)
        return self

    def prepare(self, split: Split) -> None:
        """The loss of the settings. What the model has counted stays as it is."""
        config = self.student.config
        if isinstance(config, LossConfig):
            self.student.objective = Objective(config, split.catalogue.n_events)

    def batches(self, split: Split, batch_events: int) -> Batches:
        """Those of the model."""
        return self.student.batches(split, batch_events)

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean squared difference of the scores that two states give, plus a share of the loss."""
        with torch.no_grad():
            wanted = self.teacher.asked_states(batch, self.teacher.item_table())
        table = self.student.item_table()
        states = self.student.asked_states(batch, table)  # (M, D)
        moved = states - wanted
        difference = (moved @ self._together * moved).sum(dim=1).mean()
        return difference + self._targets * self.student.loss_of(states, table, batch)


def table_parameter(model: TableModel) -> Parameter:
    """The parameter that the item vectors are made of, (N + 1, D).

    `ValueError` for a model that makes them of several, or of none.
    """
    shape = model.item_table().shape
    found = [p for p in model.parameters() if p.shape == shape]
    if len(found) != 1:
        raise ValueError(
            f"the item vectors of {type(model).__name__} are not one parameter: {len(found)} are "
            f"of their shape {tuple(shape)}, so they cannot be rounded in training; "
            "attnrec-export --quantize rounds them without"
        )
    return found[0]


def set_table(model: TableModel, table: Tensor) -> None:
    """Make `table` (N + 1, D) the item vectors.

    `ValueError` for a model that makes others of it.
    """
    with torch.no_grad():
        table_parameter(model).copy_(table)
        if not torch.allclose(model.item_table(), table, atol=_EQUAL):
            raise ValueError(
                f"the item vectors of {type(model).__name__} are not its parameter, nor that with "
                "vectors of length 1, so they cannot be rounded in training; attnrec-export "
                "--quantize rounds them without"
            )

"""How models are set that count instead of learning."""

from collections.abc import Callable

from attnrec.train.data.split import Split
from attnrec.train.models.base import CountModel


def fit_by_counting(model: CountModel, split: Split, validate: Callable[[], float] | None) -> None:
    """Set `model` in place in one pass and leave it in eval mode.

    validate: NDCG@10 of the model as it is now, to choose what its configuration left open; None
    for a final run, whose configuration is the one that was chosen.
    """
    model.fit(split)
    model.eval()
    if validate is not None:
        model.tune(validate)

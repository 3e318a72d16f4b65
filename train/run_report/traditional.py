"""What a trained model has to beat: traditional models, asked the same validation questions."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.errors import AttnrecError
from attnrec.train.config import TrainConfig
from attnrec.train.counting import fit_by_counting
from attnrec.train.evaluation import Ranking, bootstrap_intervals, metrics_of, user_gains
from attnrec.train.models import FAMILY, MODELS
from attnrec.train.models.protocol import CountModel
from attnrec.train.slices import Masks, slice_figures
from attnrec.train.validation import Validation

logger = logging.getLogger(__name__)

TRADITIONAL = ("popularity", "item-knn-fading", "ease-fading", "markov-chain")
"""Names in the family. None learns by gradient, and seconds are enough for them."""
_MOST_GB = 2.0  # for the matrices of EASE: they shall not take longer than the training


@dataclass(frozen=True)
class Contender:
    """A model that answered the validation questions, or the reason why it could not."""

    name: str
    """Name in the family."""
    ranking: Ranking | None
    """Where the targets stand in its lists."""
    seconds: float
    """What fitting it took, the choice of its settings included."""
    reason: str | None = None
    """Why there is no ranking."""


def beside(config: TrainConfig) -> list[str]:
    """The traditional models, without the one that was trained itself."""
    return [name for name in TRADITIONAL if FAMILY[name] != (config.model, dict(config.settings))]


def fit_traditional(name: str, validation: Validation) -> Contender:
    """Fit a model of the family on the training events and ask it for the validation events.

    Like the trained model, it chooses on these events what it leaves open.
    """
    kind, settings = FAMILY[name]
    if kind == "ease":
        settings = {**settings, "most_gb": _MOST_GB}
    config = TrainConfig(kind, settings)
    started = time.monotonic()
    try:
        model = MODELS[kind].model(config.model_config(**validation.split.sizes()))
        assert isinstance(model, CountModel)
        fit_by_counting(model, validation.split, lambda: validation.metrics(model))
        seconds = time.monotonic() - started
        return Contender(name, validation.ranking(model), seconds)
    # The last two are how numpy and torch say that memory is not enough. A report may lack a
    # row; it must not cost the training.
    except (AttnrecError, ValueError, MemoryError, RuntimeError) as error:
        logger.warning("%s is not in the report: %s", name, error)
        return Contender(name, None, time.monotonic() - started, str(error) or repr(error))


def contender_figures(
    contender: Contender, own: Ranking, validation: Validation, masks: Masks
) -> dict[str, Any]:
    """Its figures for JSON, with the paired difference to the `own` ranking of the run."""
    if contender.ranking is None:
        return {"model": contender.name, "reason": contender.reason}
    difference = _ndcg(contender.ranking, validation) - _ndcg(own, validation)
    low, high = bootstrap_intervals({"difference": difference})["difference"]
    return {
        "model": contender.name,
        **ranking_figures(contender.ranking, validation, masks),
        "ndcg@10_to_run": round(float(difference.mean()), 6),
        "ndcg@10_to_run_interval": [round(low, 6), round(high, 6)],
    }


def ranking_figures(ranking: Ranking, validation: Validation, masks: Masks) -> dict[str, Any]:
    """All metrics with their intervals, over everybody and in slices."""
    questions, catalogue = validation.questions, validation.split.catalogue
    slices = slice_figures(ranking.ranks, questions, masks)
    return {
        **metrics_of(ranking, questions, catalogue.item_ids).to_json(),
        "slices": slices,
    }


def best_of(models: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The best by NDCG@10 of those that could be fitted."""
    fitted = [model for model in models if "reason" not in model]
    return max(fitted, key=lambda model: float(model["ndcg@10"]), default=None)


def _ndcg(ranking: Ranking, validation: Validation) -> NDArray[np.float64]:
    """NDCG@10 of each user (n_users,)."""
    questions = validation.questions
    n_targets = None if questions.offsets is None else questions.n_targets()
    return user_gains(ranking.ranks, n_targets)["ndcg@10"]

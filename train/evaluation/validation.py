"""The questions that a training asks of its model, and how it asks them. None is of the test."""

import numpy as np
from numpy.typing import NDArray

from attnrec.train.data.held_out import HeldOut
from attnrec.train.data.split import Split
from attnrec.train.evaluation.metrics import (
    Intervals,
    Metrics,
    Ranking,
    metrics_of,
    normal_intervals,
    rank_targets,
    user_gains,
)
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.models.base import RecommenderModel

# Users who are asked after every epoch for what was trained on: 2 % of the training of sasrec on
# the embedded log. Small logs have short epochs.
_MOST_SEEN, _LEAST_SEEN, _EVENTS_PER_SEEN = 1000, 100, 250
_MOST_CHOOSING = 5000  # users who choose what a trained model left open, in dozens of questions


class Validation:
    """The validation events of a split, and some of those that were trained on."""

    def __init__(self, split: Split, *, repeats: bool) -> None:
        """repeats: whether an item of the history may be recommended again."""
        self.split = split
        self.questions = split.held_out("valid")
        self.repeats = repeats
        n_seen = max(_LEAST_SEEN, len(split.sequences.rows) // _EVENTS_PER_SEEN)
        self._seen = split.seen(min(_MOST_SEEN, n_seen))
        self._choosing = split.held_out("valid", _MOST_CHOOSING)

    def ranking(self, model: RecommenderModel) -> Ranking:
        """Where the validation targets stand, by the model as it is now."""
        return self._rank(model, self.questions)

    def metrics(self, ranking: Ranking, intervals: Intervals | None = None) -> Metrics:
        """The figures of such a ranking; intervals as for `metrics_of`."""
        return metrics_of(ranking, self.questions, self.split.catalogue.item_ids, intervals)

    def epoch_metrics(self, model: RecommenderModel) -> Metrics:
        """Figures after an epoch, without the work for a bootstrap."""
        return self.metrics(self.ranking(model), normal_intervals)

    def ndcg(self, model: RecommenderModel) -> float:
        """NDCG@10 alone, without the work for intervals."""
        return float(ndcg_of_users(self.ranking(model), self.questions).mean())

    def choosing_ndcg(self, model: RecommenderModel) -> float:
        """The same of at most 5,000 users, for choices that ask again and again."""
        ranking = self._rank(model, self._choosing)
        return float(ndcg_of_users(ranking, self._choosing).mean())

    def seen_ndcg(self, model: RecommenderModel) -> float | None:
        """NDCG@10 on answers that were trained on; None where nobody has two such events."""
        if not self._seen.histories:
            return None
        ranking = self._rank(model, self._seen)
        return round(float(ndcg_of_users(ranking, self._seen).mean()), 6)

    def reference(self, model: RecommenderModel) -> TorchRecommender:
        """Who answers for a model."""
        return TorchRecommender(model, self.split.catalogue, users=self.split.users)

    def _rank(self, model: RecommenderModel, questions: HeldOut) -> Ranking:
        return rank_targets(
            self.reference(model),
            questions,
            exclude_seen=not self.repeats,
            inputs=model.inputs,
        )


def ndcg_of_users(ranking: Ranking, questions: HeldOut) -> NDArray[np.float64]:
    """NDCG@10 of each user (n_users,)."""
    n_targets = None if questions.offsets is None else questions.n_targets()
    return user_gains(ranking.ranks, n_targets)["ndcg@10"]

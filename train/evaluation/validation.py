"""Validation of a model during its training. The test events are not used."""

import time

import numpy as np
from numpy.typing import NDArray

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
from attnrec.train.splits.held_out import HeldOut
from attnrec.train.splits.split import Split

# Users of the measurement on trained events, after every epoch: 2 % of the time of training sasrec
# on the embedded log. Small logs have short epochs.
_MOST_SEEN, _LEAST_SEEN, _EVENTS_PER_SEEN = 1000, 100, 250
# Users of a validation: the interval of NDCG@10 is then some 0.004 wide, and millions of users
# would take longer than their training.
_MOST_VALIDATED = 20_000
_TIMED = 256  # users whose answers tell how long all take
_MOST_OF_TIME, _LEAST_VALIDATED = 0.1, 200
_MOST_CHOOSING = 5000  # users for the choice of a setting, which validates dozens of times


class Validation:
    """The validation events of a split, and a sample of those that were trained on.

    Of more than 20,000 users, those of a sample that depends on the log alone.
    """

    def __init__(self, split: Split, *, repeats: bool) -> None:
        """repeats: whether an item of the history may be recommended again."""
        self.split = split
        self.held_out = split.held_out("valid", _MOST_VALIDATED)
        self.repeats = repeats
        n_seen = max(_LEAST_SEEN, len(split.sequences.rows) // _EVENTS_PER_SEEN)
        self._seen = split.seen(min(_MOST_SEEN, n_seen))
        self._choosing = split.held_out("valid", _MOST_CHOOSING)

    def plan(self, model: RecommenderModel, minutes: float) -> tuple[float, float]:
        """About how many seconds the checks of an epoch take, and what follows the last one.

        By the answers of `model`, in eval mode, to some users. Where a validation or all choices
        would take more than a tenth of the minutes, fewer users are asked from now on.
        """
        first, again = self._seconds_a_user(model)
        most, n_choices = _MOST_OF_TIME * 60 * minutes, max(1, model.n_choices)
        self.held_out = self._fewer(self.held_out, most / first)
        self._choosing = self._fewer(self._choosing, most / (again * n_choices))
        n_valid, n_choosing = len(self.held_out.histories), len(self._choosing.histories)
        choices = (first + again * n_choices) * n_choosing if model.n_choices else 0.0
        return first * (n_valid + len(self._seen.histories)), first * n_valid + choices

    def _seconds_a_user(self, model: RecommenderModel) -> list[float]:
        """Of an answer, and of one to somebody again, when only choices are made."""
        sample = self.split.held_out("valid", _TIMED)
        seconds = []
        with model.choosing():
            for _ in range(2):
                began = time.perf_counter()  # finer than monotonic on some systems
                self.ranking(model, sample)
                seconds.append((time.perf_counter() - began) / max(1, len(sample.histories)))
        return seconds

    def _fewer(self, held_out: HeldOut, n_users: float) -> HeldOut:
        n_users = max(_LEAST_VALIDATED, int(n_users))
        if n_users >= len(held_out.histories):
            return held_out
        return self.split.held_out("valid", n_users)

    def ranking(self, model: RecommenderModel, held_out: HeldOut | None = None) -> Ranking:
        """Ranks of the validation targets, or of other `held_out`, by the model as it is now."""
        return rank_targets(
            self.recommender(model),
            self.held_out if held_out is None else held_out,
            exclude_seen=not self.repeats,
            inputs=model.inputs,
        )

    def metrics(self, ranking: Ranking, intervals: Intervals | None = None) -> Metrics:
        """Figures of a ranking of the validation targets; intervals as for `metrics_of`."""
        return metrics_of(ranking, self.held_out, self.split.catalogue.item_ids, intervals)

    def epoch_metrics(self, model: RecommenderModel) -> Metrics:
        """Validation figures after an epoch; a bootstrap would take longer."""
        return self.metrics(self.ranking(model), normal_intervals)

    def ndcg(self, model: RecommenderModel) -> float:
        """Validation NDCG@10, by which models that count choose what their settings leave open.

        Where a sample validates, as `choosing`: a wide catalogue takes minutes.
        """
        some = self.held_out if self.held_out.sample_of is None else self._choosing
        return float(self.ndcg_of_users(model, some).mean())

    def choosing(self, model: RecommenderModel) -> "ChoosingNdcg":
        """The same for at most 5,000 users, for choices that validate many times."""
        return ChoosingNdcg(self, model, self._choosing)

    def seen_ndcg(self, model: RecommenderModel) -> float | None:
        """NDCG@10 on trained events; None where no user has two of them."""
        if not self._seen.histories:
            return None
        return round(float(self.ndcg_of_users(model, self._seen).mean()), 6)

    def recommender(self, model: RecommenderModel) -> TorchRecommender:
        """What answers by a model."""
        return TorchRecommender(model, self.split.catalogue, users=self.split.users)

    def ndcg_of_users(self, model: RecommenderModel, held_out: HeldOut) -> NDArray[np.float64]:
        """NDCG@10 of each user by a model (n_users,)."""
        return ndcg_of_users(self.ranking(model, held_out), held_out)


class ChoosingNdcg:
    """Validation NDCG@10 of a model as it is now: see `Validate` of models."""

    of_users: NDArray[np.float64]

    def __init__(self, validation: Validation, model: RecommenderModel, held_out: HeldOut) -> None:
        self._validation, self._model, self._held_out = validation, model, held_out

    def __call__(self) -> float:
        self.of_users = self._validation.ndcg_of_users(self._model, self._held_out)
        return float(self.of_users.mean())


def ndcg_of_users(ranking: Ranking, held_out: HeldOut) -> NDArray[np.float64]:
    """NDCG@10 of each user (n_users,)."""
    return user_gains(ranking.ranks, held_out.n_targets())["ndcg@10"]

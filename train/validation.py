"""The questions that a training asks of its model, and how it asks them. None is of the test."""

from attnrec.train.evaluation import Metrics, Ranking, metrics_of, rank_targets, user_gains
from attnrec.train.models.protocol import RecommenderModel
from attnrec.train.reference import Reference
from attnrec.train.split import HeldOut, Split

_MOST_SEEN = 1000  # users; they are asked after every epoch


class Validation:
    """The validation events of a split, and some of those that were trained on."""

    def __init__(self, split: Split, *, repeats: bool) -> None:
        """repeats: whether an item of the history may be recommended again."""
        self.split = split
        self.questions = split.held_out("valid")
        self.repeats = repeats
        self._seen = split.seen(_MOST_SEEN)

    def ranking(self, model: RecommenderModel) -> Ranking:
        """Where the validation targets stand, by the model as it is now."""
        return self._rank(model, self.questions)

    def metrics(self, model: RecommenderModel) -> Metrics:
        """The figures of that."""
        return metrics_of(self.ranking(model), self.questions, self.split.catalogue.item_ids)

    def seen_ndcg(self, model: RecommenderModel) -> float | None:
        """NDCG@10 on answers that were trained on; None where nobody has two such events."""
        if not self._seen.histories:
            return None
        n_targets = None if self._seen.offsets is None else self._seen.n_targets()
        gains = user_gains(self._rank(model, self._seen).ranks, n_targets)
        return round(float(gains["ndcg@10"].mean()), 6)

    def reference(self, model: RecommenderModel) -> Reference:
        """Who answers for a model."""
        return Reference(model, self.split.catalogue, users=self.split.users)

    def _rank(self, model: RecommenderModel, questions: HeldOut) -> Ranking:
        return rank_targets(
            self.reference(model),
            questions,
            exclude_seen=not self.repeats,
            inputs=model.inputs,
        )

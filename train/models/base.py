"""The two shapes of a recommender. Export, evaluation and serving know only these.

    TableModel   one vector per item, one state per history: score = item_table @ state, and
                 perhaps something that is added to it
    ScoreModel   scores of all items at once, straight from the history

and two ways to get there: a `LearnedModel` (every TableModel is one) descends a gradient, a
`CountModel` is set in one pass. Inside attnrec an item is its row in the catalogue: rows 1 to N,
with row 0 for "nothing here", which is padding and the start token in one. A history (B, T) of
rows is left-padded.

A model may need more than the history: it names these `inputs`, which reach it as keyword
arguments:

    user        (B,) row of the user, 0 for an unknown one
    user_tags   (B, A) rows of the tags of the user, 0 for none
    timestamps, request_time  (B, T) Unix seconds of the history, (B,) of the request, -1 unknown;
                both or neither
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.runtime.model_file import format as names
from attnrec.train.layers.loss_config import LossConfig
from attnrec.train.layers.losses import catalogue_softmax, draw_distinct, sampled_loss
from attnrec.train.splits.batches import Batch, Batches, SequenceBatches
from attnrec.train.splits.split import Split

Context = Mapping[str, Tensor]
"""The declared inputs of a batch, by name."""


class HistoryConfig(Protocol):
    """What every model's configuration has."""

    @property
    def n_items(self) -> int:
        """Items in the catalogue, N."""

    @property
    def max_len(self) -> int:
        """Newest events of a history that count."""


class RecommenderModel(nn.Module):
    """What both shapes have."""

    config: HistoryConfig
    reasons: Mapping[str, str] = MappingProxyType({})
    """Why the settings that `tune` chose have their values, by name."""
    chosen_before: Mapping[str, Any] = MappingProxyType({})
    """What the run that it began from has chosen, by name: `tune` looks near it."""

    @property
    def n_choices(self) -> int:
        """How often `tune` will validate at most; `max_minutes` leaves time for it."""
        return 0

    def choosing(self) -> AbstractContextManager[None]:
        """For a block that only validates: what no choice changes may be computed once."""
        return nullcontext()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs beside the history, in the order of the table above."""
        return ()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        tensors = [*self.parameters(), *self.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    def tune(self, validate: Callable[[], float]) -> None:
        """Choose what the configuration left open, by validation NDCG@10. Nothing by default."""


def check_inputs(model: RecommenderModel, split: Split) -> None:
    """`ValueError` for inputs that cannot be fed: unknown, half of the times, tags of no user.

    Before a training, because the first validation or the export would fail without them.
    """
    declared, kind = {*model.inputs}, type(model).__name__
    unknown = [name for name in model.inputs if name not in names.CALLER_INPUTS]
    if unknown:
        raise ValueError(
            f"{kind} names the input {unknown[0]!r}; there are: {', '.join(names.CALLER_INPUTS)}"
        )
    times = {names.TIMESTAMPS, names.REQUEST_TIME}
    if len(declared & times) == 1:
        raise ValueError(
            f"{kind} names the input {(declared & times).pop()!r} alone: name both "
            f"{names.TIMESTAMPS!r} and {names.REQUEST_TIME!r}, or neither"
        )
    if names.USER_TAGS in declared and not split.users.tags:
        raise ValueError(
            f"{kind} looks at user_tags, and no user of this log has any: give a users table and "
            "its columns, with `users` and `tag_cols`"
        )


class LearnedModel(RecommenderModel):
    """Trained by gradient, batch by batch."""

    def prepare(self, split: Split) -> None:
        """Set what is counted, not learned, before the first step. Nothing by default."""

    @abstractmethod
    def batches(self, split: Split, batch_events: int) -> Batches:
        """What one step of training looks at."""

    @abstractmethod
    def training_loss(self, batch: Batch) -> Tensor:
        """The scalar to descend, the mean over the targets of a batch."""


class TableModel(LearnedModel):
    """One vector per item, one state per history: score = item_table @ state."""

    has_attention: ClassVar[bool] = False
    """It defines `state_and_attention`: its file gives out the weights, for explanations."""
    adds_scores: ClassVar[bool] = False
    """It defines `added_scores`: scores have another source beside the state, such as counts."""
    item_length: Tensor | None = None
    """Lengths of the rows of a table of cosines (N + 1,), where some are of items that were not
    trained; None: all 1."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        methods = {"has_attention": "state_and_attention", "adds_scores": "added_scores"}
        for flag, method in methods.items():
            if method in vars(cls) and not getattr(cls, flag):
                raise TypeError(f"{cls.__name__} defines {method}: set {flag} = True in the class")

    @abstractmethod
    def item_table(self) -> Tensor:
        """Vectors of row 0 and of every item: (N + 1, D)."""

    @abstractmethod
    def states(self, item_vectors: Tensor, known: Tensor, **context: Tensor) -> Tensor:
        """State after each event, (B, T, D): column t has seen columns 0..t.

        item_vectors: rows of the table (B, T, D), oldest first; known: bool (B, T), False at
        row 0, that is at the start token and at padding; context: the declared `inputs`.
        """

    def state(self, item_vectors: Tensor, known: Tensor, **context: Tensor) -> Tensor:
        """State after the last event, (B, D). To override where that needs less work."""
        return self.states(item_vectors, known, **context)[:, -1]

    def state_and_attention(
        self, item_vectors: Tensor, known: Tensor, **context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`state`, and the weight of each event in it, (B, T), 0 where not `known`."""
        raise NotImplementedError

    def added_scores(self, history_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, K), and what is added to their scores of the table, after a history (B, T).

        Where a row is listed several times, the numbers are equal.
        """
        raise NotImplementedError

    def trend_scores(self, **context: Tensor) -> Tensor | None:
        """What the time of a request adds to every score, (B, N + 1); None: nothing."""
        return None

    def batches(self, split: Split, batch_events: int) -> Batches:
        """Windows of histories: every event is a target after the events before it."""
        return SequenceBatches(split.sequences, self.config.max_len, batch_events, split.users)

    def with_lengths(self, table: Tensor) -> Tensor:
        """A table of cosines (N + 1, D) whose rows have the lengths that they should have."""
        return table if self.item_length is None else table * self.item_length.unsqueeze(1)

    def item_vectors(self, rows: Tensor) -> Tensor:
        """Vectors of some rows of the table, (R,) -> (R, D). To override where that is less work.

        With `nn.Embedding(..., sparse=True)` a step with sampled negatives then costs what the
        rows of its batch cost, however large the catalogue is.
        """
        return F.embedding(rows, self.item_table())

    def training_loss(self, batch: Batch) -> Tensor:
        """The loss of the settings, mean of every position that has a target.

        Softmax over the catalogue where the settings are no `LossConfig`. Nothing beyond the
        state is computed for the positions without a target (padding).
        """
        has_target = batch.targets > 0  # (B, T)
        targets = batch.targets[has_target]  # (M,)
        weights = None if batch.weights is None else batch.weights[has_target]
        config = self.config if isinstance(self.config, LossConfig) else LossConfig()
        if not config.samples_items:
            table = self.item_table()  # (N + 1, D)
            states = self._states_after(batch.history_index, table, batch)
            return catalogue_softmax(states[has_target], table[1:], targets - 1, weights)
        n_items, history = self.config.n_items, batch.history_index
        negatives = 1 + draw_distinct(n_items, config.n_negatives, targets.device)  # (K,)
        read = torch.cat([history.flatten(), targets, negatives])
        rows, place = torch.unique(read, return_inverse=True)
        vectors = self.item_vectors(rows)  # (R, D)
        sizes = [history.numel(), len(targets), len(negatives)]
        at_history, at_targets, at_negatives = place.split(sizes)
        states = self._states_after(at_history.view_as(history), vectors, batch)
        return sampled_loss(
            config, states[has_target], vectors, at_targets, at_negatives, n_items, weights
        )

    def _states_after(self, place: Tensor, vectors: Tensor, batch: Batch) -> Tensor:
        """States (B, T, D) of a batch, whose history is at `place` (B, T) among the vectors."""
        known = batch.history_index > 0
        return self.states(F.embedding(place, vectors), known, **batch.context(self.inputs))


class ScoreModel(RecommenderModel):
    """Scores straight from the history: counts, neighbours, closed forms, pairs."""

    @abstractmethod
    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """Scores of row 0 and of every item, (B, N + 1), after a history of rows (B, T)."""


class CountModel(ScoreModel):
    """Set in one pass over the log."""

    @abstractmethod
    def fit(self, split: Split) -> None:
        """Set the buffers from the training events."""


def learned_tensors(model: LearnedModel) -> dict[str, Tensor]:
    """Weights and buffers by name, without those of count models in it, which `prepare` sets."""
    counted = [name for name, part in model.named_modules() if isinstance(part, CountModel)]
    return {
        name: value
        for name, value in model.state_dict().items()
        if not any(name.startswith(f"{part}.") for part in counted)
    }


def fit_by_counting(model: CountModel, split: Split, validate: Callable[[], float] | None) -> None:
    """Set `model` in place in one pass and leave it in eval mode.

    validate: NDCG@10 of the model as it is now, to choose what its configuration left open; None
    for a final run, whose configuration is the one that was chosen.
    """
    model.fit(split)
    model.eval()
    if validate is not None:
        model.tune(validate)


def catalogue_scores(
    model: RecommenderModel,
    history_index: Tensor,
    item_table: Tensor | None = None,
    **context: Tensor,
) -> Tensor:
    """Scores (B, N + 1) by the training path, every position computed: the truth of parity.

    item_table: another table (N + 1, D) for the same model, such as a quantized one.
    """
    if isinstance(model, ScoreModel):
        return model.scores(history_index, **context)
    assert isinstance(model, TableModel)
    table = model.item_table() if item_table is None else item_table  # (N + 1, D)
    vectors = F.embedding(history_index, table)  # (B, T, D)
    scores = model.states(vectors, history_index > 0, **context)[:, -1] @ table.T
    trend = model.trend_scores(**context)
    scores = scores if trend is None else scores + trend
    return add_at(scores, *model.added_scores(history_index)) if model.adds_scores else scores


def add_at(scores: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """Scores (B, N + 1), with values (B, K) added at rows (B, K); equal rows have equal values."""
    return scores.scatter(1, rows, scores.gather(1, rows) + values)


def last_attention(
    model: TableModel, history_index: Tensor, item_table: Tensor, **context: Tensor
) -> Tensor:
    """The model's own weights of the events (B, T), for the last position."""
    vectors = F.embedding(history_index, item_table)  # (B, T, D)
    return model.state_and_attention(vectors, history_index > 0, **context)[1]

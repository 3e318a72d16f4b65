"""The two shapes of a recommender. Export, evaluation and serving know only these.

Inside attnrec an item is its row in the catalogue: rows 1 to N, with row 0 for "nothing here",
which is padding and the start token in one. A history (B, T) of rows is left-padded.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from attnrec.train.split import Sequences


class HistoryConfig(Protocol):
    """What everybody must know of a model's configuration."""

    @property
    def n_items(self) -> int:
        """Items in the catalogue, N."""

    @property
    def max_len(self) -> int:
        """Newest events of a history that count."""


class TableModel(nn.Module):
    """One vector per item, one state per history: score = item_table @ state."""

    config: HistoryConfig

    @abstractmethod
    def item_table(self) -> Tensor:
        """Vectors of row 0 and of every item: (N + 1, D)."""

    @abstractmethod
    def states(self, item_vectors: Tensor, known: Tensor) -> Tensor:
        """State after each event, (B, T, D): column t has seen columns 0..t. For training.

        item_vectors: rows of the table (B, T, D), oldest first; known: bool (B, T), False at
        row 0, that is at the start token and at padding.
        """

    @abstractmethod
    def state(self, item_vectors: Tensor, known: Tensor) -> Tensor:
        """State after the last event, (B, D): equals `states[:, -1]`. For the exported file."""


class ScoreModel(nn.Module):
    """Scores straight from the history: counts, neighbours, closed forms."""

    config: HistoryConfig

    @abstractmethod
    def fit(self, sequences: Sequences) -> None:
        """Set the buffers from the training events, in one pass."""

    def tune(self, validate: Callable[[], float]) -> None:
        """Choose what the configuration left open, by validation NDCG@10. Nothing by default."""

    @abstractmethod
    def scores(self, history_index: Tensor) -> Tensor:
        """Scores of row 0 and of every item, (B, N + 1), after a history of rows (B, T)."""


RecommenderModel = TableModel | ScoreModel


def catalogue_scores(
    model: RecommenderModel, history_index: Tensor, item_table: Tensor | None = None
) -> Tensor:
    """Scores (B, N + 1) by the training path, every position computed: the truth of parity.

    item_table: another table (N + 1, D) for the same model, such as a quantized one.
    """
    if isinstance(model, ScoreModel):
        return model.scores(history_index)
    table = model.item_table() if item_table is None else item_table  # (N + 1, D)
    return last_states(model, history_index, table) @ table.T


def last_states(model: TableModel, history_index: Tensor, item_table: Tensor) -> Tensor:
    """States (B, D) after the last event, by the training path."""
    vectors = torch.nn.functional.embedding(history_index, item_table)  # (B, T, D)
    return model.states(vectors, history_index > 0)[:, -1]

"""Another catalogue for a trained model: items that are new get what they resemble, by content.

    vector of a new item   mean of the vectors of its nearest trained items, by cos^2; shorter,
                           because what is not known of it would speak against it as often as not
    as an event            it has the counts of the nearest one
    as a candidate         it is among the neighbours by content of the items of a history

No training: what is known of trained items stays as it is.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.errors import DataError
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.tables import shown
from attnrec.train.models.base import TableModel
from attnrec.train.models.content_based import ContentNeighbours, Describer, nearest_rows
from attnrec.train.models.counted_experts import CountedExperts
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.fusion_config import FusionConfig
from attnrec.train.splits.split import Catalogue, Sequences, Split

_MOST_LOST = 0.2
_LENGTH = 0.85  # of a vector that is a guess, where trained ones have 1
ITEM_VECTORS = "item_embedding.weight"
"""The name of the vectors among the weights of a model."""


def has_item_vectors(model: TableModel) -> bool:
    """Whether new items can be given a vector like the learned ones."""
    return ITEM_VECTORS in model.state_dict()


def for_catalogue(
    split: Split, model: TableModel, described: Interactions, *, allow_smaller: bool
) -> tuple[Split, TableModel, dict[str, int]]:
    """The split and the model for the items of a table, and how many of each kind there are.

    described: what `read_catalogue` gave. Raises what `Run.with_catalog` does.
    """
    trained = split.catalogue
    old_row = _most_rows_of(described.item_ids, trained, allow_smaller=allow_smaller)
    order = np.argsort(np.where(old_row > 0, old_row, trained.n_items + 1), kind="stable")
    is_new = (old_row := old_row[order]) == 0
    n_known, n_new = int((~is_new).sum()), int(is_new.sum())
    if n_new and not trained.is_described():
        first = shown(described.item_ids[order].tolist()[n_known])
        raise DataError(
            f"{n_new:,} items of the catalogue are new, such as {first}, and what describes items "
            "was not given to the training: there is nothing that they could resemble",
            "train with `items`, or leave new items out",
        )
    n_events = np.where(is_new, 0, trained.n_events[old_row - 1])
    catalogue = replace(Catalogue.of(described, n_events).some(order), n_events=n_events)
    grown = _Grown(model, trained, catalogue, old_row)
    counts = {"n_trained": n_known, "n_new": n_new, "n_gone": trained.n_items - n_known}
    counts["n_unlike"] = grown.n_unlike
    return _split_of(split, catalogue, old_row), grown.model(), counts


def rows_of(ids: IdArray, trained: Catalogue) -> NDArray[np.int64]:
    """Trained row of each id (n,), 0 for a new one."""
    rows: NDArray[np.int64] = pd.Index(trained.item_ids).get_indexer(pd.Index(ids)) + 1
    return rows


def _most_rows_of(ids: IdArray, trained: Catalogue, *, allow_smaller: bool) -> NDArray[np.int64]:
    """The same. `DataError` where too many are gone."""
    rows = rows_of(ids, trained)
    n_known = int((rows > 0).sum())
    if not n_known:
        raise DataError(
            f"none of the {trained.n_items:,} items that were trained is in the catalogue, for "
            f"example {shown(trained.item_ids[:1].tolist()[0])}",
            "give the table that describes the items of the log, with new rows",
        )
    lost = 1 - n_known / trained.n_items
    if lost >= _MOST_LOST and not allow_smaller:
        raise DataError(
            f"{trained.n_items - n_known:,} of {trained.n_items:,} trained items are not in the "
            f"catalogue ({lost:.0%}, from {_MOST_LOST:.0%} on it looks like a wrong table)",
            "give the whole catalogue, or allow that with `allow_smaller`",
        )
    return rows


def alike(
    describer: Describer, new: Catalogue, trained: Catalogue, share: float | None, table: Tensor
) -> tuple[Tensor, Tensor]:
    """For new items the mean of the vectors of what they resemble, (n_new, D), and the row of the
    nearest, (n_new,); zeros for one that resembles nothing.

    table: vectors of the trained rows (N + 1, D); share: as `nearest_rows` takes it.
    """
    found = nearest_rows(describer, new, trained, share)
    nearest, weight = (torch.from_numpy(part) for part in found)  # (n_new, M)
    mean = (table[nearest] * weight.unsqueeze(-1)).sum(dim=1)
    total = weight.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return mean / total, nearest[:, 0] * (weight[:, 0] > 0)


class _Grown:
    """What a model knows of another catalogue."""

    def __init__(
        self,
        model: TableModel,
        trained: Catalogue,
        catalogue: Catalogue,
        old_row: NDArray[np.int64],  # (N',)
    ) -> None:
        self._trained_model, self._trained, self._catalogue = model, trained, catalogue
        self._is_new = old_row == 0
        self._share = getattr(model.config, "content_vectors", None)
        self._describer = Describer(trained, shared=True) if trained.is_described() else None
        learned = model.state_dict()[ITEM_VECTORS]  # (N + 1, D)
        self._like = torch.from_numpy(np.append(0, old_row))  # (N' + 1,): what each has counts of
        self._row_of = torch.zeros(trained.n_items + 1, dtype=torch.int64)
        known = torch.from_numpy(np.flatnonzero(old_row))
        self._row_of[self._like[1 + known]] = 1 + known
        self._vectors = learned[self._like]
        self.n_unlike = 0
        """New items that resemble no trained one."""
        if self._is_new.any():
            self._resemble(model.item_table().detach())

    def _resemble(self, vectors: Tensor) -> None:
        assert self._describer is not None
        new = self._catalogue.some(self._is_new)
        means, nearest = alike(self._describer, new, self._trained, self._share, vectors)
        self.n_unlike = int((nearest == 0).sum())
        places = torch.from_numpy(1 + np.flatnonzero(self._is_new))
        self._vectors[places], self._like[places] = means, nearest

    def model(self) -> TableModel:
        """The model of the catalogue, in eval mode."""
        config: Any = self._trained_model.config
        made = type(self._trained_model)(replace(config, n_items=self._catalogue.n_items)).eval()
        state = self._trained_model.state_dict() | {ITEM_VECTORS: self._vectors}
        if isinstance(made, Fusion):
            assert isinstance(self._trained_model, Fusion)
            counts = (self._trained_model.counts, self._like, self._row_of)
            made.counts = CountedExperts.of_catalogue(made.config, *counts)
            if made.config.content:
                made.counts.fill_content(self._alike(made.config))
            state |= {f"counts.{name}": part for name, part in made.counts.state_dict().items()}
            if made.config.trend:  # whether a new item is popular, nobody knows yet
                is_known = torch.from_numpy(np.append(False, ~self._is_new))
                state["trend.lift"] = state["trend.lift"][self._like] * is_known
        made.load_state_dict(state)
        if getattr(config, "logits", None) == "cosine":
            is_new = torch.from_numpy(np.append(False, self._is_new))
            made.item_length = torch.where(is_new, _LENGTH, 1.0)
        return made

    def _alike(self, config: FusionConfig) -> ContentNeighbours:
        """Neighbours by content among all; a new item is taken for one of median popularity."""
        assert self._describer is not None
        content = ContentNeighbours(config.described())
        usual = int(np.median(self._trained.n_events))
        n_events = np.where(self._is_new, usual, self._catalogue.n_events)
        content.compare(self._describer, self._catalogue, n_events)
        if self._share is not None:
            content.mix(self._share)
        return content


def _split_of(split: Split, catalogue: Catalogue, old_row: NDArray[np.int64]) -> Split:
    """The same events, without those of items that are gone."""
    row_of = np.zeros(split.catalogue.n_items + 1, np.int32)
    known = np.flatnonzero(old_row)
    row_of[old_row[known]] = 1 + known
    sequences = split.sequences
    rows = row_of[sequences.rows]
    kept = rows > 0
    offsets = np.append(0, np.cumsum(kept))[sequences.offsets]
    weights = None if sequences.weights is None else sequences.weights[kept]
    times = None if sequences.timestamps is None else sequences.timestamps[kept]
    trained = Sequences(offsets, rows[kept], weights, times)
    return replace(split, catalogue=catalogue, sequences=trained)

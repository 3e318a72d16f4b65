"""What `fusion` counts: neighbours of every item, with a weight from each expert.

    r_e(j)   = max(0, sum over the events i of a history  d_e(age of i) W_e[i, j])
    added(j) = sum over the experts e  w_e log(1 + r_e(j) / (floor sum(r_e)))

The experts are the transitions of `markov-chain`, d^age for the newest 20 events; `ease`, which
sees all events alike; and where items are described, `ContentNeighbours`, again d^age for the
newest 20. An item that no event reaches gets 0. So the work follows the K neighbours of a
history, not the catalogue.

Transitions and EASE share a table of neighbours. Items that many people took have more of them
worth keeping: kept are the largest |W| sqrt(n_i) of the whole catalogue, for n_i events of i, and
M an item on average. They lie in chunks of 8, those of an item one after the other, the largest
first. Neighbours by content are seldom the same: they have a table of their own, equally many of
every item.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnrec.train.models.base import CountModel, add_at
from attnrec.train.models.content_based import ContentNeighbours
from attnrec.train.models.ease import Ease
from attnrec.train.models.fusion_config import NEWEST, UNTUNED_DECAY, FusionConfig
from attnrec.train.models.markov_chain import MarkovChain
from attnrec.train.models.neighbours import NeighbourModel
from attnrec.train.splits.split import Split

CHUNK = 8
_OF_TRANSITIONS = 0.25  # of the neighbours, beside EASE
_ROWS = 4096  # compared at once


class CountedExperts(CountModel):
    """The neighbours that are worth keeping, and the weights of every expert."""

    config: FusionConfig
    least_sum = 1e-9
    """Of the weights of a history, below any count: no NaN where no event has neighbours."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        n_chunks = -(-min(config.most_neighbours, config.n_items) // CHUNK)
        self.chunks: Tensor  # (N + 1, C) rows of the chunks of an item, 0 for none
        self.neighbour: Tensor  # (R, 8) row of the neighbour, 0 for none
        self.weight: Tensor  # (E, R, 8) how an event speaks for the neighbour, or against it
        chunks = torch.zeros(config.n_items + 1, n_chunks, dtype=torch.int32)
        self.register_buffer("chunks", chunks)
        self.register_buffer("neighbour", torch.zeros(1, CHUNK, dtype=torch.int32))
        self.register_buffer("weight", torch.zeros(1 + config.ease, 1, CHUNK))
        if config.content:
            n_alike = -(-min(config.described().n_neighbours, config.n_items) // CHUNK)
            shape = (config.n_items + 1, n_alike, CHUNK)
            self.alike: Tensor  # (N + 1, C', 8) row of the neighbour by content, 0 for none
            self.alike_weight: Tensor  # (1, N + 1, C', 8)
            self.register_buffer("alike", torch.zeros(shape, dtype=torch.int32))
            self.register_buffer("alike_weight", torch.zeros(1, *shape))
        self._transitions: list[MarkovChain] = []  # in a list it is no part of a run
        self._described: list[ContentNeighbours] = []
        self._events = torch.zeros(0)  # of every row, (N + 1,)

    def fit(self, split: Split) -> None:
        """Count the transitions, solve EASE and keep what adds most; compare what is described."""
        events = np.bincount(split.sequences.rows, minlength=self.config.n_items + 1)
        self._events = torch.from_numpy(events).float()
        self._transitions = [MarkovChain(self.config.chain())]
        experts: list[NeighbourModel] = [*self._transitions]
        if self.config.ease:
            experts.append(Ease(self.config.solved()))
        for expert in experts:
            expert.fit(split)
        self._keep_strongest(experts)
        if self.config.count_weight == 0 and not self.config.ease:
            self.leave_out_counts()  # as in the run before a final one
        if self.config.content:
            self._described = [ContentNeighbours(self.config.described())]
            self._described[0].fit(split)
            self.compare_content()

    @classmethod
    def of_catalogue(
        cls, config: FusionConfig, trained: "CountedExperts", like: Tensor, row_of: Tensor
    ) -> "CountedExperts":
        """The same counts for another catalogue; content is left to `fill_content`.

        like: for each new row (N' + 1,) the trained row that it is or that it resembles most, 0
        for none, whose counts it has as an event of a history; row_of: the new row of each
        trained one (N + 1,), 0 for those that are gone.
        """
        counts = cls(config)
        chunks = trained.chunks.index_select(0, like)
        used = chunks > 0
        # Every row has chunks of its own, one after the other: a file holds but the first.
        kept = F.pad(chunks[used].long(), (1, 0))
        counts.chunks = used.cumsum(dim=1).add(F.pad(used.sum(dim=1).cumsum(0), (1, -1))[:, None])
        counts.chunks = (counts.chunks * used).int()
        counts.neighbour = row_of[trained.neighbour[kept].long()].int()
        counts.weight = trained.weight[:, kept] * (counts.neighbour > 0)
        return counts

    def compare_content(self) -> None:
        """Take over the neighbours by content, after `fit` or another share of vectors."""
        (described,) = self._described
        if self.config.content_vectors is not None:
            described.mix(self.config.content_vectors)
        self.fill_content(described)

    def fill_content(self, described: ContentNeighbours) -> None:
        """Take over these neighbours."""
        filled = (0, self.alike[0].numel() - described.neighbour.shape[1])
        self.alike.copy_(F.pad(described.neighbour, filled).view_as(self.alike))
        self.alike_weight.copy_(F.pad(described.weight, filled).view_as(self.alike_weight))

    def leave_out_content(self) -> None:
        """Keep the counts alone."""
        self.config = replace(self.config, content=False, content_weight=None, content_decay=None)
        del self.alike, self.alike_weight

    def leave_out_ease(self) -> None:
        """Keep the transitions alone, after `fit`."""
        self.config = replace(self.config, ease=False, ease_weight=None)
        self._keep_strongest([*self._transitions])

    def leave_out_counts(self) -> None:
        """Keep no neighbour of transitions and EASE, after `fit`."""
        self.chunks.zero_()
        self.neighbour, self.weight = self.neighbour[:1].clone(), self.weight[:, :1].clone()

    def _keep_strongest(self, experts: list[NeighbourModel]) -> None:
        """Of every expert its share of the N M neighbours; of an item at most 8 C of all."""
        shares = [_OF_TRANSITIONS, 1 - _OF_TRANSITIONS] if len(experts) > 1 else [1.0]
        pairs = zip(experts, shares, strict=True)
        least = torch.tensor([self._least_kept(e, share) for e, share in pairs])
        neighbours = [torch.zeros(1, CHUNK, dtype=torch.int32)]
        weights = [torch.zeros(len(experts), 1, CHUNK)]
        n_chunks = 1
        for start in range(0, len(self.chunks), _ROWS):
            rows = slice(start, start + _ROWS)
            neighbour, weight = _merged(experts, rows)  # (R, M'), (E, R, M')
            size = weight.abs() * self._events[rows].sqrt().unsqueeze(1) / least[:, None, None]
            size, place = size.amax(dim=0).sort(dim=1, descending=True, stable=True)
            width = self.chunks.shape[1] * CHUNK
            kept = [part.gather(1, place) * (size >= 1) for part in (neighbour, *weight)]
            kept = [F.pad(part[:, :width], (0, max(0, width - part.shape[1]))) for part in kept]
            in_chunks = [part.view(len(part), -1, CHUNK) for part in kept]  # (R, C, 8)
            used = in_chunks[0].any(dim=2)  # (R, C)
            own = torch.arange(n_chunks, n_chunks + int(used.sum()), dtype=torch.int32)
            self.chunks[rows] = 0
            self.chunks[rows][used] = own
            neighbours.append(in_chunks[0][used].int())
            weights.append(torch.stack([part[used] for part in in_chunks[1:]]))
            n_chunks += len(own)
        self.neighbour, self.weight = torch.cat(neighbours), torch.cat(weights, dim=1)

    def _least_kept(self, expert: NeighbourModel, share: float) -> float:
        """|W| sqrt(events) of the last neighbour within a share of N M."""
        size = (expert.weight.abs() * self._events.sqrt().unsqueeze(1)).flatten().numpy()
        size = size[size > 0]
        n_kept = int(share * self.config.n_neighbours * self.config.n_items)
        if len(size) <= n_kept:
            return float(size.min(initial=1.0))
        return float(np.partition(size, -n_kept)[-n_kept])

    def _load_from_state_dict(self, stored: dict[str, Any], prefix: str, *rest: Any) -> None:
        """How many chunks there are follows from the log."""
        for name in ("neighbour", "weight"):
            if (found := stored.get(f"{prefix}{name}")) is not None:
                own = getattr(self, name)
                setattr(self, name, own.new_empty(own.shape[:-2] + found.shape[-2:]))
        super()._load_from_state_dict(stored, prefix, *rest)

    def added_scores(self, history_index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of what the events speak for, (B, K), and what is added to their scores.

        A row may be listed several times, with equal numbers.
        """
        batch, n_items = len(history_index), len(self.chunks)
        if not self.has_weight():
            return torch.zeros_like(history_index[:, :1]), self.weight.new_zeros(batch, 1)
        totals, listed = [], []
        for neighbour, weight in self.neighbours_of(history_index):  # (B, K), (E, B, K)
            place = neighbour.expand(len(weight), -1, -1)  # (E, B, K)
            nothing = weight.new_zeros(len(weight), batch, n_items)
            totals.append(nothing.scatter_add(2, place, weight))
            listed.append(neighbour)
        rows, total = torch.cat(listed, dim=1), torch.cat(totals).relu()  # of all experts
        in_all = total.sum(dim=-1, keepdim=True).clamp(min=self.least_sum)  # (E, B, 1)
        reached = total.gather(2, rows.expand(len(total), -1, -1))  # (E, B, K)
        share = reached / (self.config.count_floor * in_all)
        return rows, (torch.log1p(share) * self.chosen()[:, None, None]).sum(dim=0)

    def neighbours_of(self, history_index: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each table the rows that events (B, T) speak for, (B, K), and how, (E, B, K)."""
        batch, length = history_index.shape
        by_age = self.by_age(length)[:, None, :, None]  # (E, 1, T, 1)
        chunks = self.chunks.index_select(0, history_index.flatten()).flatten()  # (B * T * C,)
        rows = self.neighbour.index_select(0, chunks).long().view(batch, -1)  # (B, K)
        n_counted = len(self.weight)
        weight = self.weight.index_select(1, chunks).view(n_counted, batch, length, -1)
        tables = [(rows, (weight * by_age[:n_counted]).flatten(2))]
        if self.config.content:
            newest = slice(-min(length, NEWEST), None)
            events = history_index[:, newest]  # (B, T')
            rows = self.alike[events].long()  # (B, T', C', 8)
            weight = self.alike_weight[0, events].flatten(2) * by_age[-1, :, newest]
            tables.append((rows.flatten(1), weight.flatten(1).unsqueeze(0)))
        return tables

    def has_weight(self) -> bool:
        """Whether an expert has a weight."""
        config = self.config
        return bool(config.count_weight or config.ease_weight or config.content_weight)

    def chosen(self) -> Tensor:
        """Weight of every expert against attention, (E,); 0 until it is chosen."""
        config = self.config
        weights = [config.count_weight or 0.0]
        if config.ease:
            weights.append(config.ease_weight or 0.0)
        if config.content:
            weights.append(config.content_weight or 0.0)
        return torch.tensor(weights, dtype=torch.float32, device=self.weight.device)

    def by_age(self, length: int) -> Tensor:
        """Weight of each event for each expert, oldest first: (E, T)."""
        config = self.config
        age = torch.arange(config.max_len - 1, -1, -1, device=self.weight.device)  # (L,)

        def newest(decay: float | None) -> Tensor:
            decay = UNTUNED_DECAY if decay is None else decay
            return torch.full_like(age, decay, dtype=torch.float32) ** age * (age < NEWEST)

        experts = [newest(config.history_decay)]
        if config.ease:
            experts.append(torch.ones_like(experts[0]))
        if config.content:
            experts.append(newest(config.content_decay))
        return torch.stack(experts)[:, config.max_len - length :]

    def scores(self, history_index: Tensor, **context: Tensor) -> Tensor:
        """The counts alone: (B, T) -> (B, N + 1)."""
        nothing = self.weight.new_zeros(len(history_index), len(self.chunks))
        return add_at(nothing, *self.added_scores(history_index))


def _merged(experts: Sequence[NeighbourModel], rows: slice) -> tuple[Tensor, Tensor]:
    """Neighbours of some items by one or both experts, (R, M'), and all weights, (E, R, M').

    A neighbour of both is listed once; its second place has row 0 and weight 0.
    """
    parts = [expert.weight[rows] for expert in experts]
    neighbour = torch.cat([expert.neighbour[rows] for expert in experts], dim=1).long()
    neighbour, place = neighbour.sort(dim=1, stable=True)
    widths, width = [part.shape[1] for part in parts], neighbour.shape[1]
    weight = torch.zeros(len(parts), *neighbour.shape)
    for i, part in enumerate(parts):
        before = sum(widths[:i])
        weight[i] = F.pad(part, (before, width - before - widths[i])).gather(1, place)
    is_second = (neighbour[:, 1:] == neighbour[:, :-1]) & (neighbour[:, 1:] > 0)
    weight[..., :-1] += weight[..., 1:] * is_second
    weight[..., 1:] *= ~is_second
    neighbour[:, 1:] *= ~is_second
    return neighbour, weight

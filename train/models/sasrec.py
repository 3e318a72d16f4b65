"""SASRec: self-attention over the history (Kang and McAuley 2018), as it is trained today.

Three changes since the paper, each of which pays (Klenitskiy and Vasilev 2023; Zhai et al. 2024):
softmax over the whole catalogue instead of one sampled negative, pre-norm blocks, and cosine
logits with a temperature, which learn in about half the epochs.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.train.layers.attention import attention_weights, linear
from attnrec.train.layers.blocks import TransformerBlock
from attnrec.train.layers.sphere import on_sphere
from attnrec.train.layers.time_bias import (
    INPUTS,
    TimeBias,
    forget_times,
    gaps_between,
    moments,
    of_sum,
)
from attnrec.train.models.base import TableModel
from attnrec.train.models.learned_configs import SASRecConfig

_FORGOTTEN = 0.15  # share of requests at an unknown time in training, with `time_gaps`
_FADING = 0.5  # at first, of an event against the one after it: exp(-0.5) = 0.6


class SASRec(TableModel):
    """Item vectors of a history in, a state out; score = item_table @ state."""

    config: SASRecConfig

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embedding = nn.Embedding(config.n_items + 1, config.hidden_dim)
        self.position_embedding = nn.Embedding(config.max_len, config.hidden_dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.hidden_dim, config.n_heads, config.dropout)
            for _ in range(config.n_blocks)
        )
        self.final_norm = nn.LayerNorm(config.hidden_dim)
        if config.fading_sum:
            self.recency = nn.Parameter(-_FADING * torch.arange(config.max_len))  # by age
            self.sum_map = nn.Linear(config.hidden_dim, config.hidden_dim, bias=False)
            self.sum_share = nn.Parameter(torch.ones(()))
            nn.init.eye_(self.sum_map.weight)
        if config.time_gaps:
            self.time_gaps = TimeBias(config.hidden_dim, config.n_blocks, config.n_heads)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.item_embedding.weight, std=config.hidden_dim**-0.5)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def item_table(self) -> Tensor:
        """Vectors of the start token (row 0) and of every item: (N + 1, D)."""
        table = self.item_embedding.weight
        return F.normalize(table, dim=-1) if self.config.logits == "cosine" else table

    @property
    def inputs(self) -> tuple[str, ...]:
        """Times, if the configuration asks for them."""
        return INPUTS if self.config.time_gaps else ()

    def states(self, item_vectors: Tensor, known: Tensor, **context: Tensor) -> Tensor:
        """State after each event, (B, T, D); see `TableModel.states`."""
        if self.training and self.config.time_gaps:
            context = forget_times(context, _FORGOTTEN)
        x = self._embed(item_vectors, known, context)
        visible = self._visible(known)  # (B, 1, T, T)
        pairs = self._pairs(context)  # (B, X, T, T)
        for number, block in enumerate(self.blocks):
            x = block(x, visible, self._of_heads(number, pairs))  # (B, T, D)
        if not self.config.fading_sum:
            return self._to_state(x)
        place = torch.arange(known.shape[1], device=known.device)
        age = place.unsqueeze(1) - place  # (T, T): of a key, seen from its query
        seen = (age >= 0) & known.unsqueeze(1)  # (B, T, T)
        weights = attention_weights(self.recency[age.clamp(min=0)], seen, of_sum(pairs))
        return self._to_state(x, weights @ self.dropout(item_vectors))

    def state(self, item_vectors: Tensor, known: Tensor, **context: Tensor) -> Tensor:
        """State after the last event, (B, D): the last block computes one position, not T."""
        return self.state_and_attention(item_vectors, known, **context)[0]

    def state_and_attention(
        self, item_vectors: Tensor, known: Tensor, **context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same, and what the last position took of each event in the last block, (B, T)."""
        x = self._embed(item_vectors, known, context)
        if torch.compiler.is_exporting():  # a file pads on the left, and nowhere else
            visible, seen = self._alike(known), known  # (B, 1, T, T), (B, T)
        else:
            visible = self._visible(known)
            seen = visible[:, 0, -1]
        pairs = self._pairs(context)  # (B, X, T, T)
        for number, block in enumerate(self.blocks[:-1]):
            x = block(x, visible, self._of_heads(number, pairs), causal=True)
        last = self.blocks[-1]
        last_pairs = None if pairs is None else pairs[:, :, -1:]  # (B, X, 1, T)
        assert isinstance(last, TransformerBlock)
        x, weights = last.last(x, seen, self._of_heads(len(self.blocks) - 1, last_pairs))
        if not self.config.fading_sum:
            return self._to_state(x), weights * known
        recency = self.recency[: known.shape[1]].flip(0)  # (T,)
        fading = attention_weights(recency[None], known.unsqueeze(1), of_sum(last_pairs))
        faded = (fading @ item_vectors).squeeze(1)  # (B, 1, T) @ (B, T, D) -> (B, D)
        return self._to_state(x, faded), weights * known

    def _embed(self, item_vectors: Tensor, known: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        # Places count from the newest event, so that padding on the left moves nothing. The
        # start token has no place: an empty history looks the same wherever it was learned.
        length = item_vectors.shape[1]
        added = self.position_embedding.weight[:length].flip(0)  # (T, D)
        if self.config.time_gaps:
            added = added + self.time_gaps.events(gaps_between(*moments(context)))  # (B, T, D)
        added = added * known.to(added.dtype).unsqueeze(-1)
        x: Tensor = self.dropout(item_vectors * math.sqrt(self.config.hidden_dim) + added)
        return x

    def _visible(self, known: Tensor) -> Tensor:
        """What each position looks at: (B, T) -> (B, 1, T, T)."""
        place = torch.arange(known.shape[1], device=known.device)
        causal = place <= place.unsqueeze(1)  # (T, T): a key is not newer than its query
        # Row 0 is seen by nobody but itself; without that, its softmax would be empty.
        own = place == place.unsqueeze(1)  # (T, T)
        return ((causal & known.unsqueeze(1)) | own).unsqueeze(1)

    def _alike(self, known: Tensor) -> Tensor:
        """The same but for what is newer, where nothing is dropped: (B, T) -> (B, 1, T, T).

        Row 0 may then look at row 0, which is the same everywhere. Fewer steps in the file.
        """
        return known[:, None, None, :] == known[:, None, :, None]

    def _pairs(self, context: Mapping[str, Tensor]) -> Tensor | None:
        """What the time from every event to every moment that asks adds, (B, X, T, T)."""
        if not self.config.time_gaps:
            return None
        asked_at, timestamps = moments(context)
        gaps = gaps_between(asked_at.unsqueeze(2), timestamps.unsqueeze(1))  # (B, R, T, T)
        return self.time_gaps.pairs(gaps)

    def _of_heads(self, block: int, pairs: Tensor | None) -> Tensor | None:
        return None if pairs is None else self.time_gaps.heads(block, pairs)

    def _to_state(self, x: Tensor, faded: Tensor | None = None) -> Tensor:
        """What the blocks found, with the fading sum, (B, D) or (B, T, D)."""
        x = self.final_norm(x)
        if faded is not None:
            x = on_sphere(x, 1) + self.sum_share * linear(self.sum_map, faded)
        if self.config.logits == "cosine":
            return on_sphere(x, self.config.temperature)
        return x / self.config.temperature

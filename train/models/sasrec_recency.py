"""SASRec that knows how long ago an event was, by its place and by the clock: `--model sasrec`.

Two parts, each switched on by a setting; without both, it is the model of `sasrec`:

    history decay  `decayed_history`: the sum of the item vectors, weighted by softmax of a learned
                   number for every age, is added to the output of the blocks, through one matrix
    time bias      `time_gaps`: the time between events and the request is added to the scores of
                   attention in the last `timed_blocks`, to those of the decayed sum, and to the
                   events; see `time_bias` (Zhai et al. 2024, who add it in every block)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.train.layers.attention import attention_weights
from attnrec.train.layers.time_bias import INPUTS, TimeBias, forget_times
from attnrec.train.models.configs import RecencyConfig
from attnrec.train.models.sasrec import SASRec, TransformerBlock

_FORGOTTEN = 0.25  # share of requests at an unknown time in training, with time bias
_DECAY = 0.5  # at first, of an event against the one after it: exp(-0.5) = 0.6


class RecencySASRec(SASRec):
    """`SASRec` with history decay and time bias, as its settings switch them."""

    config: RecencyConfig

    def __init__(self, config: RecencyConfig) -> None:
        super().__init__(config)

    def add_parts(self) -> None:
        """The weights of both parts. Run directories hold them by these names."""
        config = self.config
        if config.decayed_history:
            self.recency = nn.Parameter(-_DECAY * torch.arange(config.max_len))  # by age
            self.sum_map = nn.Linear(config.hidden_dim, config.hidden_dim, bias=False)
            self.sum_share = nn.Parameter(torch.ones(()))
            nn.init.eye_(self.sum_map.weight)
        if config.time_gaps:
            n_timed = min(config.timed_blocks, config.n_blocks)
            self.time_gaps = TimeBias(config.hidden_dim, config.n_heads, n_timed)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Times, with time bias."""
        return INPUTS if self.config.time_gaps else ()

    def states(self, item_vectors: Tensor, known: Tensor, **context: Tensor) -> Tensor:
        """State after each event, (B, T, D); see `TableModel.states`."""
        if self.training and self.config.time_gaps:
            context = forget_times(context, _FORGOTTEN)
        on_events, on_blocks, on_sum = self.time_bias(context)
        x, visible = self.embed(item_vectors, known, on_events), self.visible(known)
        for block, bias in zip(self.blocks, on_blocks, strict=True):
            x = block(x, visible, bias)  # (B, T, D)
        return self._finish(x, item_vectors, known, on_sum)

    def state_and_attention(
        self, item_vectors: Tensor, known: Tensor, **context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """State after the last event, (B, D), and the attention of the last block, (B, T)."""
        on_events, on_blocks, on_sum = self.time_bias(context)
        x, visible = self.embed(item_vectors, known, on_events), self.visible(known)
        *earlier, (last, on_last) = zip(self.blocks, on_blocks, strict=True)
        for block, bias in earlier:
            x = block(x, visible, bias)  # (B, T, D)
        assert isinstance(last, TransformerBlock)
        weights = last.attention_weights(x, visible, on_last)  # (B, T)
        x = last(x, visible, on_last)
        return self._finish(x, item_vectors, known, on_sum)[:, -1], weights * known

    def time_bias(
        self, context: dict[str, Tensor]
    ) -> tuple[Tensor | None, list[Tensor | None], Tensor | None]:
        """What times add to events, to the scores of every block, and to the decayed sum."""
        untimed: list[Tensor | None] = [None] * len(self.blocks)
        if not self.config.time_gaps:
            return None, untimed, None
        on_events, on_scores = self.time_gaps(context)  # (B, T, D), (B, X + 1, T, T)
        *on_blocks, on_sum = on_scores.split(self.config.n_heads, dim=1)
        return on_events, untimed[len(on_blocks) :] + on_blocks, on_sum.squeeze(1)

    def _finish(
        self, x: Tensor, item_vectors: Tensor, known: Tensor, on_sum: Tensor | None
    ) -> Tensor:
        """States (B, T, D) of the output of the blocks and of the decayed sum."""
        x = self.final_norm(x)
        if self.config.decayed_history:
            place = torch.arange(known.shape[1], device=known.device)
            age = place.unsqueeze(1) - place  # (T, T): of a key, seen from its query
            visible = (age >= 0) & known.unsqueeze(1)  # (B, T, T)
            weights = attention_weights(self.recency[age.clamp(min=0)], visible, on_sum)
            decayed = weights @ self.dropout(item_vectors)  # (B, T, D)
            x = F.normalize(x, dim=-1) + self.sum_share * self.sum_map(decayed)
        return self.to_state(x)

"""What a file computes by other steps than torch, with the weights of a trained model.

A form is a subclass of a module that computes the same: fewer or cheaper ONNX nodes, the last
position alone, or one standard node where torch has a kernel. `in_export_form` gives a copy of a
model in which every module that has a form is of it. Modules are taken by their exact class: a
subclass that computes otherwise is exported as it is. Parity at export compares each file with the
torch model, and tests/export/graph/test_export_forms.py compares each form.

Linear layers see two dimensions, because then each becomes one Gemm with its bias.
"""

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.export.graph.time_bias_form import TimeBiasForm
from attnrec.train.layers.attention import (
    AdditiveAttention,
    MultiHeadAttention,
    SelfAttention,
    attention_weights,
    mask,
)
from attnrec.train.layers.time_bias import TimeBias
from attnrec.train.models.attention_pool import AttentionPool
from attnrec.train.models.base import TableModel
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.sasrec import SASRec, TransformerBlock
from attnrec.train.models.sasrec_recency import RecencySASRec

_AFTER_SOFTMAX = 3  # which of its inner numbers the ONNX node gives out
_TINY = 1e-24  # added to the mean of the squares, which may be 0


def in_export_form(model: TableModel) -> TableModel:
    """A copy of the model, with the same tensors, in which modules have their forms.

    The model itself where no module has one.
    """
    if {type(module) for module in model.modules()}.isdisjoint([*FORMS, *_FLAT]):
        return model
    tensors = [*model.parameters(), *model.buffers()]
    model = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for module in [*model.modules()]:
        if type(module) in _FLAT:
            for part in module.children():
                part.__class__ = FlatLinear
        module.__class__ = FORMS.get(type(module), type(module))
    return model


def on_sphere(x: Tensor, temperature: float) -> Tensor:
    """Vectors (..., D) in their direction, 1 / temperature long; zeros stay zeros.

    One node instead of six: the length is sqrt(D) times the root mean square.
    """
    dim = x.shape[-1]
    scale = torch.full((dim,), dim**-0.5 / temperature)
    return F.rms_norm(x, (dim,), scale, _TINY)


def to_state(self: "SASRec | AttentionPool", x: Tensor) -> Tensor:
    """x (..., D) scaled so that the product with the item table is the logit."""
    if self.config.logits == "cosine":
        return on_sphere(x, self.config.temperature)
    return x / self.config.temperature


class FlatLinear(nn.Linear):
    """A linear layer on two dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., D) -> (..., E)."""
        mapped = super().forward(x.reshape(-1, x.shape[-1]))
        return mapped.view(*x.shape[:-1], mapped.shape[-1])


class MultiHeadForm(MultiHeadAttention):
    """One standard node on three dimensions, which gives out the weights as well."""

    def attend(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        prior: Tensor | None = None,
        *,
        queries: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        query, key, value = self.parts(x, queries)
        attended, _, _, weights = torch.onnx.ops.attention(
            query, key, value, mask(visible, prior),
            q_num_heads=self.n_heads, kv_num_heads=self.n_heads,
            qk_matmul_output_mode=_AFTER_SOFTMAX,
        )  # fmt: skip
        # ONNX takes the last axis of these weights for empty where the length is dynamic.
        weights = weights.mean(dim=1).view(*query.shape[:2], key.shape[1])
        return self.output(attended), weights


class AttentionPoolForm(AttentionPool):
    """As it is, but for the length of the state."""

    to_state = to_state


class TransformerBlockForm(TransformerBlock):
    """A block of two-dimensional activations, and one for the last position alone."""

    def forward(
        self, x: Tensor, visible: Tensor, bias: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """causal: of what is visible, nothing newer than the position that looks.

        Keys and values are two products instead of a copy of both halves, without what a bias of
        the keys would add to all scores of a query alike.
        """
        flat = x.reshape(-1, x.shape[-1])
        normed = self.attention_norm(flat)  # (B * T, D)
        to_key, to_value = self.key_value.weight.chunk(2)
        shape = (*x.shape[:2], len(to_key))
        value = F.linear(normed, to_value, self.key_value.bias[len(to_key) :])
        key, value = F.linear(normed, to_key).view(shape), value.view(shape)
        query = self.query(normed).view(shape)
        attended: Tensor = torch.onnx.ops.attention(
            query, key, value, mask(visible, bias),
            q_num_heads=self.n_heads, kv_num_heads=self.n_heads, is_causal=causal,
        )[0]  # fmt: skip
        return self.add(flat, attended.reshape(-1, len(to_key))).view(x.shape)

    def last(self, x: Tensor, seen: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The last position alone, (B, D), and how much of every other it took, (B, T).

        seen: bool (B, T), what it looks at; rows without any hold the same everywhere, so they
        may look at all of it. bias: (B, H, T).

        Keys and values of the others are not made: q . (W_k n) = (W_k^T q) . n, and the sum of
        W_v n is W_v of the sum. That takes D^2 multiplications instead of T D^2. The bias of the
        keys adds the same to every score, which softmax does not see.
        """
        normed = self.attention_norm(x)  # (B, T, D)
        to_key, to_value = self.key_value.weight.chunk(2)  # (D, D)
        size = len(to_key) // self.n_heads
        # 1 where a dimension belongs to a head, (H, D).
        of_head = torch.eye(self.n_heads, dtype=x.dtype).repeat_interleave(size, dim=1)
        query = self.query(normed[:, -1]).unsqueeze(1)  # (B, 1, D)
        query_of_keys = (query * (of_head / math.sqrt(size))) @ to_key  # (B, H, D)
        scores = query_of_keys @ normed.mT  # (B, H, T)
        if bias is not None:
            scores = scores + bias
        scores = torch.where(seen.unsqueeze(1), scores, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        found = (weights @ normed).view(-1, x.shape[-1])  # (B * H, D)
        value = F.linear(found, to_value, self.key_value.bias.chunk(2)[1])
        attended = (value.view(-1, *of_head.shape) * of_head).sum(dim=1)  # (B, D)
        return self.add(x[:, -1], attended), weights.mean(dim=1)


def newest_last(by_age: Tensor, length: int) -> Tensor:
    """What belongs to the ages of a history, oldest first: (L, ...) -> (T, ...)."""
    if by_age.shape[0] == 1:  # the exporter looks at two events
        by_age = by_age.repeat(2, *[1] * (by_age.dim() - 1))
    return by_age.flip(0)[by_age.shape[0] - length :]


def embed(
    self: SASRec, item_vectors: Tensor, known: Tensor, added: Tensor | None = None
) -> Tensor:
    """What enters the first block, (B, T, D), from positions in the order of the history."""
    places = newest_last(self.position_embedding.weight, known.shape[1])  # (T, D)
    added = places if added is None else places + added
    scaled = item_vectors * math.sqrt(self.config.hidden_dim)
    return scaled + added * known.to(added.dtype).unsqueeze(-1)


class SASRecForm(SASRec):
    """The last block computes one position, not T."""

    to_state = to_state
    embed = embed

    def state_and_attention(
        self, item_vectors: Tensor, known: Tensor, **context: Tensor
    ) -> tuple[Tensor, Tensor]:
        x, weights = through_blocks(self, self.embed(item_vectors, known), known)
        return self.to_state(self.final_norm(x)), weights * known


def recency_state_and_attention(
    self: RecencySASRec, item_vectors: Tensor, known: Tensor, **context: Tensor
) -> tuple[Tensor, Tensor]:
    """The same with history decay and time bias, of the last position alone."""
    on_events = on_last = on_sum = None
    on_earlier: list[Tensor] = []
    if self.config.time_gaps:
        assert isinstance(self.time_gaps, TimeBiasForm)
        on_events, on_scores = self.time_gaps.last(context)  # (B, T, D), (B, H + 1, T)
        on_last, on_sum = torch.split(on_scores, [self.config.n_heads, 1], dim=1)
        on_earlier = self.time_gaps.earlier(context)
    x = self.embed(item_vectors, known, on_events)
    x, weights = through_blocks(self, x, known, on_last, on_earlier)
    if not self.config.decayed_history:
        return self.to_state(self.final_norm(x)), weights * known
    recency = newest_last(self.recency, known.shape[1])  # (T,)
    decay = attention_weights(recency[None], known.unsqueeze(1), on_sum)
    decayed = (decay @ item_vectors).squeeze(1)  # (B, 1, T) @ (B, T, D) -> (B, D)
    x = on_sphere(self.final_norm(x), 1) + self.sum_share * self.sum_map(decayed)
    return self.to_state(x), weights * known


class RecencySASRecForm(RecencySASRec):
    """The last block and the decayed sum are computed for one position, not T."""

    to_state = to_state
    embed = embed
    state_and_attention = recency_state_and_attention


class FusionForm(Fusion):
    """The same; the counts are built in `counted_scores`."""

    to_state = to_state
    embed = embed
    state_and_attention = recency_state_and_attention


def through_blocks(
    model: SASRec,
    x: Tensor,
    known: Tensor,
    bias: Tensor | None = None,
    on_earlier: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor]:
    """The last position after all blocks, (B, D), and its attention in the last one, (B, T).

    bias: of the scores of the last block, (B, H, T); on_earlier: of those before it, (B, H, T, T)
    each. A file pads on the left, and nowhere else:
    what each position sees is then what is `known`, and not newer. Row 0 may look at row 0, which
    is the same everywhere.
    """
    *earlier, last = model.blocks
    visible = known[:, None, None, :] == known[:, None, :, None]  # (B, 1, T, T)
    untimed = [None] * (len(earlier) - len(on_earlier))
    for block, on_scores in zip(earlier, [*untimed, *on_earlier], strict=True):
        x = block(x, visible, on_scores, causal=True)  # (B, T, D)
    assert isinstance(last, TransformerBlockForm)
    return last.last(x, known, bias)


_FLAT = (AdditiveAttention, SelfAttention, MultiHeadAttention)
"""Their linear layers get vectors of three dimensions."""
FORMS: dict[type[nn.Module], type[nn.Module]] = {
    MultiHeadAttention: MultiHeadForm,
    AttentionPool: AttentionPoolForm,
    TransformerBlock: TransformerBlockForm,
    TimeBias: TimeBiasForm,
    SASRec: SASRecForm,
    RecencySASRec: RecencySASRecForm,
    Fusion: FusionForm,
}

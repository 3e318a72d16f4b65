"""Losses as pure functions of states, item table and targets."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits of one chunk stay in the processor's cache: (256, 3,700) float32 is 3.8 MB.
_CHUNK_LOGITS = 1 << 20


class _CatalogueSoftmax(torch.autograd.Function):
    """Cross-entropy and its gradient in one pass over chunks of rows.

    Autograd would keep the (M, N) logits and their softmax, hundreds of MB that are written
    and read several times; the closed form softmax - one_hot needs neither.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, targets: Tensor, weights: Tensor | None
    ) -> Tensor:
        n_states = states.shape[0]
        chunk = max(1, _CHUNK_LOGITS // table.shape[0])
        d_states = torch.empty_like(states)
        d_table = torch.zeros_like(table)
        total = states.new_zeros(())
        n_targets = states.new_tensor(n_states) if weights is None else weights.sum()
        for start in range(0, n_states, chunk):
            h = states[start : start + chunk]  # (m, D)
            target = targets[start : start + chunk].unsqueeze(1)  # (m, 1)
            logits = h @ table.T  # (m, N)
            logits -= logits.amax(dim=1, keepdim=True)
            true_logit = logits.gather(1, target)  # (m, 1)
            p = logits.exp_()  # (m, N), not yet a distribution
            z = p.sum(dim=1, keepdim=True)  # (m, 1)
            loss = z.log() - true_logit  # (m, 1)
            p /= z
            p.scatter_add_(1, target, p.new_full(target.shape, -1.0))  # softmax - one_hot
            if weights is not None:
                weight = weights[start : start + chunk].unsqueeze(1)  # (m, 1)
                loss *= weight
                p *= weight
            total += loss.sum()
            torch.mm(p, table, out=d_states[start : start + chunk])
            d_table.addmm_(p.T, h)
        ctx.save_for_backward(d_states / n_targets, d_table / n_targets)
        return total / n_targets

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_states, d_table = ctx.saved_tensors
        return grad[0] * d_states, grad[0] * d_table, None, None


def catalogue_softmax(
    states: Tensor, table: Tensor, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of the softmax over the whole catalogue.

    states: (M, D); table: item vectors (N, D); targets: row of the true item (M,); weights: how
    much each counts (M,), None: all alike. Returns a scalar, differentiable once in states and
    table.
    """
    loss: Tensor = _CatalogueSoftmax.apply(states, table, targets, weights)  # type: ignore[no-untyped-call]
    return loss


def pair_cross_entropy(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of rows of one pair that happened and K that did not.

    logits: (B, 1 + K), the pair that happened first; weights: how much each row counts (B,),
    None: all alike. Returns a scalar.
    """
    happened = torch.zeros_like(logits)
    happened[:, 0] = 1
    loss = F.binary_cross_entropy_with_logits(logits, happened, reduction="none").mean(dim=1)
    return loss.mean() if weights is None else (loss * weights).sum() / weights.sum()

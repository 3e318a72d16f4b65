"""Losses as pure functions of states, item table and targets.

    catalogue_softmax                  softmax over the whole catalogue
    sampled_softmax                    softmax over the true item and K negatives
    generalized_binary_cross_entropy   a binary decision on each of these items
    sampled_loss                       one of these two, as the settings say
    pair_cross_entropy                 pairs of a user and an item, with negatives of each row

The whole batch shares the K negatives, so that their logits are one matrix product.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnrec.train.layers.loss_config import LossConfig

_CHUNK_LOGITS = 1 << 19
_CHUNK_LOGITS_OF_GPU = 1 << 26  # 256 MB: a GPU wants few and large products
_CHUNK_ROWS = 64


def sampled_loss(
    config: LossConfig,
    states: Tensor,
    vectors: Tensor,
    targets: Tensor,
    negatives: Tensor,
    n_items: int,
    weights: Tensor | None = None,
) -> Tensor:
    """`sampled-softmax` or `gbce`, as the settings say; arguments as of these two."""
    if config.loss == "sampled-softmax":
        return sampled_softmax(states, vectors, targets, negatives, weights)
    return generalized_binary_cross_entropy(
        states,
        vectors,
        targets,
        negatives,
        weights,
        calibration=config.calibration,
        n_items=n_items,
    )


def draw_distinct(n: int, k: int, device: torch.device) -> Tensor:
    """At most `k` different numbers below `n`, all sets equally likely, in time that k decides."""
    if n < 4 * k:
        return torch.randperm(n, device=device)[:k]
    drawn = torch.empty(0, dtype=torch.int64, device=device)
    while len(drawn) < k:
        again = torch.randint(n, (k - len(drawn),), device=device)
        drawn = torch.unique(torch.cat([drawn, again]))
    return drawn


def _chunk_rows(n_items: int) -> int:
    """States whose logits are computed together.

    2 MB of logits stay in the processor's cache. The table of a large catalogue does not: it is
    read three times for each chunk, so chunks of fewer than 64 rows cost twice as much.
    """
    return max(_CHUNK_ROWS, _CHUNK_LOGITS // n_items)


class _CatalogueSoftmax(torch.autograd.Function):
    """Cross-entropy and its gradient, softmax - one_hot, in one pass over chunks of rows.

    Autograd would keep the (M, N) logits and their softmax, hundreds of MB. Torch's chunked
    `linear_cross_entropy` is slower, with weights by half (docs/benchmarks.md).
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, targets: Tensor, weights: Tensor
    ) -> Tensor:
        n_states, n_items = len(states), len(table)
        chunk = _chunk_rows(n_items)
        if states.is_cuda:
            chunk = max(chunk, _CHUNK_LOGITS_OF_GPU // n_items)
        # One buffer for all chunks: the allocator returns large ones to the system each time.
        buffer = states.new_empty(min(chunk, n_states), n_items)
        d_states = torch.empty_like(states)
        d_table = torch.zeros_like(table)
        loss = states.new_zeros(())
        for start in range(0, n_states, chunk):
            h = states[start : start + chunk]  # (m, D)
            target = targets[start : start + chunk].unsqueeze(1)  # (m, 1)
            weight = weights[start : start + chunk].unsqueeze(1)  # (m, 1)
            logits = torch.mm(h, table.T, out=buffer[: len(h)])  # (m, N)
            highest = logits.amax(dim=1, keepdim=True)  # (m, 1)
            logits -= highest
            true = logits.gather(1, target)  # (m, 1)
            p = logits.exp_()  # (m, N), z times the softmax
            z = p.sum(dim=1, keepdim=True)  # (m, 1)
            loss += (weight * (z.log() - true)).sum()
            p.scatter_add_(1, target, -z)
            # Scaling (m, D) after and before the products saves a pass over (m, N).
            scale = weight / z  # (m, 1)
            torch.mm(p, table, out=d_states[start : start + chunk]).mul_(scale)
            d_table.addmm_(p.T, h * scale)
        ctx.save_for_backward(d_states, d_table)
        return loss

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
    table. Apart from the gradients it needs memory for 2 MB of logits (on a GPU 256 MB), or for
    those of 64 states if that is more.
    """
    states = states.to(table.dtype)  # where matrix products are computed in fewer digits
    if weights is None:
        weights = states.new_ones(len(states))
    shares = weights / weights.sum()  # (M,)
    loss: Tensor = _CatalogueSoftmax.apply(states, table, targets, shares)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of the softmax over the true item and K negatives, shared by all.

    states: (M, D); table: item vectors (R, D); targets: row of the true item (M,); negatives:
    rows (K,), of which a state's own true item does not count; weights: how much each state
    counts (M,), None: all alike. Returns a scalar; with every item a negative once, it is
    `catalogue_softmax`. Negatives that are drawn evenly need no correction of the logits.
    """
    true_logit, logits, is_true = _candidate_logits(states, table, targets, negatives)
    logits = logits.masked_fill(is_true, -torch.inf)
    logits = torch.cat([true_logit.unsqueeze(1), logits], dim=1)  # (M, 1 + K)
    loss = F.cross_entropy(logits, torch.zeros_like(targets), reduction="none")  # (M,)
    return _weighted_mean(loss, weights)


def generalized_binary_cross_entropy(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    weights: Tensor | None = None,
    *,
    calibration: float,
    n_items: int,
) -> Tensor:
    """Mean binary cross-entropy of the true item and of K negatives, shared by all: gBCE.

    states: (M, D); table: item vectors; targets: row of the true item (M,); negatives: rows (K,),
    drawn from `n_items`, of which a state's own true item does not count; weights: how much each
    state counts (M,), None: all alike. Returns a scalar. `ValueError` for a calibration outside
    of 0 to 1.

    The probability of the true item is raised to beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    of gSASRec (Petrov and Macdonald 2023, arXiv 2308.07192), where alpha = K / (N - 1) is the
    share of the catalogue that is sampled, and t the calibration. Sampling few negatives makes a
    model overconfident: calibration 1 removes that, 0 leaves it and is the loss of SASRec (Kang
    and McAuley 2018, section III-E) divided by 1 + K.
    """
    if not 0 <= calibration <= 1:
        raise ValueError(f"calibration must be from 0 to 1, not {calibration!r}")
    alpha = min(1.0, len(negatives) / max(1, n_items - 1))
    power = 1 - calibration * (1 - alpha)  # beta, without its division by alpha
    true_logit, logits, is_true = _candidate_logits(states, table, targets, negatives)
    # log(sigmoid(x) ** power) is a product, which no logit makes overflow.
    log_true = power * F.logsigmoid(true_logit)  # (M,)
    log_false = F.logsigmoid(-logits).masked_fill(is_true, 0.0).sum(dim=1)  # (M,)
    return _weighted_mean(-(log_true + log_false) / (1 + len(negatives)), weights)


def pair_cross_entropy(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of rows of one positive pair and K negative ones.

    logits: (B, 1 + K), the positive pair first; weights: how much each row counts (B,), None: all
    alike. Returns a scalar.
    """
    positive = torch.zeros_like(logits)
    positive[:, 0] = 1
    loss = F.binary_cross_entropy_with_logits(logits, positive, reduction="none").mean(dim=1)
    return _weighted_mean(loss, weights)


def _candidate_logits(
    states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the true item (M,), of the negatives (M, K), and which of these are true."""
    # One look-up, because each has a gradient as large as the table.
    vectors = F.embedding(torch.cat([targets, negatives]), table)  # (M + K, D)
    true_logit = (states * vectors[: len(targets)]).sum(dim=1)  # (M,)
    kind = states.device.type
    has_autocast = torch.amp.is_autocast_available(kind)
    # Whatever the precision of the model is, logits need all their digits.
    with torch.autocast(kind, enabled=False) if has_autocast else nullcontext():
        logits = states.to(vectors.dtype) @ vectors[len(targets) :].T  # (M, K)
    return true_logit, logits, targets.unsqueeze(1) == negatives


def _weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()

"""Losses as pure functions of states, item table and targets.

    catalogue_softmax                  every item of the catalogue is compared; nothing is sampled
    sampled_softmax                    the true item and K negatives that the whole batch shares
    binary_cross_entropy               the same items, each a yes or no of its own
    generalized_binary_cross_entropy   the same, without the overconfidence that sampling brings
    pair_cross_entropy                 pairs of a user and an item, each with its own negatives

Sharing the negatives makes their logits one matrix product; `negatives` draws them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK_LOGITS = 1 << 19
_CHUNK_LOGITS_OF_GPU = 1 << 26  # 256 MB: a GPU wants few and large products
_CHUNK_ROWS = 64


def _chunk_rows(n_items: int) -> int:
    """States whose logits are computed together.

    2 MB of logits stay in the processor's cache. A big catalogue does not fit there anyway: its
    table is read three times a chunk, so that a few rows at a time cost twice as much as 64.
    """
    return max(_CHUNK_ROWS, _CHUNK_LOGITS // n_items)


class _CatalogueSoftmax(torch.autograd.Function):
    """Cross-entropy and its gradient in one pass over chunks of rows.

    Autograd would keep the (M, N) logits and their softmax, hundreds of MB that are written
    and read several times; the closed form softmax - one_hot needs neither.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        table: Tensor,
        targets: Tensor,
        weights: Tensor,
        label_smoothing: float,
    ) -> Tensor:
        n_states, n_items = len(states), len(table)
        chunk = _chunk_rows(n_items)
        if states.is_cuda:
            chunk = max(chunk, _CHUNK_LOGITS_OF_GPU // n_items)
        # One buffer for all chunks: the allocator gives big ones back to the system every time.
        buffer = states.new_empty(min(chunk, n_states), n_items)
        mean_vector = table.mean(dim=0, keepdim=True)  # (1, D): its logit is the mean of all
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
            mean_logit = h @ mean_vector.T - highest  # (m, 1)
            asked = torch.lerp(logits.gather(1, target), mean_logit, label_smoothing)  # (m, 1)
            p = logits.exp_()  # (m, N), z times the softmax
            z = p.sum(dim=1, keepdim=True)  # (m, 1)
            loss += (weight * (z.log() - asked)).sum()
            p.scatter_add_(1, target, (label_smoothing - 1) * z)
            # Scaling (m, D) after and before the products saves a pass over (m, N).
            scale = weight / z  # (m, 1)
            torch.mm(p, table, out=d_states[start : start + chunk]).mul_(scale)
            d_table.addmm_(p.T, h * scale)
        if label_smoothing:
            d_states.addmm_(weights.unsqueeze(1), mean_vector, alpha=-label_smoothing)
            d_table.sub_(weights @ states, alpha=label_smoothing / n_items)
        ctx.save_for_backward(d_states, d_table)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        d_states, d_table = ctx.saved_tensors
        return grad[0] * d_states, grad[0] * d_table, None, None, None


def catalogue_softmax(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean cross-entropy of the softmax over the whole catalogue.

    states: (M, D); table: item vectors (N, D); targets: row of the true item (M,); weights: how
    much each counts (M,), None: all alike; label_smoothing: share of each target that is spread
    evenly over the catalogue (Szegedy et al. 2016, section 7). Returns a scalar, differentiable
    once in states and table. `ValueError` for a share outside of 0 to 1.

    Beside the gradients it needs memory for 2 MB of logits (on a GPU 256 MB), or those of 64
    states if that is more.
    """
    _check_share("label_smoothing", label_smoothing)
    if weights is None:
        weights = states.new_ones(len(states))
    shares = weights / weights.sum()  # (M,)
    loss: Tensor = _CatalogueSoftmax.apply(states, table, targets, shares, label_smoothing)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    log_expected_counts: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of the softmax over the true item and K negatives, shared by all.

    states: (M, D); table: item vectors (N, D); targets: row of the true item (M,); negatives:
    rows (K,), of which a state's own true item does not count; weights: how much each state
    counts (M,), None: all alike. Returns a scalar; with every item a negative once, it is
    `catalogue_softmax`.

    log_expected_counts: log of how often each item is expected among the negatives (N,), q. It
    is subtracted from the logits of all candidates, the true one too, s - log q (the logQ
    correction: Bengio and Senecal 2008; Yi et al. 2019), so that what is learned does not depend
    on how often an item is drawn. The counts must not exceed 1, as those of `SharedNegatives`
    do not: corrected by more, a true item would weigh less than it does in the catalogue. None:
    no correction.
    """
    true_logit, logits, is_true = _candidate_logits(states, table, targets, negatives)
    if log_expected_counts is not None:
        true_logit = true_logit - log_expected_counts[targets]
        logits = logits - log_expected_counts[negatives]
    logits = logits.masked_fill(is_true, -torch.inf)
    logits = torch.cat([true_logit.unsqueeze(1), logits], dim=1)  # (M, 1 + K)
    loss = F.cross_entropy(logits, torch.zeros_like(targets), reduction="none")  # (M,)
    return _weighted_mean(loss, weights)


def binary_cross_entropy(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean binary cross-entropy of the true item and of K negatives, shared by all.

    states: (M, D); table: item vectors (N, D); targets: row of the true item (M,); negatives:
    rows (K,), of which a state's own true item does not count; weights: how much each state
    counts (M,), None: all alike. Returns a scalar: the loss of SASRec (Kang and McAuley 2018,
    section III-E) divided by 1 + K.
    """
    return _binary_cross_entropy(states, table, targets, negatives, weights, power=1.0)


def generalized_binary_cross_entropy(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    weights: Tensor | None = None,
    *,
    n_items: int,
    calibration: float,
) -> Tensor:
    """Binary cross-entropy with the probability of the true item raised to a power: gBCE.

    The power is beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha) of gSASRec (Petrov and Macdonald
    2023, arXiv 2308.07192), where alpha = K / (n_items - 1) is the share of the catalogue that is
    sampled, and t the calibration. Few negatives make a model too sure of what is relevant:
    calibration 0 leaves that, and is `binary_cross_entropy`; 1 undoes it.

    n_items: items that the negatives were drawn from, N; calibration: from 0 to 1, or there is a
    `ValueError`; the rest as in `binary_cross_entropy`. Returns a scalar.
    """
    _check_share("calibration", calibration)
    alpha = min(1.0, len(negatives) / max(1, n_items - 1))
    power = 1 - calibration * (1 - alpha)  # beta, without its division by alpha
    return _binary_cross_entropy(states, table, targets, negatives, weights, power)


def pair_cross_entropy(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of rows of one pair that happened and K that did not.

    logits: (B, 1 + K), the pair that happened first; weights: how much each row counts (B,),
    None: all alike. Returns a scalar.
    """
    happened = torch.zeros_like(logits)
    happened[:, 0] = 1
    loss = F.binary_cross_entropy_with_logits(logits, happened, reduction="none").mean(dim=1)
    return loss.mean() if weights is None else (loss * weights).sum() / weights.sum()


def _binary_cross_entropy(
    states: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    weights: Tensor | None,
    power: float,
) -> Tensor:
    true_logit, logits, is_true = _candidate_logits(states, table, targets, negatives)
    # log(sigmoid(x) ** power) is a product, which no logit makes overflow.
    log_true = power * F.logsigmoid(true_logit)  # (M,)
    log_false = F.logsigmoid(-logits).masked_fill(is_true, 0.0).sum(dim=1)  # (M,)
    return _weighted_mean(-(log_true + log_false) / (1 + len(negatives)), weights)


def _candidate_logits(
    states: Tensor, table: Tensor, targets: Tensor, negatives: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the true item (M,), of the negatives (M, K), and which of these are true."""
    # Looked up together, because every look-up has a gradient as big as the table.
    vectors = F.embedding(torch.cat([targets, negatives]), table)  # (M + K, D)
    true_logit = (states * vectors[: len(targets)]).sum(dim=1)  # (M,)
    logits = states @ vectors[len(targets) :].T  # (M, K)
    return true_logit, logits, targets.unsqueeze(1) == negatives


def _weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be from 0 to 1, not {value!r}")

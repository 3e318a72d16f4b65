"""The losses that sample, beside those that do not."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnrec.train.layers.losses import (
    catalogue_softmax,
    generalized_binary_cross_entropy,
    sampled_softmax,
)

N_ITEMS = 7
NEGATIVES = torch.tensor([5, 0, 3, 3])  # one comes twice, some are the true item of some state

seeds = st.integers(0, 2**31)


def problem(seed: int, n_states: int, n_items: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    states = torch.randn(n_states, 5, dtype=torch.float64, requires_grad=True)
    table = torch.randn(n_items, 5, dtype=torch.float64, requires_grad=True)
    return states, table, torch.randint(0, n_items, (n_states,))


@given(seed=seeds, n_items=st.integers(1, 9))
@settings(max_examples=30)
def test_with_every_item_a_negative_the_sampled_softmax_is_that_of_the_catalogue(
    seed: int, n_items: int
) -> None:
    states, table, targets = problem(seed, 6, n_items)
    loss = sampled_softmax(states, table, targets, torch.randperm(n_items))
    expected = catalogue_softmax(states, table, targets)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, (states, table))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (states, table)))


@given(seed=seeds)
@settings(max_examples=30)
def test_the_sampled_softmax_is_over_the_true_item_and_the_other_negatives(seed: int) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    logits = states @ table.T
    negatives = NEGATIVES.tolist()
    expected = [
        F.cross_entropy(row[[target, *(n for n in negatives if n != target)]], torch.tensor(0))
        for row, target in zip(logits, targets.tolist(), strict=True)
    ]
    loss = sampled_softmax(states, table, targets, NEGATIVES)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


@given(seed=seeds, calibration=st.floats(0, 1))
@settings(max_examples=30)
def test_gbce_raises_the_probability_of_the_true_item_to_the_power_beta(
    seed: int, calibration: float
) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    alpha = len(NEGATIVES) / (N_ITEMS - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    p = torch.sigmoid(states @ table.T)  # (6, 7)
    expected = [
        -(row[target] ** beta).log() - sum((1 - row[n]).log() for n in NEGATIVES if n != target)
        for row, target in zip(p, targets, strict=True)
    ]
    loss = generalized_binary_cross_entropy(
        states, table, targets, NEGATIVES, calibration=calibration
    )
    torch.testing.assert_close(loss, torch.stack(expected).mean() / 5)


@given(seed=seeds)
@settings(max_examples=20)
def test_gbce_without_calibration_or_with_the_whole_catalogue_is_plain_bce(seed: int) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    for negatives, calibration in ((NEGATIVES, 0.0), (torch.arange(N_ITEMS), 1.0)):
        loss = generalized_binary_cross_entropy(
            states, table, targets, negatives, calibration=calibration
        )
        is_true = F.one_hot(torch.zeros_like(targets), 1 + len(negatives)).double()
        true = (states * table[targets]).sum(dim=1, keepdim=True)
        logits = torch.cat([true, states @ table[negatives].T], dim=1)
        each = F.binary_cross_entropy_with_logits(logits, is_true, reduction="none")
        counts = torch.cat([torch.ones(6, 1).bool(), targets[:, None] != negatives], dim=1)
        torch.testing.assert_close(loss, (each * counts).mean())


@pytest.mark.parametrize("logit", [-50.0, 50.0])
def test_gbce_is_exact_where_the_probability_rounds_to_0_or_1(logit: float) -> None:
    states, table = torch.tensor([[logit]]), torch.ones(11, 1)
    true, negative = torch.tensor([0]), torch.tensor([1])
    for calibration, expected in ((0.0, 25), (1.0, 25 if logit > 0 else 2.5)):
        loss = generalized_binary_cross_entropy(
            states, table, true, negative, calibration=calibration
        )
        assert loss.item() == pytest.approx(expected)  # the logit is right for one of the two

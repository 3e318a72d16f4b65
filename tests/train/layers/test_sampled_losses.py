"""The losses that sample, beside those that do not."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnrec.train.layers.losses import (
    binary_cross_entropy,
    catalogue_softmax,
    generalized_binary_cross_entropy,
    sampled_softmax,
)

N_ITEMS = 7
NEGATIVES = torch.tensor([5, 0, 3, 3])  # one comes twice, some are the true item of some state
LOG_COUNTS = torch.tensor([0.9, 0.1, 0.5, 0.3, 1.0, 0.2, 0.7], dtype=torch.float64).log()

seeds = st.integers(0, 2**31)


def problem(seed: int, n_states: int, n_items: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    states = torch.randn(n_states, 5, dtype=torch.float64, requires_grad=True)
    table = torch.randn(n_items, 5, dtype=torch.float64, requires_grad=True)
    return states, table, torch.randint(0, n_items, (n_states,))


@given(seed=seeds, n_items=st.integers(1, 9), counted=st.booleans())
@settings(max_examples=30)
def test_with_every_item_a_negative_the_sampled_softmax_is_that_of_the_catalogue(
    seed: int, n_items: int, counted: bool
) -> None:
    states, table, targets = problem(seed, 6, n_items)
    once = torch.zeros(n_items, dtype=torch.float64) if counted else None  # log 1
    loss = sampled_softmax(states, table, targets, torch.randperm(n_items), once)
    expected = catalogue_softmax(states, table, targets)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, (states, table))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (states, table)))


@given(seed=seeds, corrected=st.booleans())
@settings(max_examples=30)
def test_the_sampled_softmax_is_over_the_true_item_and_the_other_negatives(
    seed: int, corrected: bool
) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    logits = states @ table.T - (LOG_COUNTS if corrected else 0)
    negatives = NEGATIVES.tolist()
    expected = [
        F.cross_entropy(row[[target, *(n for n in negatives if n != target)]], torch.tensor(0))
        for row, target in zip(logits, targets.tolist(), strict=True)
    ]
    counts = LOG_COUNTS if corrected else None
    loss = sampled_softmax(states, table, targets, NEGATIVES, counts)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


@given(seed=seeds)
@settings(max_examples=10)
def test_the_correction_makes_the_true_distribution_the_best_one_however_items_are_drawn(
    seed: int,
) -> None:
    """Every target and every set of negatives, each as likely as it is: the slope is zero."""
    torch.manual_seed(seed)
    true, expected = torch.randn(4).double().softmax(0), 0.05 + 0.9 * torch.rand(4).double()
    table = torch.eye(4, dtype=torch.float64)
    best = true.log().requires_grad_()
    corrected, plain = torch.zeros(4).double(), torch.zeros(4).double()
    for drawn in product([False, True], repeat=4):
        is_drawn = torch.tensor(drawn)
        chance = torch.where(is_drawn, expected, 1 - expected).prod()
        negatives = is_drawn.nonzero().squeeze(1)
        for log_counts, slope in ((expected.log(), corrected), (None, plain)):
            every_target = (best.expand(4, 4), table, torch.arange(4), negatives)
            loss = sampled_softmax(*every_target, log_counts, weights=true)
            slope += chance * torch.autograd.grad(loss, best)[0]
    torch.testing.assert_close(corrected, torch.zeros(4).double())
    assert plain.abs().max() > 1e-4


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
        states, table, targets, NEGATIVES, n_items=N_ITEMS, calibration=calibration
    )
    torch.testing.assert_close(loss, torch.stack(expected).mean() / 5)


@given(seed=seeds)
@settings(max_examples=20)
def test_gbce_without_calibration_or_with_the_whole_catalogue_is_bce(seed: int) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    everything = torch.arange(N_ITEMS)
    for negatives, calibration in ((NEGATIVES, 0.0), (everything, 1.0)):
        loss = generalized_binary_cross_entropy(
            states, table, targets, negatives, n_items=N_ITEMS, calibration=calibration
        )
        assert torch.equal(loss, binary_cross_entropy(states, table, targets, negatives))


@pytest.mark.parametrize("logit", [-50.0, 50.0])
def test_bce_is_exact_where_the_probability_rounds_to_0_or_1(logit: float) -> None:
    states, table = torch.tensor([[logit]]), torch.tensor([[1.0], [1.0]])
    true, negative = torch.tensor([0]), torch.tensor([1])
    loss = binary_cross_entropy(states, table, true, negative)
    assert loss.item() == pytest.approx(25)  # the logit is right for one of the two
    loss = generalized_binary_cross_entropy(
        states, table, true, negative, n_items=11, calibration=1
    )
    assert loss.item() == pytest.approx(25 if logit > 0 else 2.5)

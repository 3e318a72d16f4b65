"""Losses beside their plain formulas, where nothing is in chunks, shared or rearranged."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnrec.train.data.batches import Batch
from attnrec.train.layers import losses
from attnrec.train.layers.losses import (
    catalogue_softmax,
    generalized_binary_cross_entropy,
    sampled_softmax,
)
from attnrec.train.models.sasrec import SASRec, SASRecConfig


def small_sasrec() -> SASRec:
    """A model of 5 items with the loss of its settings, softmax."""
    return SASRec(SASRecConfig(n_items=5, max_len=4, hidden_dim=8)).double().eval()


def problem(seed: int, n_states: int, n_items: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    states = torch.randn(n_states, 5, dtype=torch.float64, requires_grad=True)
    table = torch.randn(n_items, 5, dtype=torch.float64, requires_grad=True)
    return states, table, torch.randint(0, n_items, (n_states,))


def in_chunks(rows: int, *args: Tensor) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "_chunk_rows", lambda n_items: rows)
        return catalogue_softmax(*args)


@given(
    seed=st.integers(0, 2**31),
    n_states=st.integers(1, 20),
    n_items=st.integers(1, 9),
    rows=st.integers(1, 25),
)
@settings(max_examples=60)
def test_it_is_the_cross_entropy_in_chunks_of_any_size(
    seed: int, n_states: int, n_items: int, rows: int
) -> None:
    states, table, targets = problem(seed, n_states, n_items)
    expected = F.cross_entropy(states @ table.T, targets)
    expected_gradients = torch.autograd.grad(3 * expected, (states, table))
    loss = in_chunks(rows, states, table, targets)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(3 * loss, (states, table))
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize("n_items", [1, 300, 3_700, 12_000, 100_000, 10_000_000])
def test_a_chunk_has_64_rows_and_more_only_while_its_logits_stay_in_2_mb(n_items: int) -> None:
    rows = losses._chunk_rows(n_items)
    assert rows >= 64
    assert rows == 64 or 4 * rows * n_items <= 2 << 20


def test_its_gradient_is_the_slope_of_its_value() -> None:
    states, table, targets = problem(0, 6, 4)
    assert torch.autograd.gradcheck(lambda s, t: catalogue_softmax(s, t, targets), (states, table))


def test_huge_logits_stay_finite() -> None:
    states = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    table = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    loss = catalogue_softmax(states, table, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)  # no loss in the first row, 2e4 in the second
    assert states.grad is not None and states.grad.tolist() == [[0.0], [-1.0]]


def test_the_training_loss_asks_at_targets_only_and_never_for_row_0() -> None:
    torch.manual_seed(0)
    model = small_sasrec()
    inputs = torch.tensor([[0, 0, 1, 2], [0, 3, 4, 5]])
    targets = torch.tensor([[0, 1, 2, 3], [3, 4, 5, 1]])
    table = model.item_table()
    states = model.states(F.embedding(inputs, table), inputs > 0)
    gains = [
        states[row, column] @ table[1:].T  # classes are the items: row 0 is none
        for row, column in ((0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3))
    ]
    items = torch.tensor([1, 2, 3, 3, 4, 5, 1])
    expected = F.cross_entropy(torch.stack(gains), items - 1)
    torch.testing.assert_close(model.training_loss(batch_of(inputs, targets)), expected)


def batch_of(inputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Batch:
    nobody = torch.zeros(len(inputs), dtype=torch.int64)
    return Batch(inputs, targets, weights, nobody, nobody[:, None][:, :0])


@given(
    seed=st.integers(0, 2**31),
    n_states=st.integers(1, 20),
    n_items=st.integers(1, 9),
    rows=st.integers(1, 25),
)
@settings(max_examples=30)
def test_a_weighted_target_counts_as_so_many(
    seed: int, n_states: int, n_items: int, rows: int
) -> None:
    states, table, targets = problem(seed, n_states, n_items)
    weights = torch.randint(1, 5, (n_states,))
    repeated = torch.repeat_interleave(torch.arange(n_states), weights)
    expected = F.cross_entropy(states[repeated] @ table.T, targets[repeated])
    expected_gradients = torch.autograd.grad(3 * expected, (states, table))
    loss = in_chunks(rows, states, table, targets, weights.double())
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(3 * loss, (states, table))
    torch.testing.assert_close(gradients, expected_gradients)


def test_the_training_loss_weighs_every_target_by_its_own_weight() -> None:
    torch.manual_seed(0)
    model = small_sasrec()
    inputs = torch.tensor([[0, 1, 2], [0, 0, 3]])
    targets = torch.tensor([[1, 2, 3], [0, 3, 4]])
    ones = torch.ones(2, 3, dtype=torch.float64)
    only = [ones * 0 for _ in range(2)]
    only[0][0, 2], only[1][1, 1] = 1, 1
    singles = [model.training_loss(batch_of(inputs, targets, weights)) for weights in only]
    both = model.training_loss(batch_of(inputs, targets, 3 * only[0] + only[1]))
    torch.testing.assert_close(both, (3 * singles[0] + singles[1]) / 4)
    plain = model.training_loss(batch_of(inputs, targets))
    torch.testing.assert_close(model.training_loss(batch_of(inputs, targets, ones)), plain)


N_ITEMS = 7
NEGATIVES = torch.tensor([5, 0, 3, 3])  # one comes twice, some are the true item of some state

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "catalogue_softmax": catalogue_softmax,
    "sampled_softmax": partial(sampled_softmax, negatives=NEGATIVES),
    "binary cross-entropy": partial(
        generalized_binary_cross_entropy, negatives=NEGATIVES, calibration=0.0
    ),
    "generalized_binary_cross_entropy": partial(
        generalized_binary_cross_entropy, negatives=NEGATIVES, calibration=0.75
    ),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
seeds = st.integers(0, 2**31)


@every_loss
@given(seed=seeds)
@settings(max_examples=10)
def test_the_gradient_is_the_slope_of_the_value(loss: Loss, seed: int) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    weights = torch.rand(6, dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(
        lambda s, t: loss(s, t, targets, weights=weights), (states, table)
    )


@every_loss
@given(seed=seeds, weight=st.floats(0.01, 100))
@settings(max_examples=20)
def test_weights_all_alike_change_nothing(loss: Loss, seed: int, weight: float) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    alike = torch.full((6,), weight, dtype=torch.float64)
    weighted = loss(states, table, targets, weights=alike)
    torch.testing.assert_close(weighted, loss(states, table, targets))


@every_loss
@given(seed=seeds)
@settings(max_examples=20)
def test_a_state_of_weight_zero_is_not_there(loss: Loss, seed: int) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    weights = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.float64)
    weighted = loss(states, table, targets, weights=weights)
    kept = weights > 0
    torch.testing.assert_close(weighted, loss(states[kept], table, targets[kept]))


@every_loss
@given(seed=seeds)
@settings(max_examples=20)
def test_the_order_of_a_batch_does_not_matter(loss: Loss, seed: int) -> None:
    states, table, targets = problem(seed, 9, N_ITEMS)
    weights = torch.rand(9, dtype=torch.float64) + 0.1
    order = torch.randperm(9)
    shuffled = loss(states[order], table, targets[order], weights=weights[order])
    torch.testing.assert_close(shuffled, loss(states, table, targets, weights=weights))


@every_loss
@given(seed=seeds, size=st.sampled_from([0.0, 1e-30, 50.0, 1e4, 1e15]))
@settings(max_examples=30)
def test_extreme_logits_give_no_nan(loss: Loss, seed: int, size: float) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    states = (states.detach().float() * size).requires_grad_()
    table = table.detach().float().requires_grad_()
    value = loss(states, table, targets)
    gradients = torch.autograd.grad(value, (states, table))
    assert all(torch.isfinite(x).all() for x in (value, *gradients))


@every_loss
def test_a_batch_of_one_state_is_enough(loss: Loss) -> None:
    states, table, targets = problem(0, 1, N_ITEMS)
    assert torch.isfinite(loss(states, table, targets))


def test_a_share_outside_of_0_to_1_is_refused() -> None:
    states, table, targets = problem(0, 2, N_ITEMS)
    with pytest.raises(ValueError, match="calibration must be from 0 to 1, not nan"):
        generalized_binary_cross_entropy(
            states, table, targets, NEGATIVES, calibration=float("nan")
        )

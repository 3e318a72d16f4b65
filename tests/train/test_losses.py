"""The softmax over the whole catalogue, beside torch's own cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnrec.train import losses
from attnrec.train.batches import Batch
from attnrec.train.losses import catalogue_softmax
from attnrec.train.models.sasrec import SASRec, SASRecConfig


def problem(seed: int, n_states: int, n_items: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    states = torch.randn(n_states, 5, dtype=torch.float64, requires_grad=True)
    table = torch.randn(n_items, 5, dtype=torch.float64, requires_grad=True)
    return states, table, torch.randint(0, n_items, (n_states,))


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 9), st.integers(1, 60))
@settings(max_examples=60)
def test_it_is_the_cross_entropy_in_chunks_of_any_size(
    seed: int, n_states: int, n_items: int, chunk_logits: int
) -> None:
    states, table, targets = problem(seed, n_states, n_items)
    expected = F.cross_entropy(states @ table.T, targets)
    expected_gradients = torch.autograd.grad(3 * expected, (states, table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "_CHUNK_LOGITS", chunk_logits)
        loss = catalogue_softmax(states, table, targets)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(3 * loss, (states, table))
    torch.testing.assert_close(gradients, expected_gradients)


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
    model = SASRec(SASRecConfig(n_items=5, max_len=4, hidden_dim=8)).double().eval()
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


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 9), st.integers(1, 60))
@settings(max_examples=30)
def test_a_weighted_target_counts_as_so_many(
    seed: int, n_states: int, n_items: int, chunk_logits: int
) -> None:
    states, table, targets = problem(seed, n_states, n_items)
    weights = torch.randint(1, 5, (n_states,))
    repeated = torch.repeat_interleave(torch.arange(n_states), weights)
    expected = F.cross_entropy(states[repeated] @ table.T, targets[repeated])
    expected_gradients = torch.autograd.grad(3 * expected, (states, table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "_CHUNK_LOGITS", chunk_logits)
        loss = catalogue_softmax(states, table, targets, weights.double())
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(3 * loss, (states, table))
    torch.testing.assert_close(gradients, expected_gradients)


def test_the_training_loss_weighs_every_target_by_its_own_weight() -> None:
    torch.manual_seed(0)
    model = SASRec(SASRecConfig(n_items=5, max_len=4, hidden_dim=8)).double().eval()
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

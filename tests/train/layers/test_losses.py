"""Losses compared with their plain formulas, and the settings that choose between them."""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnrec.train import TrainConfig, train
from attnrec.train.layers.loss_config import Loss, LossConfig
from attnrec.train.layers.losses import (
    catalogue_softmax,
    draw_distinct,
    generalized_binary_cross_entropy,
    sampled_softmax,
)
from attnrec.train.models.attention_pool import AttentionPool, AttentionPoolConfig
from attnrec.train.models.sasrec import SASRec, SASRecConfig
from attnrec.train.splits.batches import Batch

N_ITEMS = 7
NEGATIVES = torch.tensor([5, 0, 3, 3])  # one comes twice, some are the true item of some state

seeds = st.integers(0, 2**31)


def problem(seed: int, n_states: int, n_items: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    states = torch.randn(n_states, 5, dtype=torch.float64, requires_grad=True)
    table = torch.randn(n_items, 5, dtype=torch.float64, requires_grad=True)
    return states, table, torch.randint(0, n_items, (n_states,))


# --- the softmax over the catalogue


@pytest.mark.parametrize(
    ("n_states", "n_items"),
    [(1, 1), (5, 1), (20, 9), (64, 9_000), (65, 9_000), (200, 9_000)],  # 64 rows are a chunk
)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_it_is_the_cross_entropy_where_a_weighted_target_counts_as_so_many(
    is_weighted: bool, n_states: int, n_items: int
) -> None:
    states, table, targets = problem(0, n_states, n_items)
    weights = torch.randint(1, 5, (n_states,)) if is_weighted else torch.ones(n_states).long()
    rows = torch.repeat_interleave(torch.arange(n_states), weights)
    expected = F.cross_entropy(states[rows] @ table.T, targets[rows])
    expected_gradients = torch.autograd.grad(3 * expected, (states, table))
    loss = catalogue_softmax(states, table, targets, weights.double() if is_weighted else None)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(3 * loss, (states, table))
    torch.testing.assert_close(gradients, expected_gradients)


def small_sasrec(**loss: Any) -> SASRec:
    """A model of 5 items, by default with softmax."""
    torch.manual_seed(0)
    return SASRec(SASRecConfig(n_items=5, max_len=4, hidden_dim=8, **loss)).double().eval()


def batch_of(inputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Batch:
    nobody = torch.zeros(len(inputs), dtype=torch.int64)
    return Batch(inputs, targets, weights, nobody, nobody[:, None][:, :0])


def test_the_training_loss_is_at_targets_only_and_never_of_row_0() -> None:
    model = small_sasrec()
    inputs = torch.tensor([[0, 0, 1, 2], [0, 3, 4, 5]])
    targets = torch.tensor([[0, 1, 2, 3], [3, 4, 5, 1]])
    table = model.item_table()
    states = model.states(F.embedding(inputs, table), inputs > 0)
    logits = states[targets > 0] @ table[1:].T  # classes are the items: row 0 is none
    expected = F.cross_entropy(logits, targets[targets > 0] - 1)
    torch.testing.assert_close(model.training_loss(batch_of(inputs, targets)), expected)


def test_the_training_loss_weighs_every_target_by_its_own_weight() -> None:
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


# --- the losses that sample


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


@given(seed=seeds, calibration=st.sampled_from([0.0, 1.0]) | st.floats(0, 1))
@settings(max_examples=30)
def test_gbce_raises_the_probability_of_the_true_item_to_the_power_beta(
    seed: int, calibration: float
) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    alpha = len(NEGATIVES) / (N_ITEMS - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)  # 1 is plain cross-entropy
    p = torch.sigmoid(states @ table.T)  # (6, 7)
    expected = [
        -(row[target] ** beta).log() - sum((1 - row[n]).log() for n in NEGATIVES if n != target)
        for row, target in zip(p, targets, strict=True)
    ]
    loss = generalized_binary_cross_entropy(
        states, table, targets, NEGATIVES, calibration=calibration, n_items=N_ITEMS
    )
    torch.testing.assert_close(loss, torch.stack(expected).mean() / 5)


@pytest.mark.parametrize("logit", [-50.0, 50.0])
def test_gbce_is_exact_where_the_probability_rounds_to_0_or_1(logit: float) -> None:
    states, table = torch.tensor([[logit]]), torch.ones(11, 1)
    true, negative = torch.tensor([0]), torch.tensor([1])
    for calibration, expected in ((0.0, 25), (1.0, 25 if logit > 0 else 2.5)):
        loss = generalized_binary_cross_entropy(
            states, table, true, negative, calibration=calibration, n_items=11
        )
        assert loss.item() == pytest.approx(expected)  # the logit is right for one of the two


# --- every loss

LOSSES: dict[str, Callable[..., Tensor]] = {
    "catalogue_softmax": catalogue_softmax,
    "sampled_softmax": partial(sampled_softmax, negatives=NEGATIVES),
    "binary cross-entropy": partial(
        generalized_binary_cross_entropy, negatives=NEGATIVES, calibration=0.0, n_items=N_ITEMS
    ),
    "generalized_binary_cross_entropy": partial(
        generalized_binary_cross_entropy, negatives=NEGATIVES, calibration=0.75, n_items=N_ITEMS
    ),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@every_loss
@given(seed=seeds)
@settings(max_examples=10)
def test_the_gradient_is_the_slope_of_the_value(loss: Callable[..., Tensor], seed: int) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    weights = torch.rand(6, dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(
        lambda s, t: loss(s, t, targets, weights=weights), (states, table)
    )


@every_loss
@given(seed=seeds, weight=st.floats(0.01, 100))
@settings(max_examples=20)
def test_weights_are_relative_and_a_state_of_weight_zero_does_not_count(
    loss: Callable[..., Tensor], seed: int, weight: float
) -> None:
    states, table, targets = problem(seed, 6, N_ITEMS)
    weights = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.float64) * weight
    weighted = loss(states, table, targets, weights=weights)
    kept = weights > 0
    torch.testing.assert_close(weighted, loss(states[kept], table, targets[kept]))


@every_loss
@given(seed=seeds)
@settings(max_examples=20)
def test_the_order_of_a_batch_does_not_matter(loss: Callable[..., Tensor], seed: int) -> None:
    states, table, targets = problem(seed, 9, N_ITEMS)
    weights = torch.rand(9, dtype=torch.float64) + 0.1
    order = torch.randperm(9)
    shuffled = loss(states[order], table, targets[order], weights=weights[order])
    torch.testing.assert_close(shuffled, loss(states, table, targets, weights=weights))


@every_loss
@given(seed=seeds, n_states=st.integers(1, 6), size=st.sampled_from([0.0, 1e-30, 50.0, 1e4, 1e15]))
@settings(max_examples=30)
def test_extreme_logits_give_no_nan(
    loss: Callable[..., Tensor], seed: int, n_states: int, size: float
) -> None:
    states, table, targets = problem(seed, n_states, N_ITEMS)
    states = (states.detach().float() * size).requires_grad_()
    table = table.detach().float().requires_grad_()
    value = loss(states, table, targets)
    gradients = torch.autograd.grad(value, (states, table))
    assert all(torch.isfinite(x).all() for x in (value, *gradients))


# --- the settings


@pytest.mark.parametrize("loss", get_args(Loss))
def test_every_setting_reaches_its_loss(loss: Loss) -> None:
    model = small_sasrec(loss=loss, n_negatives=4, calibration=0.3)
    inputs, targets = torch.tensor([[0, 1, 2], [0, 0, 3]]), torch.tensor([[1, 2, 3], [0, 3, 4]])
    weights = torch.tensor([[1.0, 2.0, 0.5], [0.0, 3.0, 1.0]], dtype=torch.float64)
    torch.manual_seed(0)
    found = model.training_loss(batch_of(inputs, targets, weights))

    torch.manual_seed(0)
    negatives = torch.randperm(5)[:4]
    table = model.item_table()
    states = model.states(F.embedding(inputs, table), inputs > 0)[targets > 0]
    question = (states, table[1:], targets[targets > 0] - 1)
    counted = weights[targets > 0]
    expected = {
        "softmax": lambda: catalogue_softmax(*question, counted),
        "sampled-softmax": lambda: sampled_softmax(*question, negatives, counted),
        "gbce": lambda: generalized_binary_cross_entropy(
            *question, negatives, counted, calibration=0.3, n_items=5
        ),
    }
    torch.testing.assert_close(found, expected[loss]())


def test_a_sample_of_the_whole_catalogue_is_the_softmax() -> None:
    inputs, targets = torch.tensor([[0, 1, 2]]), torch.tensor([[1, 2, 3]])
    losses = [
        small_sasrec(**settings).training_loss(batch_of(inputs, targets))
        for settings in ({}, {"loss": "sampled-softmax", "n_negatives": 1000})
    ]
    torch.testing.assert_close(*losses)


@given(seed=seeds, n=st.integers(1, 500), k=st.integers(1, 60))
@settings(max_examples=50)
def test_negatives_are_different_items_as_many_as_there_are(seed: int, n: int, k: int) -> None:
    torch.manual_seed(seed)
    drawn = draw_distinct(n, k, torch.device("cpu")).tolist()
    assert len({*drawn}) == len(drawn) == min(n, k)
    assert all(0 <= item < n for item in drawn)


@pytest.mark.parametrize("n", [11, 60])  # by a permutation, and without one
def test_every_item_is_a_negative_as_often_as_another(n: int) -> None:
    torch.manual_seed(0)
    drawn = torch.cat([draw_distinct(n, 5, torch.device("cpu")) for _ in range(6000)])
    counts = torch.bincount(drawn, minlength=n).double()
    expected = 6000 * 5 / n
    assert ((counts - expected).square() / expected).sum() < n + 5 * (2 * n) ** 0.5  # chi squared


@pytest.mark.parametrize("loss", ["sampled-softmax", "gbce"])
@pytest.mark.parametrize("model", [SASRec, AttentionPool])
def test_a_step_has_gradients_for_the_rows_that_it_reads_alone(model, loss) -> None:
    config = {SASRec: SASRecConfig, AttentionPool: AttentionPoolConfig}[model]
    torch.manual_seed(0)
    learned = model(config(n_items=1000, max_len=4, hidden_dim=8, loss=loss, n_negatives=3))
    inputs, targets = torch.tensor([[0, 7, 9]]), torch.tensor([[7, 9, 2]])
    learned.training_loss(batch_of(inputs, targets)).backward()
    gradient = learned.item_embedding.weight.grad
    assert gradient.is_sparse
    rows = gradient.coalesce().indices()[0].tolist()
    assert {0, 2, 7, 9} <= {*rows}
    assert len(rows) <= 7


MODELS = [*((n, "sasrec") for n in get_args(Loss)), ("sampled-softmax", "attention-pool")]


@pytest.mark.parametrize(("loss", "model"), [*MODELS, ("gbce", "fusion")])
def test_every_loss_trains_models_with_a_table(loss, model, shop_log, tmp_path) -> None:
    changed = {"loss": loss, "n_negatives": 10, "hidden_dim": 8, "max_len": 8}
    config = TrainConfig(model, changed, epochs=3, batch_events=100, learning_rate=0.02)
    run = train(shop_log, config, out=tmp_path / "run")
    losses = [epoch.loss for epoch in run.metrics.epochs]
    assert losses[-1] < losses[0]
    assert run.model.config.loss == loss


@pytest.mark.parametrize(
    "wrong", [{"loss": "hinge"}, {"n_negatives": 0}, {"calibration": 1.1}], ids=str
)
def test_a_wrong_setting_is_named(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LossConfig(**wrong)


def test_a_wrong_calibration_is_refused_by_the_loss_too() -> None:
    states, table, targets = problem(0, 2, N_ITEMS)
    with pytest.raises(ValueError, match="calibration must be from 0 to 1, not nan"):
        generalized_binary_cross_entropy(
            states, table, targets, NEGATIVES, calibration=float("nan"), n_items=N_ITEMS
        )

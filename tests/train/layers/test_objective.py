"""Which loss is descended is a setting of every model with an item table."""

from typing import get_args

import numpy as np
import pytest
import torch

from attnrec.train import TrainConfig, train
from attnrec.train.data.split import leave_one_out
from attnrec.train.layers.loss_config import Loss, LossConfig
from attnrec.train.layers.losses import (
    binary_cross_entropy,
    catalogue_softmax,
    generalized_binary_cross_entropy,
    sampled_softmax,
)
from attnrec.train.layers.negatives import SharedNegatives
from attnrec.train.layers.objective import Objective
from attnrec.train.models.attention_pool import AttentionPool, AttentionPoolConfig
from attnrec.train.models.sasrec import SASRec, SASRecConfig

N_EVENTS = np.arange(30, 0, -1)


def question(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states, table = (torch.randn(n, 8, generator=generator) for n in (5, 30))
    return states, table, torch.randint(0, 30, (5,), generator=generator)


def test_by_default_it_is_the_softmax_over_the_catalogue() -> None:
    assert Objective(LossConfig(), N_EVENTS)(*question()) == catalogue_softmax(*question())


@pytest.mark.parametrize("loss", get_args(Loss))
def test_every_setting_reaches_the_loss_that_was_asked_for(loss: Loss) -> None:
    config = LossConfig(
        loss=loss, label_smoothing=0.2, n_negatives=6, negative_power=0.75, calibration=0.3
    )
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    torch.manual_seed(0)
    found = Objective(config, N_EVENTS)(*question(), weights)

    torch.manual_seed(0)
    drawn = SharedNegatives(6, N_EVENTS, 0.75)
    negatives, log_counts = drawn.draw(), drawn.log_expected_counts
    expected = {
        "softmax": lambda: catalogue_softmax(*question(), weights, label_smoothing=0.2),
        "sampled-softmax": lambda: sampled_softmax(*question(), negatives, log_counts, weights),
        "bce": lambda: binary_cross_entropy(*question(), negatives, weights),
        "gbce": lambda: generalized_binary_cross_entropy(
            *question(), negatives, weights, n_items=30, calibration=0.3
        ),
    }
    assert found == expected[loss]()


def test_a_catalogue_smaller_than_the_sample_is_taken_whole() -> None:
    sampled = Objective(LossConfig(loss="sampled-softmax", n_negatives=1000), N_EVENTS)
    torch.testing.assert_close(sampled(*question()), catalogue_softmax(*question()))


OTHERS = [("sampled-softmax", "attention-pool"), ("gbce", "fusion")]


@pytest.mark.parametrize(("loss", "model"), [*((n, "sasrec") for n in get_args(Loss)), *OTHERS])
def test_every_loss_trains_models_with_a_table(loss, model, shop_log, tmp_path) -> None:
    settings = {"loss": loss, "n_negatives": 10, "hidden_dim": 8, "max_len": 8}
    config = TrainConfig(model, settings, epochs=3, batch_events=100, learning_rate=0.02)
    run = train(shop_log, config, out=tmp_path / "run")
    losses = [epoch["loss"] for epoch in run.metrics["epochs"]]
    assert losses[-1] < losses[0]
    assert run.model.config.loss == loss


@pytest.mark.parametrize(
    ("config", "model"), [(SASRecConfig, SASRec), (AttentionPoolConfig, AttentionPool)]
)
def test_a_model_that_was_not_prepared_has_no_loss_rather_than_another_one(
    config, model, shop_events
) -> None:
    split = leave_one_out(shop_events)
    model = model(config(split.catalogue.n_items, loss="bce"))
    batch = next(iter(model.batches(split, 100).epoch(np.random.default_rng(0))))
    with pytest.raises(ValueError, match=r"has no loss yet: call prepare\(split\)"):
        model.training_loss(batch)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "hinge"},
        {"n_negatives": 0},
        {"negative_power": -1},
        {"label_smoothing": 1.0},
        {"calibration": 1.1},
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LossConfig(**wrong)

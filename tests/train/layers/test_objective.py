"""Which loss is descended is a setting of every model with an item table."""

from typing import get_args

import pytest
import torch

from attnrec.train import TrainConfig, train
from attnrec.train.layers.loss_config import Loss, LossConfig
from attnrec.train.layers.losses import (
    catalogue_softmax,
    generalized_binary_cross_entropy,
    loss_of,
    sampled_softmax,
)


def question(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states, table = (torch.randn(n, 8, generator=generator) for n in (5, 30))
    return states, table, torch.randint(0, 30, (5,), generator=generator)


def test_by_default_it_is_the_softmax_over_the_catalogue() -> None:
    assert loss_of(LossConfig(), *question()) == catalogue_softmax(*question())


@pytest.mark.parametrize("loss", get_args(Loss))
def test_every_setting_reaches_the_loss_that_was_asked_for(loss: Loss) -> None:
    config = LossConfig(loss=loss, n_negatives=6, calibration=0.3)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    torch.manual_seed(0)
    found = loss_of(config, *question(), weights)

    torch.manual_seed(0)
    negatives = torch.randperm(30)[:6]
    expected = {
        "softmax": lambda: catalogue_softmax(*question(), weights),
        "sampled-softmax": lambda: sampled_softmax(*question(), negatives, weights),
        "gbce": lambda: generalized_binary_cross_entropy(
            *question(), negatives, weights, calibration=0.3
        ),
    }
    assert found == expected[loss]()


def test_a_catalogue_smaller_than_the_sample_is_taken_whole() -> None:
    config = LossConfig(loss="sampled-softmax", n_negatives=1000)
    torch.testing.assert_close(loss_of(config, *question()), catalogue_softmax(*question()))


OTHERS = [("sampled-softmax", "attention-pool"), ("gbce", "fusion")]


@pytest.mark.parametrize(("loss", "model"), [*((n, "sasrec") for n in get_args(Loss)), *OTHERS])
def test_every_loss_trains_models_with_a_table(loss, model, shop_log, tmp_path) -> None:
    settings = {"loss": loss, "n_negatives": 10, "hidden_dim": 8, "max_len": 8}
    config = TrainConfig(model, settings, epochs=3, batch_events=100, learning_rate=0.02)
    run = train(shop_log, config, out=tmp_path / "run")
    losses = [epoch.loss for epoch in run.metrics.epochs]
    assert losses[-1] < losses[0]
    assert run.model.config.loss == loss


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "hinge"},
        {"loss": "bce"},
        {"n_negatives": 0},
        {"calibration": 1.1},
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LossConfig(**wrong)

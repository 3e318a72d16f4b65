"""Dropout: noise in training, nothing outside of it."""

import pytest
import torch

from attnrec.train.models import MODELS
from attnrec.train.models.base import RecommenderModel


def small(name: str, dropout: float) -> RecommenderModel:
    torch.manual_seed(0)
    kind = MODELS[name]
    return kind.model(kind.config(n_items=9, hidden_dim=8, dropout=dropout))


def computed(model: RecommenderModel) -> torch.Tensor:
    """What a step of training computes."""
    rows = torch.tensor([[1, 3, 1, 4]])
    if isinstance(model, MODELS["neumf"].model):
        return model.pair_logits(rows, user=torch.tensor([0]))  # type: ignore[attr-defined]
    vectors = torch.nn.functional.embedding(rows, model.item_table())  # type: ignore[operator]
    return model.states(vectors, rows > 0)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["sasrec", "fusion", "attention-pool", "neumf"])
def test_dropout_of_the_given_share_moves_what_training_computes_and_nothing_else(
    name: str,
) -> None:
    model, plain = small(name, 0.5), small(name, 0.0)
    shares = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
    assert shares == {0.5}
    assert torch.equal(computed(model.eval()), computed(plain.eval()))
    assert torch.equal(computed(plain.train()), computed(plain.eval()))
    assert not torch.equal(computed(model.train()), computed(model))

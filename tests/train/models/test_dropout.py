"""Dropout: noise in training, nothing outside of it, and the same mean in both."""

import pytest
import torch

from attnrec.train.models import MODELS
from attnrec.train.models.base import RecommenderModel

DROPPING = ["sasrec", "fusion", "attention-pool", "neumf"]
with_dropout = pytest.mark.parametrize("name", DROPPING)


def small(name: str, dropout: float) -> RecommenderModel:
    torch.manual_seed(0)
    kind = MODELS[name]
    return kind.model(kind.config(n_items=9, hidden_dim=8, dropout=dropout))


def places(model: RecommenderModel) -> list[torch.nn.Module]:
    """Where the model drops."""
    return [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]


@with_dropout
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_in_training_a_share_is_zero_and_the_rest_makes_up_for_it(name: str, share: float) -> None:
    model = small(name, share).train()
    assert places(model)
    for dropped_at in places(model):
        dropped = dropped_at(torch.full((100_000,), 3.0))
        kept = dropped[dropped != 0]
        assert 1 - len(kept) / len(dropped) == pytest.approx(share, abs=0.01)
        torch.testing.assert_close(kept, torch.full_like(kept, 3 / (1 - share)))


@with_dropout
def test_outside_of_training_nothing_changes(name: str) -> None:
    numbers = torch.randn(1000)
    for dropped_at in places(small(name, 0.9).eval()):
        assert torch.equal(dropped_at(numbers), numbers)


@pytest.mark.parametrize("name", ["sasrec", "attention-pool"])
def test_dropout_moves_the_states_of_a_training_alone(name: str) -> None:
    model, plain = small(name, 0.5), small(name, 0.0)
    rows = torch.tensor([[0, 3, 1, 4]])

    def states(of: RecommenderModel) -> torch.Tensor:
        vectors = torch.nn.functional.embedding(rows, of.item_table())  # type: ignore[operator]
        return of.states(vectors, rows > 0)  # type: ignore[operator]

    assert torch.equal(states(model.eval()), states(plain.eval()))
    assert torch.equal(states(plain.train()), states(plain.eval()))
    assert not torch.equal(states(model.train()), states(model))

"""Dropout: noise in training, nothing outside of it, and the same mean in both."""

import pytest
import torch

from attnrec.train.layers.dropout import Dropout


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_in_training_a_share_is_zero_and_the_rest_makes_up_for_it(share: float) -> None:
    torch.manual_seed(0)
    dropped = Dropout(share).train()(torch.full((100_000,), 3.0))
    kept = dropped[dropped != 0]
    assert 1 - len(kept) / len(dropped) == pytest.approx(share, abs=0.01)
    torch.testing.assert_close(kept, torch.full_like(kept, 3 / (1 - share)))


def test_outside_of_training_nothing_changes() -> None:
    numbers = torch.randn(1000)
    assert torch.equal(Dropout(0.9).eval()(numbers), numbers)

"""Negatives come as often as they say, and the same again from the same generator."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnrec.train.layers.negatives import SharedNegatives

logs = st.lists(st.integers(1, 1000), min_size=1, max_size=30).map(np.array)
powers = st.sampled_from([0.0, 0.5, 0.75, 1.0, 3.0])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(n_events=logs, power=powers, data=st.data())
@settings(max_examples=60)
def test_the_expected_counts_are_in_proportion_to_the_power_cut_at_one_and_sum_to_k(
    n_events: np.ndarray, power: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(n_events)))
    counts = SharedNegatives(k, n_events, power).log_expected_counts.double().exp().numpy()
    assert counts.sum() == pytest.approx(k, rel=1e-5)
    assert counts.max() <= 1
    below = counts < 1 - 1e-6
    ratio = counts[below] / n_events[below] ** power
    assert ratio == pytest.approx(ratio.max(initial=0), rel=1e-5)
    # An item that is cut is at least as frequent as one that is not.
    assert n_events[~below].min(initial=1000) >= n_events[below].max(initial=0) or power == 0


def test_an_item_is_drawn_as_often_as_is_expected() -> None:
    n_events = np.array([1, 500, 7, 7, 90, 30, 2, 11])  # in no order
    negatives = SharedNegatives(4, n_events, power=0.75)
    rng = generator(0)
    n_draws = 5000
    drawn = torch.cat([negatives.draw(rng) for _ in range(n_draws)])
    shares = torch.bincount(drawn, minlength=8) / n_draws
    torch.testing.assert_close(shares, negatives.log_expected_counts.exp(), atol=0.03, rtol=0)


@given(n_events=logs, power=powers, seed=st.integers(0, 2**31))
@settings(max_examples=60)
def test_as_many_as_the_catalogue_has_are_every_item_once(
    n_events: np.ndarray, power: float, seed: int
) -> None:
    negatives = SharedNegatives(len(n_events), n_events, power)
    drawn = negatives.draw(generator(seed))
    assert sorted(drawn.tolist()) == list(range(len(n_events)))
    assert negatives.log_expected_counts.abs().max() < 1e-6


@given(n_events=logs, power=powers, seed=st.integers(0, 2**31), data=st.data())
@settings(max_examples=60)
def test_a_draw_is_k_rows_of_the_catalogue_and_the_generator_alone_decides(
    n_events: np.ndarray, power: float, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(n_events)))
    drawn = SharedNegatives(k, n_events, power).draw(generator(seed))
    assert drawn.shape == (k,) and drawn.dtype == torch.int64
    assert drawn.min() >= 0 and drawn.max() < len(n_events)
    torch.rand(3)  # torch's own generator moves on
    assert torch.equal(drawn, SharedNegatives(k, n_events, power).draw(generator(seed)))


def test_without_a_generator_the_seed_of_torch_decides() -> None:
    negatives = SharedNegatives(5, np.arange(1, 101))
    torch.manual_seed(3)
    first, second = negatives.draw(), negatives.draw()
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(first, negatives.draw())


def test_what_cannot_be_drawn_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="`n_negatives=4` is more than the catalogue's 3 items"):
        SharedNegatives(4, np.array([3, 2, 1]))
    with pytest.raises(ValueError, match="without a training event"):
        SharedNegatives(2, np.array([3, 0, 1]))
    with pytest.raises(ValueError, match="power"):
        SharedNegatives(2, np.array([3, 2, 1]), power=-1)
    with pytest.raises(ValueError, match="n_negatives"):
        SharedNegatives(0, np.array([3, 2, 1]))

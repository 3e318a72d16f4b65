"""Attention, by hand and on both of its paths: training and export."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnrec.train.attention import multi_head_attention

seeds = st.integers(0, 2**32 - 1)


def test_attention_is_the_mean_of_the_values_weighted_by_softmax() -> None:
    # Scores ln 3 and 0, hence weights 3/4 and 1/4.
    query = torch.tensor([[[math.log(3)]]])
    key = torch.tensor([[[1.0], [0.0]]])
    value = torch.tensor([[[4.0], [0.0]]])
    visible = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    assert multi_head_attention(query, key, value, visible, 1).item() == pytest.approx(3.0)


def attention_by_hand(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor, n_heads: int
) -> np.ndarray:
    batch, n_queries, dim = query.shape
    size = dim // n_heads
    attended = np.zeros((batch, n_queries, dim))
    for b in range(batch):
        for head in range(n_heads):
            part = slice(head * size, (head + 1) * size)
            q, k, v = (x[b, :, part].numpy() for x in (query, key, value))
            for i in range(n_queries):
                seen = visible[b, 0, i].numpy()
                score = k[seen] @ q[i] / math.sqrt(size)
                weight = np.exp(score - score.max())
                attended[b, i, part] = weight @ v[seen] / weight.sum()
    return attended


@given(seeds, st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.sampled_from([1, 2, 3]))
@settings(max_examples=40)
def test_attention_equals_the_closed_form_on_both_paths(
    seed: int, batch: int, n_queries: int, n_keys: int, n_heads: int
) -> None:
    torch.manual_seed(seed)
    query = torch.randn(batch, n_queries, 6, dtype=torch.float64)
    key, value = torch.randn(2, batch, n_keys, 6, dtype=torch.float64)
    visible = torch.rand(batch, 1, n_queries, n_keys) < 0.5
    visible[..., 0] |= ~visible.any(dim=-1)  # every query sees a key
    expected = attention_by_hand(query, key, value, visible, n_heads)

    trained = multi_head_attention(query, key, value, visible, n_heads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_exporting", lambda: True)
        exported = multi_head_attention(query, key, value, visible, n_heads)
    np.testing.assert_allclose(trained, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(exported, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("exporting", [False, True])
def test_a_masked_key_has_no_influence(exporting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 8)
    visible = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    visible[:, :, :, 2] = False
    before = multi_head_attention(query, key, value, visible, 2)
    key[:, 2], value[:, 2] = 1e4, -1e4
    assert torch.equal(multi_head_attention(query, key, value, visible, 2), before)

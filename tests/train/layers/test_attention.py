"""The four forms of attention: by hand, beside torch's kernels, and beside each other."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attnrec.train.layers.attention import (
    AdditiveAttention,
    MultiHeadAttention,
    SelfAttention,
    attention_weights,
    dot_product_attention,
    dot_product_scores,
)

seeds = st.integers(0, 2**32 - 1)
few = st.integers(1, 5)
FORMS = ["plain", "scaled", "additive", "self", "multi-head"]


def attend(form: str, x: Tensor, visible: Tensor | None = None) -> Tensor:
    """The items x (B, T, 6) look at each other, in any of the forms: (B, T, 6)."""
    torch.manual_seed(5)
    if form == "additive":
        return AdditiveAttention(6, 6, 4).to(x.dtype)(x, x, x, visible)
    if form == "self":
        return SelfAttention(6).to(x.dtype)(x, visible)
    if form == "multi-head":
        heads = MultiHeadAttention(6, 2).to(x.dtype)
        nn.init.zeros_(heads.output.bias)  # so that nothing in, nothing out
        return heads(x, visible)
    return dot_product_attention(x, x, x, visible, scaled=form == "scaled")


def test_the_worked_example() -> None:
    user = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    items = torch.arange(4.0, 19.0, dtype=torch.float64).view(5, 3)
    scores = dot_product_scores(user, items, scaled=False)
    assert scores.tolist() == [[32, 50, 68, 86, 104]]
    for scaled, last, answer in (
        (False, 1 - 1.523e-8, 15.99999995),
        (True, 0.99996933, 15.999908),
    ):
        scores = dot_product_scores(user, items, scaled=scaled)
        ratio = math.exp(-18 / (math.sqrt(3) if scaled else 1))  # from item to item
        by_hand = [ratio ** (4 - i) * (1 - ratio) / (1 - ratio**5) for i in range(5)]
        weights = attention_weights(scores)[0]
        assert weights.tolist() == pytest.approx(by_hand, rel=1e-12)
        assert weights[-1].item() == pytest.approx(last, abs=1e-8)
        feature = dot_product_attention(user, items, items, scaled=scaled)[0]
        assert feature.tolist() == pytest.approx([answer, answer + 1, answer + 2], abs=1e-6)


def test_scaling_keeps_the_variance_of_scores_and_the_gradient_of_softmax() -> None:
    torch.manual_seed(0)
    gradients: dict[bool, list[float]] = {True: [], False: []}
    for dim in (16, 1024):
        query, key = torch.randn(500, 1, dim), torch.randn(500, 10, dim)
        for scaled in (True, False):
            scores = dot_product_scores(query, key, scaled=scaled)
            assert scores.var().item() == pytest.approx(1 if scaled else dim, rel=0.1)
            weights = attention_weights(scores)
            gradients[scaled].append((weights * (1 - weights)).amax(-1).mean().item())
    assert gradients[True][1] == pytest.approx(gradients[True][0], rel=0.1)
    assert gradients[False][1] < gradients[False][0] / 4


@given(seeds, few, few, few)
@settings(max_examples=40)
def test_weights_sum_to_one_over_what_is_visible(
    seed: int, batch: int, n_queries: int, n_keys: int
) -> None:
    torch.manual_seed(seed)
    scores = torch.randn(batch, n_queries, n_keys, dtype=torch.float64) * 100
    visible = torch.rand(batch, 1, n_keys) < 0.5
    weights = attention_weights(scores, visible)
    hidden = ~visible.expand_as(weights)
    assert (weights >= 0).all() and (weights[hidden] == 0).all()
    expected = visible.any(dim=-1).expand(batch, n_queries).double()  # 0 where all are hidden
    torch.testing.assert_close(weights.sum(dim=-1), expected)
    scores[hidden] += 1e6
    assert torch.equal(attention_weights(scores, visible), weights)


@given(seeds, few, few, few, st.booleans())
@settings(max_examples=40)
def test_dot_product_attention_is_that_of_torch(
    seed: int, batch: int, n_queries: int, n_keys: int, scaled: bool
) -> None:
    torch.manual_seed(seed)
    query = torch.randn(batch, n_queries, 6, dtype=torch.float64)
    key, value = torch.randn(2, batch, n_keys, 6, dtype=torch.float64)
    visible = torch.rand(batch, n_queries, n_keys) < 0.5
    expected = F.scaled_dot_product_attention(
        query, key, value, attn_mask=visible, scale=None if scaled else 1.0
    )
    attended = dot_product_attention(query, key, value, visible, scaled=scaled)
    torch.testing.assert_close(attended, expected)


@given(seeds, few, few, few)
@settings(max_examples=20)
def test_additive_attention_follows_its_equation(
    seed: int, batch: int, n_queries: int, n_keys: int
) -> None:
    torch.manual_seed(seed)
    attention = AdditiveAttention(query_dim=3, key_dim=2, hidden_dim=4).double()
    query = torch.randn(batch, n_queries, 3, dtype=torch.float64)
    key = torch.randn(batch, n_keys, 2, dtype=torch.float64)
    value = torch.randn(batch, n_keys, 5, dtype=torch.float64)
    with torch.no_grad():
        attended = attention(query, key, value)
        for b in range(batch):
            for i in range(n_queries):
                score = [
                    attention.score.weight[0]
                    @ torch.tanh(
                        attention.query.weight @ query[b, i] + attention.key.weight @ key[b, j]
                    )
                    for j in range(n_keys)
                ]
                weight = torch.stack(score).exp()
                expected = weight @ value[b] / weight.sum()
                torch.testing.assert_close(attended[b, i], expected)


@given(seeds, few, few, st.sampled_from([1, 2, 3, 6]))
@settings(max_examples=40)
def test_multi_head_attention_is_that_of_torch(
    seed: int, batch: int, length: int, n_heads: int
) -> None:
    torch.manual_seed(seed)
    ours = MultiHeadAttention(6, n_heads).double()
    theirs = nn.MultiheadAttention(6, n_heads, batch_first=True).double()
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    x = torch.randn(batch, length, 6, dtype=torch.float64)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    expected, weights = theirs(x, x, x, attn_mask=~causal)
    torch.testing.assert_close(ours(x, causal), expected)
    torch.testing.assert_close(ours.attend(x, causal), (expected, weights))


def test_one_head_is_self_attention() -> None:
    torch.manual_seed(0)
    one = MultiHeadAttention(6, n_heads=1)
    nn.init.eye_(one.output.weight)
    nn.init.zeros_(one.output.bias)
    alone = SelfAttention(6)
    alone.load_state_dict({k: v for k, v in one.state_dict().items() if "output" not in k})
    x, causal = torch.randn(2, 4, 6), torch.ones(4, 4, dtype=torch.bool).tril()
    torch.testing.assert_close(one(x, causal), alone(x, causal))


@pytest.mark.parametrize("attention", [SelfAttention(6), MultiHeadAttention(6, 3)])
def test_the_last_item_asking_alone_gets_the_last_answer(attention: SelfAttention) -> None:
    x, causal = torch.randn(2, 4, 6), torch.ones(4, 4, dtype=torch.bool).tril()
    last = attention(x, causal[-1:], queries=x[:, -1:])
    torch.testing.assert_close(last, attention(x, causal)[:, -1:])


@pytest.mark.parametrize("form", FORMS)
def test_where_everything_is_hidden_the_answer_is_zero_and_so_is_the_gradient(form: str) -> None:
    x = torch.randn(2, 4, 6, requires_grad=True)
    visible = torch.ones(4, 4, dtype=torch.bool).tril(-1)  # the first item sees nothing
    attended = attend(form, x, visible)
    assert (attended[:, 0] == 0).all() and attended.isfinite().all()
    attended[:, 0].sum().backward()
    assert x.grad is not None and (x.grad == 0).all()


@pytest.mark.parametrize("form", ["plain", "scaled", "additive"])
def test_a_single_item_is_the_answer(form: str) -> None:
    x = torch.randn(3, 1, 6)
    torch.testing.assert_close(attend(form, x), x)


@given(seeds, st.sampled_from(FORMS), few)
@settings(max_examples=40)
def test_attention_knows_no_order(seed: int, form: str, length: int) -> None:
    torch.manual_seed(seed)
    x, order = torch.randn(2, length, 6, dtype=torch.float64), torch.randperm(length)
    torch.testing.assert_close(attend(form, x[:, order]), attend(form, x)[:, order])

"""What is computed by other steps in an exported file is the same as in training."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attnrec.train.layers.attention import multi_head_attention
from attnrec.train.layers.blocks import TransformerBlock
from attnrec.train.layers.sphere import on_sphere
from attnrec.train.layers.time_bias import TimeBias, gaps_between
from attnrec.train.models.sasrec import SASRec, SASRecConfig

Both = Callable[[Callable[[], Tensor]], tuple[Tensor, Tensor]]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Both:
    """A computation as in training and as in the exporter."""

    def compute(call: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        trained = call()
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_exporting", lambda: True)
            return trained, call()

    return compute


def test_causal_attention_sees_nothing_newer() -> None:
    # In training. Torch cannot run the ONNX node with a mask as well; the gate runs the file.
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 5, 8, dtype=torch.float64)
    visible = torch.rand(2, 1, 5, 5) < 0.6
    visible[..., 0] = True
    for prior in (None, torch.randn(2, 2, 5, 5, dtype=torch.float64)):
        expected = multi_head_attention(query, key, value, visible.tril(), 2, prior)
        found = multi_head_attention(query, key, value, visible, 2, prior, causal=True)
        torch.testing.assert_close(found, expected)


def test_the_last_position_alone_is_that_of_the_whole_block(both: Both) -> None:
    torch.manual_seed(1)
    block = TransformerBlock(8, 2, 0.0).double().eval()
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    known = torch.arange(5) >= torch.tensor([[0], [2], [4]])  # (B, T)
    x, prior = torch.randn(3, 5, 8).double(), torch.randn(3, 2, 5, 5).double()
    visible = known[:, None, None, :].expand(3, 1, 5, 5)
    for chosen in (None, prior):
        last_prior = None if chosen is None else chosen[:, :, -1:]
        expected = block(x, visible | torch.eye(5, dtype=torch.bool), chosen)[:, -1]
        for found in both(lambda p=last_prior: block.last(x, known, p)[0]):
            torch.testing.assert_close(found, expected)
    weights = block.last(x, known)[1]
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3).double())
    assert not weights[~known].any()


def test_the_state_of_the_file_is_that_of_training() -> None:
    torch.manual_seed(2)
    config = SASRecConfig(n_items=9, max_len=6, hidden_dim=8, n_blocks=2, fading_sum=True)
    model = SASRec(config).eval()

    known = torch.arange(6) >= torch.tensor([[0], [3], [6]])  # the last history is empty
    vectors = torch.nn.functional.embedding(
        torch.randint(1, 10, (3, 6)) * known, model.item_table()
    )
    with torch.no_grad():
        expected = model.states(vectors, known)[:, -1]
        torch.testing.assert_close(model.state(vectors, known), expected)


def test_tables_of_gaps_are_interpolated_alike(both: Both) -> None:
    torch.manual_seed(3)
    tables = TimeBias(hidden_dim=4, n_blocks=1, n_heads=2)
    for table in tables.parameters():
        torch.nn.init.normal_(table)
    asked = torch.tensor([[100, 2**40, -1, 5, 7]])
    times = torch.tensor([[99, 0, 3, -1, 7]])
    trained, exported = both(
        lambda: tables.pairs(gaps_between(asked.unsqueeze(2), times.unsqueeze(1)))
    )
    torch.testing.assert_close(exported, trained, rtol=0, atol=2e-6)
    trained, exported = both(lambda: tables.events(gaps_between(asked, times)))
    torch.testing.assert_close(exported, trained, rtol=0, atol=2e-6)


def test_vectors_lie_on_the_sphere_and_zeros_stay(both: Both) -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-8, 0.0]])
    expected = torch.tensor([[6.0, 8.0], [0.0, 0.0], [10.0, 0.0]])
    for found in both(lambda: on_sphere(x, 0.1)):
        torch.testing.assert_close(found, expected)

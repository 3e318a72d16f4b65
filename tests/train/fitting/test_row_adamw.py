"""AdamW by row, compared with torch's, where every row moves in every step."""

import pytest
import torch
from torch import Tensor, nn

from attnrec.train.fitting.row_adamw import RowAdamW

N, D = 40, 3
SETTINGS = {"lr": 1e-2, "weight_decay": 0.1}


def table(*, sparse: bool) -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(N, D, sparse=sparse)


def descend(embedding: nn.Embedding, rows: Tensor) -> None:
    """Gradients of a loss that pulls every row elsewhere."""
    towards = torch.stack([rows.sin(), rows.cos(), rows / N], dim=1)
    embedding.zero_grad()
    (embedding(rows) - towards).square().sum().backward()


def batches(n_steps: int, n_read: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(1)
    return [torch.randint(N, (n_read,), generator=draws) for _ in range(n_steps)]


def trained(n_read: int, n_steps: int = 200) -> tuple[Tensor, Tensor]:
    """Weights by AdamW, and by row."""
    dense, sparse = table(sparse=False), table(sparse=True)
    plain = torch.optim.AdamW(dense.parameters(), **SETTINGS)
    by_row = RowAdamW(sparse.parameters(), **SETTINGS)
    with by_row.catching_up(sparse):
        for rows in batches(n_steps, n_read):
            for embedding, optimizer in ((dense, plain), (sparse, by_row)):
                descend(embedding, rows)
                optimizer.step()
    by_row.catch_up_all()
    return dense.weight.detach(), sparse.weight.detach()


@pytest.mark.parametrize("n_read", [1, 3, 20])
def test_the_weights_are_those_of_adamw(n_read: int) -> None:
    dense, sparse = trained(n_read)
    moved = (dense - table(sparse=False).weight).norm()
    assert (sparse - dense).norm() < 0.01 * moved


def test_without_what_a_row_has_left_out_the_weights_are_others() -> None:
    dense, _ = trained(3)
    lazy = table(sparse=True)
    optimizer = torch.optim.SparseAdam(lazy.parameters(), lr=1e-2)
    for rows in batches(200, 3):
        descend(lazy, rows)
        optimizer.step()
    moved = (dense - table(sparse=False).weight).norm()
    assert (lazy.weight - dense).norm() > 0.2 * moved


def test_a_table_that_is_read_whole_in_every_step_has_exactly_the_same_weights() -> None:
    dense, sparse = table(sparse=False), table(sparse=True)
    plain = torch.optim.AdamW(dense.parameters(), **SETTINGS)
    by_row = RowAdamW(sparse.parameters(), **SETTINGS)
    for _ in range(20):
        for embedding, optimizer in ((dense, plain), (sparse, by_row)):
            descend(embedding, torch.arange(N))
            optimizer.step()
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=1e-6, atol=1e-6)


def test_a_row_that_is_never_read_decays_and_is_not_touched_before() -> None:
    embedding = table(sparse=True)
    before = embedding.weight.detach().clone()
    optimizer = RowAdamW(embedding.parameters(), **SETTINGS)
    with optimizer.catching_up(embedding):
        for _ in range(10):
            descend(embedding, torch.tensor([0]))
            optimizer.step()
    assert torch.equal(embedding.weight[1:], before[1:])
    optimizer.catch_up_all()
    torch.testing.assert_close(embedding.weight[1:], before[1:] * (1 - 1e-3) ** 10)


def test_what_was_left_out_survives_storing() -> None:
    rows = batches(40, 2)
    embeddings = [table(sparse=True), table(sparse=True)]
    for embedding, interrupted in zip(embeddings, (False, True), strict=True):
        optimizer = RowAdamW(embedding.parameters(), **SETTINGS)
        for step, read in enumerate(rows):
            if interrupted and step == 20:
                kept = optimizer.state_dict()
                optimizer = RowAdamW(embedding.parameters(), **SETTINGS)
                optimizer.load_state_dict(kept)
            with optimizer.catching_up(embedding):
                descend(embedding, read)
                optimizer.step()
        optimizer.catch_up_all()
    assert torch.equal(embeddings[0].weight, embeddings[1].weight)


def test_after_a_training_nothing_hangs_on_the_embedding() -> None:
    embedding = table(sparse=True)
    optimizer = RowAdamW(embedding.parameters(), **SETTINGS)
    with optimizer.catching_up(embedding):
        assert embedding._forward_pre_hooks
    assert not embedding._forward_pre_hooks

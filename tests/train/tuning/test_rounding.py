"""Item vectors in 4 bits: what they may be, and which scores stay."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from attnrec.export.quantize.item_vectors import quantize
from attnrec.train.tuning.rounding import BLOCK, CODES, round_table, scales_of


def random_table(n_rows: int, dim: int, seed: int, *, is_unit: bool) -> torch.Tensor:
    table = torch.randn(n_rows, dim, generator=torch.Generator().manual_seed(seed))
    return F.normalize(table, dim=1) if is_unit else table


def states_near(table: torch.Tensor, seed: int) -> torch.Tensor:
    """Mixtures of three items, as states of histories are."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(1, len(table), (2000, 3), generator=generator)
    return table[rows].mean(dim=1)


def nearest(table: torch.Tensor) -> torch.Tensor:
    """Every value to its nearest code."""
    blocks = table.view(len(table), -1, min(BLOCK, table.shape[1]))
    scales = scales_of(blocks, *CODES)
    codes = (blocks / scales).round().clamp(*CODES)
    return (codes * scales).view_as(table)


@given(
    n_rows=st.integers(2, 60),
    dim=st.sampled_from([1, 8, 24, 32, 64]),
    seed=st.integers(0, 1000),
    is_unit=st.booleans(),
)
def test_whoever_rounds_to_four_bits_again_finds_the_same_vectors(
    n_rows: int, dim: int, seed: int, is_unit: bool
) -> None:
    table = random_table(n_rows, dim, seed, is_unit=is_unit)
    table[1] *= table[1] > 0.1  # zeros are codes like others
    if is_unit:
        table[1] = F.normalize(table[1] + (table[1] == 0).all(), dim=0)
    states = states_near(table, seed)
    rounded = round_table(table, states)
    again = quantize(rounded.numpy(), states.numpy(), 32 if dim % 32 == 0 else dim, 4)
    values = torch.from_numpy(again.codes * again.scales).view_as(rounded).float()
    torch.testing.assert_close(values, rounded, rtol=1e-5, atol=1e-6)


def test_vectors_of_length_1_stay_so_and_others_keep_theirs() -> None:
    unit = random_table(50, 64, 0, is_unit=True)
    lengths = round_table(unit, states_near(unit, 0)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(50))
    free = random_table(50, 64, 0, is_unit=False)
    ratio = round_table(free, states_near(free, 0)).norm(dim=1) / free.norm(dim=1)
    assert 0.02 > float((ratio - 1).abs().mean()) > 1e-4


def test_a_vector_of_nothing_stays_nothing() -> None:
    table = random_table(20, 32, 0, is_unit=False)
    table[0] = 0
    rounded = round_table(table, states_near(table, 0))
    assert not rounded[0].any() and rounded.isfinite().all()


def test_scores_of_the_best_items_move_less_than_by_other_codes() -> None:
    # More tastes than a vector has numbers, so that together they go everywhere.
    generator = torch.Generator().manual_seed(3)
    taste = torch.arange(2000) % 100
    table = torch.randn(100, 64, generator=generator)[taste]
    table = F.normalize(table + 0.5 * torch.randn(2000, 64, generator=generator), dim=1)
    rows = torch.randint(0, 20, (4000, 5), generator=generator) * 100
    rows = rows + torch.randint(0, 100, (4000, 1), generator=generator)  # of one taste
    states = F.normalize(table[rows].mean(dim=1), dim=1)
    codes = quantize(table.numpy(), states.numpy(), 32, 4)
    for_all_states = torch.from_numpy(codes.codes * codes.scales).reshape(2000, 64)
    best = (states @ table.T).topk(10).indices

    def moved(rounded: torch.Tensor) -> float:
        return float((states @ (rounded - table).T).gather(1, best).square().mean())

    own = moved(round_table(table, states))
    assert own < 0.7 * moved(for_all_states)
    assert own < 0.5 * moved(nearest(table))

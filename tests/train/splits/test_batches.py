"""Windows over the past: which event is the target after which, and how much a batch holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attnrec.train.splits.batches import SequenceBatches, left_pad
from attnrec.train.splits.split import Sequences

Batch = tuple[Tensor, Tensor]

lengths_of_users = st.lists(st.integers(0, 30), min_size=1, max_size=15).filter(any)
max_lens = st.integers(1, 12)
batch_sizes = st.integers(1, 100)


def numbered_events(lengths: list[int]) -> Sequences:
    """Every event is an item of its own: events 1, 2, ... in the order of the log."""
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    return Sequences(offsets, np.arange(1, offsets[-1] + 1, dtype=np.int32))


def one_epoch(sequences: Sequences, max_len: int, batch_events: int, seed: int) -> list[Batch]:
    batches = SequenceBatches(sequences, max_len, batch_events)
    epoch = batches.epoch(np.random.default_rng(seed))
    return [(batch.history_index, batch.targets) for batch in epoch]


def windows(batches: list[Batch]) -> list[tuple[list[int], list[int]]]:
    """Inputs and targets of every row, padding cut off."""
    rows = []
    for inputs, targets in batches:
        for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
            start = next(i for i, event in enumerate(target) if event)
            assert row[:start] == target[:start] == [0] * start, "padding is on the left"
            rows.append((row[start:], target[start:]))
    return rows


def test_histories_are_padded_on_the_left_and_cut_to_the_newest() -> None:
    histories = [np.array(h, dtype=np.int64) for h in ([], [7], [1, 2, 3, 4])]
    assert left_pad(histories, 3).tolist() == [[0, 0, 0], [0, 0, 7], [2, 3, 4]]
    assert left_pad(histories, 9).tolist() == [[0, 0, 0, 0], [0, 0, 0, 7], [1, 2, 3, 4]]
    assert left_pad(histories[:1], 5).tolist() == [[0]], "the start token"


@given(lengths_of_users, max_lens, batch_sizes, st.integers(0, 99))
def test_every_event_is_a_target_exactly_once(
    lengths: list[int], max_len: int, batch_events: int, seed: int
) -> None:
    batches = one_epoch(numbered_events(lengths), max_len, batch_events, seed)
    targets = [event for _, target in windows(batches) for event in target]
    assert sorted(targets) == list(range(1, sum(lengths) + 1))


@given(lengths_of_users, max_lens, batch_sizes, st.integers(0, 99))
def test_the_input_of_a_target_is_the_event_before_it(
    lengths: list[int], max_len: int, batch_events: int, seed: int
) -> None:
    sequences = numbered_events(lengths)
    first_events = set((sequences.offsets[:-1] + 1).tolist())
    for inputs, targets in windows(one_epoch(sequences, max_len, batch_events, seed)):
        before = [0 if event in first_events else event - 1 for event in targets]
        assert inputs == before
        # The rest of a window follows without a gap and within one user.
        assert targets == list(range(targets[0], targets[-1] + 1))
        assert not first_events & set(targets[1:])
        assert len(targets) <= max_len


@given(lengths_of_users, max_lens, batch_sizes, st.integers(0, 99))
def test_a_batch_is_never_larger_than_configured(
    lengths: list[int], max_len: int, batch_events: int, seed: int
) -> None:
    for inputs, targets in one_epoch(numbered_events(lengths), max_len, batch_events, seed):
        assert inputs.shape == targets.shape
        assert inputs.numel() <= max(batch_events, max_len)  # one full window always fits


@given(lengths_of_users, max_lens, batch_sizes, st.integers(0, 99))
def test_the_same_seed_gives_the_same_batches(
    lengths: list[int], max_len: int, batch_events: int, seed: int
) -> None:
    sequences = numbered_events(lengths)
    first = one_epoch(sequences, max_len, batch_events, seed)
    second = one_epoch(sequences, max_len, batch_events, seed)
    assert [b[1].tolist() for b in first] == [b[1].tolist() for b in second]


@pytest.mark.parametrize(("length", "moves"), [(8, False), (9, True), (50, True)])
def test_only_histories_longer_than_a_window_are_cut_elsewhere_each_epoch(
    length: int, moves: bool
) -> None:
    sequences = numbered_events([length])
    cuts = {
        tuple(sorted(targets[0] for _, targets in windows(one_epoch(sequences, 8, 40, seed))))
        for seed in range(30)
    }
    assert (len(cuts) > 1) == moves


def test_a_long_history_is_cut_into_full_windows() -> None:
    rows = windows(one_epoch(numbered_events([50]), 8, 1000, seed=1))
    lengths = [len(targets) for _, targets in sorted(rows, key=lambda row: row[1])]
    assert all(length == 8 for length in lengths[1:-1]) and len(lengths) in (7, 8)


def test_a_batch_holds_histories_of_similar_length() -> None:
    batches = one_epoch(numbered_events([1, 2, 3, 10, 11, 12] * 10), 12, 40, seed=0)
    padding = sum(int((targets == 0).sum()) for _, targets in batches)
    assert padding / sum(targets.numel() for _, targets in batches) < 0.15


def test_batches_come_in_another_order_each_epoch() -> None:
    sequences = numbered_events(list(range(1, 9)))  # one batch for each length
    orders = {
        tuple(targets.shape[1] for _, targets in one_epoch(sequences, 8, 8, seed))
        for seed in range(10)
    }
    assert len(orders) > 5


def test_histories_of_one_length_meet_others_each_epoch() -> None:
    sequences = numbered_events([3] * 20)
    batches = [
        frozenset(targets[:, 0].tolist())
        for seed in range(10)
        for _, targets in one_epoch(sequences, 3, 6, seed)
    ]
    assert len(set(batches)) > 50

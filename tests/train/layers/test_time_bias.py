"""Time bias: how long ago events were, as tables see it, and what a model learns from it."""

import numpy as np
import pandas as pd
import pytest
import torch

from attnrec.train import DataRecipe, TrainConfig, train
from attnrec.train.layers.time_bias import (
    TimeBias,
    forget_times,
    moments,
    place_of,
    shares_of_rows,
)
from attnrec.train.models.sasrec_recency import RecencyConfig, RecencySASRec
from attnrec.train.splits.batches import SequenceBatches
from attnrec.train.splits.split import Sequences

NOW = 1_700_000_000


def test_times_lie_on_a_logarithmic_scale_and_unknown_ones_apart() -> None:
    requested_at = torch.tensor([NOW, NOW, NOW, NOW, 2**63 - 1, NOW, -1, NOW])
    timestamps = torch.tensor([NOW, NOW - 3, NOW - 31, NOW + 50, 0, -1, NOW, -(2**63)])
    shares = shares_of_rows(place_of(requested_at, timestamps))  # (8, R)
    assert shares.sum(dim=1).tolist() == pytest.approx([1] * 8)
    assert ((shares > 0).sum(dim=1) <= 2).all()
    place = (shares @ torch.arange(-1.0, shares.shape[1] - 1)).tolist()
    # An event after the request: clocks differ. Centuries are no more than decades.
    assert place == pytest.approx([0, 2, 3.5, 0, 16, -1, -1, -1])


def test_a_second_more_hardly_moves_what_a_time_adds() -> None:
    module = TimeBias(4, 2)
    torch.nn.init.normal_(module.of_event)
    seconds = torch.tensor([10**n + step for n in range(1, 9) for step in (-1, 0, 1)])
    events = torch.full((24, 1), NOW)
    added, _ = module({"timestamps": events, "request_time": NOW + seconds})  # (24, 1, 4)
    added = added.detach().view(8, 3, 4)
    assert float(added.diff(dim=1).abs().amax()) < 0.5
    assert float(added[2:].diff(dim=1).abs().amax()) < 0.005


def test_a_position_predicts_at_the_time_of_the_next_event_and_the_last_one_at_the_request() -> (
    None
):
    timestamps = torch.tensor([[-1, 10, 20], [5, 6, 7]])
    context = {"timestamps": timestamps, "request_time": torch.tensor([30, -1])}
    requested_at, used = moments(context)
    assert requested_at.tolist() == [[10, 20, 30], [-1, -1, -1]]
    assert used.tolist() == [[-1, 10, 20], [-1, -1, -1]]


def test_a_share_of_the_requests_forgets_its_times() -> None:
    torch.manual_seed(0)
    context = {"timestamps": torch.ones(4000, 2).long(), "request_time": torch.ones(4000).long()}
    forgotten = (forget_times(context, 0.2)["request_time"] == -1).float().mean()
    assert 0.17 < float(forgotten) < 0.23


def test_batches_hold_the_times_of_the_events_and_of_the_last_target() -> None:
    lengths = [3, 1, 9, 5]
    offsets = np.cumsum([0, *lengths])
    rows = np.arange(1, 19, dtype=np.int32)
    times = 100 + 7 * np.arange(18)
    time_of = dict(zip(rows.tolist(), times.tolist(), strict=True))
    batches = SequenceBatches(Sequences(offsets, rows, None, times), 4, 8)
    n_targets = 0
    for batch in batches.epoch(np.random.default_rng(0)):
        assert batch.timestamps is not None and batch.request_time is not None
        for events, at in zip(batch.history_index, batch.timestamps, strict=True):
            assert at.tolist() == [time_of.get(row, -1) for row in events.tolist()]
        last = batch.targets[:, -1].tolist()
        assert batch.request_time.tolist() == [time_of[row] for row in last]
        n_targets += int((batch.targets > 0).sum())
    assert n_targets == 18


def test_a_share_of_the_histories_is_trained_on_without_times() -> None:
    torch.manual_seed(0)
    model = RecencySASRec(RecencyConfig(9, 6, 8, dropout=0.0, time_gaps=True))
    for weight in model.time_gaps.parameters():
        torch.nn.init.normal_(weight)
    history = torch.tensor([[1, 4]]).expand(2000, -1)
    times = torch.tensor([[NOW - 9, NOW]]).expand(2000, -1)

    @torch.no_grad()
    def states(request_time: int) -> torch.Tensor:
        context = {"timestamps": times, "request_time": torch.full((2000,), request_time)}
        return model.states(model.item_table()[history], history > 0, **context)[:, -1]

    in_training = states(NOW + 60)
    model.eval()
    timed, timeless = states(NOW + 60)[0], states(-1)[0]
    assert (timed - timeless).abs().max() > 0.1
    is_timed, is_timeless = (
        torch.isclose(in_training, state, atol=1e-4).all(dim=1) for state in (timed, timeless)
    )
    assert (is_timed ^ is_timeless).all()
    assert 0.2 < is_timeless.float().mean() < 0.3
    assert torch.isclose(states(NOW + 60), timed, atol=1e-4).all()


def pausing_log() -> pd.DataFrame:
    """After minutes comes the item after the last, after days the one seven places further on."""
    rng = np.random.default_rng(0)
    events = []
    for user in range(300):
        item, time = int(rng.integers(30)), NOW
        for _ in range(8):
            events.append((user, item, time))
            pause = rng.random() < 0.5
            item = (item + (7 if pause else 1)) % 30
            time += int(rng.integers(10**5, 10**6) if pause else rng.integers(1, 300))
    return pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])


def test_what_depends_on_the_pause_is_learned(tmp_path) -> None:
    def hits(name: str, **settings: bool) -> float:
        sizes = {"hidden_dim": 32, "max_len": 4, "dropout": 0.0, **settings}
        config = TrainConfig(
            "sasrec", sizes, epochs=10, batch_events=60, patience=20, threads=1, learning_rate=0.01
        )
        run = train(pausing_log(), config, recipe=DataRecipe(repeats=True), out=tmp_path / name)
        return run.metrics["valid"]["ndcg@5"]

    blind, sees = hits("blind"), hits("sees", time_gaps=True)
    # Without times it can only put both items first, in either order: (1 + 0.63) / 2.
    assert blind < 0.85 and sees > 0.95


def test_time_bias_is_switched_by_true_or_false() -> None:
    with pytest.raises(ValueError, match="`time_gaps` must be true or false, not 'yes'"):
        RecencyConfig(9, time_gaps="yes")  # type: ignore[arg-type]

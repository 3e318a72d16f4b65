"""What is popular now: lift of the newest events, faded by the time of a request."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from attnrec.runtime import DataError
from attnrec.train import TimeSplit, TrainConfig, train
from attnrec.train.data.interactions import Interactions
from attnrec.train.models.base import catalogue_scores
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.fusion_config import FusionConfig, fusion_recipe
from attnrec.train.splits.split import Split, divide

DAY = 86_400
END = 1_600_000_000
GIVEN = {"time_gaps": True, "trend": True, "history_decay": 0.6, "count_weight": 0.0}


def in_days(log: Interactions) -> Interactions:
    """The log with one event a day, user after user, the last one at END."""
    n = len(log.timestamps)
    return replace(log, timestamps=END - DAY * np.arange(n - 1, -1, -1))


def split_of(shop_events) -> Split:
    return divide(in_days(shop_events), TimeSplit(test_days=40))


def with_trend(split: Split, **settings) -> Fusion:
    torch.manual_seed(0)
    shape = {"hidden_dim": 8, "max_len": 10}
    model = Fusion(FusionConfig(split.catalogue.n_items, **shape, **GIVEN, **settings)).eval()
    model.prepare(split)
    return model


def asked_at(model: Fusion, *times: int) -> torch.Tensor:
    """Scores at these times, (B, N + 1), of histories without times."""
    n = len(times)
    context = {"timestamps": torch.full((n, 1), -1), "request_time": torch.tensor(times)}
    with torch.no_grad():
        return catalogue_scores(model, torch.ones(n, 1, dtype=torch.int64), **context)


def test_lift_is_recent_over_overall_popularity_shrunk_by_five_events(shop_events) -> None:
    split = split_of(shop_events)
    model = with_trend(split, trend_weight=1.0, trend_half_life=7.0)
    rows, times = split.sequences.rows, split.sequences.timestamps
    recent = 0.5 ** ((times.max() - times) / (7 * DAY))
    for row in (1, 5, split.catalogue.n_items):
        own = rows == row
        expected = recent.sum() * own.mean()
        lift = math.log((recent[own].sum() + 5) / (expected + 5))
        assert float(model.trend.lift[row]) == pytest.approx(lift, abs=1e-6)
    assert model.trend.lift[0] == 0
    assert int(model.trend.until) == times.max()


def test_it_counts_events_by_their_weights(shop_events) -> None:
    split = split_of(shop_events)
    weights = np.where(split.sequences.rows == 3, 2.0, 1.0).astype(np.float32)
    twice = replace(split, sequences=replace(split.sequences, weights=weights))
    one, two = (with_trend(s, trend_weight=1.0, trend_half_life=7.0) for s in (split, twice))
    assert float(two.trend.lift[3].abs()) > float(one.trend.lift[3].abs())


def test_it_is_added_to_every_score_and_half_of_it_is_left_after_the_fade(shop_events) -> None:
    split = split_of(shop_events)
    settings = {"trend_half_life": 7.0, "trend_fade": 20.0}
    model = with_trend(split, trend_weight=0.7, **settings)
    without = with_trend(split, trend_weight=0.0, **settings)
    until = int(model.trend.until)
    times = (until, until + 20 * DAY, until + 40 * DAY, until + 10**9)
    added = asked_at(model, *times) - asked_at(without, *times)
    for row, left in enumerate((1, 0.5, 0.25, 0)):
        torch.testing.assert_close(added[row], 0.7 * left * model.trend.lift, atol=1e-5, rtol=0)


def test_without_a_time_or_before_the_end_of_the_log_nothing_has_faded(shop_events) -> None:
    model = with_trend(split_of(shop_events), trend_weight=0.7, trend_half_life=7.0)
    until = int(model.trend.until)
    added = model.trend.at(torch.tensor([-(2**63), -1, 0, until - DAY, until]))
    torch.testing.assert_close(added, (0.7 * model.trend.lift).expand(5, -1))


class Gains:
    """Validation in which a weight of 1 gains by some mean and spread over users."""

    def __init__(self, model: Fusion, mean: float, spread: float) -> None:
        self.model, self.mean = model, mean
        self.noise = np.random.default_rng(0).normal(0, spread, 400)
        self.noise -= self.noise.mean()

    def __call__(self) -> float:
        weight, half_life = self.model.config.trend_weight, self.model.config.trend_half_life
        self.of_users = np.full(400, 0.1 - 0.001 * (half_life != 7.0))
        if weight:
            gain = self.mean * (1 - abs(1 - weight)) if self.mean > 0 else self.mean
            self.of_users += gain + self.noise
        return float(self.of_users.mean())


def test_validation_chooses_half_life_and_weight(shop_events) -> None:
    model = with_trend(split_of(shop_events))
    assert model.n_choices == 4 + 9 + 2
    model.tune(Gains(model, 0.01, 0.01))
    assert (model.config.trend_half_life, model.config.trend_weight) == (7.0, 1.0)
    fixed = with_trend(split_of(shop_events), trend_half_life=7.0, trend_weight=1.0)
    assert torch.equal(model.trend.lift, fixed.trend.lift)
    assert model.trend.config is model.config is model.counts.config
    assert "at least +0.00" in model.reasons["trend_weight"]
    assert fixed.n_choices == 0


@pytest.mark.parametrize(("mean", "spread"), [(0.01, 0.2), (-0.01, 0.01)])
def test_it_is_left_out_where_the_gain_is_not_certain(shop_events, mean, spread) -> None:
    model = with_trend(split_of(shop_events))
    model.tune(Gains(model, mean, spread))
    assert (model.config.trend, model.config.trend_weight) == (False, None)
    assert "do not certainly gain by it" in model.reasons["trend"]
    assert not any(name.startswith("trend") for name in model.state_dict())
    assert model.trend_scores(request_time=torch.tensor([END])) is None


def test_only_a_cut_in_time_can_show_what_it_is_worth(shop_events, shop_log) -> None:
    log = in_days(shop_events)
    rules = fusion_recipe(divide(log, TimeSplit(test_days=40, valid_days=10)))
    assert rules["trend"][0] is True
    assert rules["trend_fade"][0] == 20.0  # twice as long as it was validated for
    assert fusion_recipe(divide(log, "leave-one-out"))["trend"][0] is False
    with pytest.raises(ValueError, match="`time_gaps=true`: set both, or neither"):
        FusionConfig(10, trend=True)


def test_a_training_without_cut_or_without_times_refuses_it(shop_log, tmp_path) -> None:
    settings = {"time_gaps": True, "trend": True, "hidden_dim": 8}
    timed = shop_log.assign(timestamp=END + shop_log["timestamp"])
    with pytest.raises(DataError, match="not with split leave-one-out; cut with `split=time`"):
        train(timed, TrainConfig(settings=settings), out=tmp_path / "run")
    with pytest.raises(DataError, match="an order and no times; leave the setting `trend` out"):
        train(shop_log, TrainConfig(settings=settings), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []

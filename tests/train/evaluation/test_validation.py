"""The validation of a model during its training."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.train import DataRecipe, TrainConfig, train
from attnrec.train.data.load import load_interactions
from attnrec.train.evaluation.validation import Validation
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.fusion_config import FusionConfig
from attnrec.train.models.popularity import Popularity, PopularityConfig
from attnrec.train.splits.split import divide

# Of the items "a" to "f" the first is the most popular; others took one of them twice.
TARGET_USERS = {"last": "f a b", "next": "f b c", "third": "a c f", "again": "a a f"}
"""The items of each user with targets: training, validation and test."""


@pytest.fixture
def validation_of() -> "ValidationOf":
    return ValidationOf()


class ValidationOf:
    """Validation of the most popular items, with or without what was seen."""

    def __init__(self) -> None:
        histories = dict(TARGET_USERS)
        for place, item in enumerate("abcde"):
            histories |= {f"{item}{n}": f"{item} {item}" for n in range(10 - place)}
        rows = [
            (user, item, time)
            for user, items in histories.items()
            for time, item in enumerate(items.split())
        ]
        log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
        events, _ = load_interactions(log, DataRecipe(repeats=True, time_unit="order"))
        self.split = divide(events, "leave-one-out")
        self.model = Popularity(PopularityConfig(self.split.catalogue.n_items))
        self.model.fit(self.split)

    def __call__(self, *, repeats: bool) -> Validation:
        return Validation(self.split, repeats=repeats)


def gains(*ranks: float) -> float:
    """NDCG@10 of one target each, at these ranks."""
    return sum(1 / math.log2(1 + rank) for rank in ranks) / len(ranks)


# In the order of TARGET_USERS. Seen items make room, and a repeated one cannot be recommended.
RANKS = [(False, (1, 2, 2, math.inf)), (True, (1, 2, 3, 1))]


@pytest.mark.parametrize(("repeats", "ranks"), RANKS)
def test_the_second_last_event_is_the_target_and_repeats_are_a_matter_of_the_log(
    repeats: bool, ranks: tuple[float, ...], validation_of: ValidationOf
) -> None:
    validation = validation_of(repeats=repeats)
    assert validation.ndcg(validation_of.model) == pytest.approx(gains(*ranks))
    assert validation.choosing(validation_of.model)() == pytest.approx(gains(*ranks))
    figures = validation.metrics(validation.ranking(validation_of.model))
    assert figures.values["ndcg@10"] == pytest.approx(gains(*ranks))


def test_of_very_many_users_a_sample_validates_and_says_so(tmp_path: Path) -> None:
    n_users = 20_500
    users = np.repeat(np.arange(n_users), 3)
    items = (users * 7 + np.tile([0, 1, 5], n_users)) % 50
    rows = {"user_id": users, "item_id": items, "timestamp": np.tile([1, 2, 3], n_users)}
    run = train(pd.DataFrame(rows), TrainConfig("popularity"), out=tmp_path / "run")
    valid = run.metrics.valid
    assert (valid["n_users"], valid["sample_of"]) == (20_000, n_users)
    again = Validation(run.split, repeats=False).held_out
    once_more = Validation(run.split, repeats=False).held_out
    assert again.users.tolist() == once_more.users.tolist() and len(set(again.users)) == 20_000
    assert not np.array_equal(again.users, np.arange(20_000))  # from all, not from the first
    for part in ("valid", "test"):
        whole = run.split.held_out(part)  # what attnrec evaluate measures on
        assert len(whole.users) == n_users and whole.sample_of is None


def test_a_validation_of_all_users_is_no_sample(validation_of: ValidationOf) -> None:
    validation = validation_of(repeats=False)
    figures = validation.metrics(validation.ranking(validation_of.model)).to_json()
    assert figures["n_users"] == len(validation.held_out.users) and "sample_of" not in figures


def test_a_short_time_limit_is_met_by_asking_fewer_users() -> None:
    rows = [(user, (user * 7 + n) % 40, n) for user in range(600) for n in range(4)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    events, _ = load_interactions(log, DataRecipe(time_unit="order"))
    split = divide(events, "leave-one-out")
    model = Fusion(FusionConfig(split.catalogue.n_items, 4, 8)).eval()
    model.prepare(split)
    asked = {}
    for minutes in (1000.0, 1e-6):
        validation = Validation(split, repeats=False)
        checks, after = validation.plan(model, minutes)
        assert 0 < checks < after  # the choices follow the last check
        asked[minutes] = len(validation.held_out.histories)
        assert validation.metrics(validation.ranking(model)).n_users == asked[minutes]
    assert asked == {1000.0: 600, 1e-6: 200}

"""What an event weighs in the loss, by its type."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnrec.runtime.errors import DataError
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.split import all_events
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.loop import fit_by_gradient
from attnrec.train.models.sasrec import SASRec, SASRecConfig

SHOP = pd.DataFrame(
    {
        "user_id": ["u"] * 6,
        "item_id": ["a", "b", "a", "c", "a", "c"],
        "timestamp": [1, 2, 3, 4, 5, 6],
        "event": ["view", "view", "cart", "view", "purchase", "view"],
    }
)


def weighed(data: Interactions) -> list[tuple[str, int, float]]:
    assert data.weights is not None and data.weights.dtype == "float32"
    items = data.item_ids[data.item_index].tolist()
    return list(zip(items, data.timestamps.tolist(), data.weights.tolist(), strict=True))


def test_every_event_weighs_what_its_type_does_and_others_weigh_one() -> None:
    recipe = DataRecipe(event_weights={"cart": 2, "purchase": 4.5}, repeats=True)
    found = weighed(load_interactions(SHOP, recipe)[0])
    assert found == [
        ("a", 1, 1), ("b", 2, 1), ("a", 3, 2), ("c", 4, 1), ("a", 5, 4.5), ("c", 6, 1)
    ]  # fmt: skip


def test_without_repeats_the_first_event_gets_the_largest_weight_of_its_pair() -> None:
    recipe = DataRecipe(event_weights={"cart": 2, "purchase": 4, "view": 0.5})
    found = weighed(load_interactions(SHOP, recipe)[0])
    assert found == [("a", 1, 4), ("b", 2, 0.5), ("c", 4, 0.5)]


def test_events_still_pick_and_what_they_drop_lends_no_weight() -> None:
    recipe = DataRecipe(events=("view", "cart"), event_weights={"cart": 2})
    found = weighed(load_interactions(SHOP, recipe)[0])
    assert found == [("a", 1, 2), ("b", 2, 1), ("c", 4, 1)]


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5), st.sampled_from("abc")),
        min_size=1, max_size=40,
    ),
    weights=st.dictionaries(
        st.sampled_from("ab"), st.sampled_from([0.25, 1, 3]), min_size=1, max_size=2
    ),
    repeats=st.booleans(),
)  # fmt: skip
def test_weights_are_those_of_a_plain_loop(
    rows: list[tuple[int, int, int, str]], weights: Mapping[str, float], repeats: bool
) -> None:
    # One more user makes every log usable and lets every type occur.
    rows = [*rows, *((9, item, item, kind) for item, kind in enumerate("abc"))]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "event"])
    recipe = DataRecipe(event_weights=weights, repeats=repeats)
    data, _ = load_interactions(log, recipe)
    expected: list[float] = []
    for user in dict.fromkeys(row[0] for row in rows):
        own = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        seen: set[int] = set()
        for _, item, _, kind in own:
            if repeats:
                expected.append(weights.get(kind, 1))
            elif item not in seen:
                expected.append(max(weights.get(row[3], 1) for row in own if row[1] == item))
            seen.add(item)
    assert data.weights is not None and data.weights.tolist() == expected


def test_a_type_that_never_occurs_is_refused_with_those_that_do(tmp_path: Path) -> None:
    SHOP.to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(DataError) as caught:
        load_interactions(tmp_path / "log.csv", DataRecipe(event_weights={"buy": 2, "cart": 3}))
    assert str(caught.value) == (
        "log.csv, column 'event': no row has the event type 'buy', there are 'view', 'cart', "
        "'purchase'; see `event_weights`, `events`"
    )


def test_a_log_without_types_is_refused_with_the_option_that_names_the_column() -> None:
    with pytest.raises(DataError, match=r"no column 'event'.*`event_col`"):
        load_interactions(SHOP.drop(columns="event"), DataRecipe(event_weights={"cart": 2}))


def test_missing_types_weigh_one() -> None:
    log = SHOP.assign(event=["view", None, "cart", "view", "cart", None])
    recipe = DataRecipe(event_weights={"cart": 3}, repeats=True)
    assert [weight for *_, weight in weighed(load_interactions(log, recipe)[0])] == [
        1, 1, 3, 1, 3, 1
    ]  # fmt: skip


@pytest.mark.parametrize("heavy", ["view", "purchase"])
def test_a_model_scores_what_weighs_more_higher(heavy: str) -> None:
    rows = []
    for user in range(60):
        after = "purchase" if user % 2 else "view"  # the item is called like the type
        steps = [("start", "view"), (after, after), ("end", "view")]
        rows += [(user, item, time, kind) for time, (item, kind) in enumerate(steps)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "event"])
    split = all_events(load_interactions(log, DataRecipe(event_weights={heavy: 20}))[0])
    torch.manual_seed(0)
    model = SASRec(SASRecConfig(split.catalogue.n_items, hidden_dim=16, max_len=5))
    fit_by_gradient(model, split, TrainConfig(batch_events=60, learning_rate=0.02), None)
    reference = TorchRecommender(model, split.catalogue)
    scores = reference.scores([["start"]])[0]
    other = {"view": "purchase", "purchase": "view"}[heavy]
    assert scores[reference.row(heavy)] > scores[reference.row(other)] + 1

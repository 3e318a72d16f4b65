"""Which events of a log count, what they weigh, and what is refused where too few are left."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnrec.runtime.errors import DataError
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.fitting.loop import fit_by_gradient
from attnrec.train.models.sasrec import SASRec, SASRecConfig
from attnrec.train.splits.split import all_events

VIEWS = pd.DataFrame(
    {
        "user_id": ["u", "u", "v", "u", "v", "v", "u"],
        "item_id": ["a", "b", "b", "a", "c", "a", "c"],
        "timestamp": [10, 20, 30, 40, 50, 60, 5],
        "event": ["view", "buy", "buy", "buy", "view", "buy", "buy"],
        "rating": [5, 4, 3, 2, 1, 5, 4],
    }
)
SHOP = pd.DataFrame(
    {
        "user_id": ["u"] * 6,
        "item_id": ["a", "b", "a", "c", "a", "c"],
        "timestamp": [1, 2, 3, 4, 5, 6],
        "event": ["view", "view", "cart", "view", "purchase", "view"],
    }
)

logs = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=60
).map(lambda rows: pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))


def events_of(data: Interactions) -> list[tuple[object, object, int]]:
    users = np.repeat(data.user_ids, np.diff(data.offsets))
    items = data.item_ids[data.item_index]
    return list(zip(users.tolist(), items.tolist(), data.timestamps.tolist(), strict=True))


def weighed(data: Interactions) -> list[tuple[str, int, float]]:
    assert data.weights is not None and data.weights.dtype == "float32"
    items = data.item_ids[data.item_index].tolist()
    return list(zip(items, data.timestamps.tolist(), data.weights.tolist(), strict=True))


def log_of(pairs: list[tuple[object, object]]) -> pd.DataFrame:
    """One event a pair of user and item, in this order."""
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    return frame.assign(timestamp=range(len(pairs)))


def refused(log: Path | pd.DataFrame, recipe: DataRecipe | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_interactions(log, recipe or DataRecipe())
    return str(caught.value)


def test_the_first_of_repeated_events_stays() -> None:
    data, report = load_interactions(VIEWS)
    assert events_of(data)[:3] == [("u", "c", 5), ("u", "a", 10), ("u", "b", 20)]
    assert report.dropped_repeated == 1
    assert [data.item_ids[i] for i in data.sequence(1)] == ["b", "c", "a"]


def test_event_types_and_ratings_are_filtered_before_repeats() -> None:
    recipe = DataRecipe(events=("buy",), min_rating=2.0)
    data, report = load_interactions(VIEWS, recipe)
    assert (report.dropped_event_type, report.dropped_rating) == (2, 0)
    assert ("u", "a", 40) in events_of(data) and ("u", "a", 10) not in events_of(data)
    _, report = load_interactions(VIEWS, DataRecipe(min_rating=4, repeats=True))
    assert (report.dropped_rating, report.n_events) == (3, 4)


def test_rows_that_do_not_count_may_lack_an_id_a_rating_or_a_time() -> None:
    search = pd.DataFrame({"user_id": [""], "item_id": [None], "event": ["search"]})
    log = pd.concat([VIEWS, search], ignore_index=True)
    log["timestamp"] = log["timestamp"].astype("Int64")
    _, report = load_interactions(log, DataRecipe(events=("buy", "view"), min_rating=1))
    assert (report.rows_read, report.dropped_event_type) == (8, 1)
    assert report.to_json() == load_interactions(VIEWS)[1].to_json() | {
        "rows_read": 8,
        "dropped_event_type": 1,
    }


def test_dropping_items_and_users_goes_on_until_nothing_changes() -> None:
    # Without x user 2 is short; without user 2 item y is rare.
    pairs = [(1, "a"), (1, "b"), (1, "c"), (3, "a"), (3, "b"), (3, "c")]
    pairs += [(2, "x"), (2, "y"), (4, "y"), (4, "a"), (4, "b")]
    data, report = load_interactions(
        log_of(pairs), DataRecipe(min_item_events=2, min_user_events=2)
    )
    assert (report.dropped_rare_items, report.dropped_short_users) == (2, 1)
    assert list(data.user_ids) == [1, 3, 4]
    assert list(data.item_ids) == ["a", "b", "c"]


@settings(max_examples=200, deadline=None)
@given(logs, st.booleans(), st.integers(1, 4), st.integers(1, 4))
def test_filters_keep_what_they_promise(
    log: pd.DataFrame, repeats: bool, min_item: int, min_user: int
) -> None:
    recipe = DataRecipe(repeats=repeats, min_item_events=min_item, min_user_events=min_user)
    try:
        data, report = load_interactions(log, recipe)
    except DataError as error:
        assert "nothing is left" in str(error) or "two items" in str(error) or "3 ev" in str(error)
        return
    lengths = np.diff(data.offsets)
    assert lengths.min() >= min_user
    assert np.bincount(data.item_index, minlength=data.n_items).min() >= min_item
    dropped = report.dropped_repeated + report.dropped_rare_items + report.dropped_short_users
    assert report.rows_read == len(log) == report.n_events + dropped
    assert data.offsets[-1] == data.n_events == len(data.timestamps)
    events = events_of(data)
    assert repeats or len({event[:2] for event in events}) == len(events)
    for user in range(data.n_users):
        times = data.timestamps[data.offsets[user] : data.offsets[user + 1]]
        assert (np.diff(times) >= 0).all()
    if min_item == min_user == 1:
        assert events == expected_events(log, repeats)


def expected_events(log: pd.DataFrame, repeats: bool) -> list[tuple[int, int, int]]:
    """The same result by plain Python, for logs without frequency filters."""
    rows = list(log.itertuples(index=False, name=None))
    result: list[tuple[int, int, int]] = []
    for user in dict.fromkeys(row[0] for row in rows):
        seen: set[int] = set()
        for event in sorted((row for row in rows if row[0] == user), key=lambda row: row[2]):
            if repeats or event[1] not in seen:
                result.append(event)
            seen.add(event[1])
    return result


# --- what cannot be filtered, and what is left


def test_the_event_and_rating_columns_are_needed_only_when_used() -> None:
    bare = VIEWS.drop(columns=["event", "rating"])
    assert load_interactions(bare)[1].n_events == 6
    assert "no column 'event'" in (message := refused(bare, DataRecipe(events=("buy",))))
    assert "with `event_col`" in message
    assert "with `event_col`" in refused(bare, DataRecipe(event_weights={"buy": 2}))
    assert "with `rating_col`" in refused(bare, DataRecipe(min_rating=3))


@pytest.mark.parametrize("rating", ["", "good", "nan"])
def test_a_rating_that_is_no_number_is_refused_only_when_used(rating: str, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(f"user_id,item_id,timestamp,rating\n1,a,1,5\n1,b,2,{rating}\n1,c,3,4\n")
    assert load_interactions(log)[1].n_events == 3
    message = refused(log, DataRecipe(min_rating=3))
    assert f"line 3, column 'rating': '{rating}' is not a rating" in message


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        (DataRecipe(events=("click",)), "no row has the event type 'click', there are 'view'"),
        (DataRecipe(min_rating=6), "no rating reaches 6, the highest is 5.0"),
        (DataRecipe(min_item_events=4), "lower `min_item_events`, which is 4"),
        (DataRecipe(min_user_events=4), "lower `min_user_events`, which is 4"),
    ],
)
def test_filters_that_leave_nothing_name_themselves(recipe: DataRecipe, problem: str) -> None:
    assert problem in refused(VIEWS, recipe)


@pytest.mark.parametrize(
    ("pairs", "recipe", "problem", "remedy"),
    [
        (
            [(1, "a"), (1, "b"), (2, "a"), (2, "a")],
            DataRecipe(),
            "no user has 3 events, the longest history has 2 (3 events of 2 users and 2 items",
            "`repeats` keeps the 1 repeated events that were dropped",
        ),
        (
            [(1, "a"), (2, "b"), (3, "a")],
            DataRecipe(),
            "the longest history has 1",
            "check that `user_col` names the column of the users",
        ),
        (
            [(1, "a"), (1, "a"), (1, "a")],
            DataRecipe(repeats=True),
            "a recommender needs two items",
            "check that `item_col` names the column of the items",
        ),
    ],
)
def test_a_log_that_nothing_can_be_learned_from_is_refused(
    pairs: list[tuple[object, object]], recipe: DataRecipe, problem: str, remedy: str
) -> None:
    message = refused(log_of(pairs), recipe)
    assert problem in message and message.endswith(remedy)


# --- weights of event types


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
    recommender = TorchRecommender(model, split.catalogue)
    scores = recommender.scores([["start"]])[0]
    other = {"view": "purchase", "purchase": "view"}[heavy]
    assert scores[recommender.row(heavy)] > scores[recommender.row(other)] + 1

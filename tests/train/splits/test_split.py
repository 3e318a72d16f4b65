"""What is trained on, what is held out, and the catalogue that follows."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnrec.runtime import DataError
from attnrec.runtime.model_file.format import LONGEST
from attnrec.train import TrainConfig, train
from attnrec.train.data.interactions import Interactions
from attnrec.train.evaluation.metrics import ask
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.models.popularity import Popularity, PopularityConfig
from attnrec.train.splits.baskets import basket_note
from attnrec.train.splits.held_out import held_out_targets
from attnrec.train.splits.split import Split, all_events, divide

logs = st.lists(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=9), min_size=1, max_size=9
)


def interactions_of(histories: list[list[str]]) -> Interactions:
    """Items numbered by first appearance, as reading a log numbers them."""
    events = [item for history in histories for item in history]
    ids = list(dict.fromkeys(events))
    return Interactions(
        user_ids=np.arange(len(histories), dtype=np.int64),
        item_ids=np.array(ids, dtype=object),
        offsets=np.cumsum([0, *map(len, histories)]).astype(np.int64),
        item_index=np.array([ids.index(item) for item in events], dtype=np.int32),
        timestamps=np.arange(len(events), dtype=np.int64),
        titles=np.array([f"title of {item}" for item in ids], dtype=object),
    )


def trained_histories(split: Split) -> list[list[str]]:
    """The training events, back as raw ids."""
    ids = split.catalogue.item_ids.tolist()
    sequences = split.sequences
    return [
        [ids[row - 1] for row in sequences.rows[start:stop].tolist()]
        for start, stop in pairwise(sequences.offsets)
    ]


def targets(split: Split, part: str) -> list[tuple[list[str], str]]:
    held_out = split.held_out("valid" if part == "valid" else "test")
    return [
        (history.tolist(), target)
        for history, target in zip(held_out.histories, held_out.targets.tolist(), strict=True)
    ]


def test_the_last_two_events_are_held_back() -> None:
    split = divide(interactions_of([["a", "b", "c", "a", "d"], ["c", "a", "b"]]), "leave-one-out")
    assert trained_histories(split) == [["a", "b", "c"], ["c"]]
    assert targets(split, "valid") == [(["a", "b", "c"], "a"), (["c"], "a")]
    assert targets(split, "test") == [(["a", "b", "c", "a"], "d"), (["c", "a"], "b")]


@given(logs)
def test_users_with_three_events_have_targets_and_the_others_are_trained_on_as_a_whole(
    histories: list[list[str]],
) -> None:
    split = divide(interactions_of(histories), "leave-one-out")
    long = [h for h in histories if len(h) >= 3]
    assert targets(split, "test") == [(h[:-1], h[-1]) for h in long]
    assert targets(split, "valid") == [(h[:-2], h[-2]) for h in long]
    assert trained_histories(split) == [h[:-2] if len(h) >= 3 else h for h in histories]


def test_fewer_users_may_be_evaluated_always_the_same_ones() -> None:
    split = divide(
        interactions_of([[f"{user}-{n}" for n in range(4)] for user in range(9)]), "leave-one-out"
    )
    everybody, some = split.held_out("valid"), split.held_out("valid", 4)
    assert len(some.histories) == len(some.request_times) == 4
    places = [everybody.users.tolist().index(user) for user in some.users.tolist()]
    assert places == sorted(places)
    assert some.targets.tolist() == [everybody.targets[place] for place in places]
    assert some.users.tolist() == split.held_out("valid", 4).users.tolist()
    assert split.held_out("valid", 9).users.tolist() == everybody.users.tolist()


@given(logs)
def test_the_catalogue_is_what_was_trained_on_by_frequency_then_id(
    histories: list[list[str]],
) -> None:
    split = divide(interactions_of(histories), "leave-one-out")
    count = Counter(item for history in trained_histories(split) for item in history)
    expected = sorted(count, key=lambda item: (-count[item], item))
    catalogue = split.catalogue
    assert catalogue.item_ids.tolist() == expected
    assert catalogue.n_events.tolist() == [count[item] for item in expected]
    assert catalogue.titles is not None
    assert catalogue.titles.tolist() == [f"title of {item}" for item in expected]
    assert catalogue.n_items == len(expected)


@given(logs, st.randoms(use_true_random=False))
def test_the_order_of_users_does_not_matter(histories: list[list[str]], random: Random) -> None:
    shuffled = list(histories)
    random.shuffle(shuffled)
    one, other = (divide(interactions_of(h), "leave-one-out") for h in (histories, shuffled))
    assert one.catalogue.item_ids.tolist() == other.catalogue.item_ids.tolist()
    assert one.catalogue.n_events.tolist() == other.catalogue.n_events.tolist()
    assert sorted(trained_histories(one)) == sorted(trained_histories(other))
    for part in ("valid", "test"):
        assert sorted(targets(one, part)) == sorted(targets(other, part))


def test_an_item_seen_only_in_held_out_events_is_not_in_the_catalogue() -> None:
    log = interactions_of([["a", "b", "only held out", "b"], ["a", "b"]])
    split = divide(log, "leave-one-out")
    assert split.catalogue.item_ids.tolist() == ["a", "b"]
    assert targets(split, "valid") == [(["a", "b"], "only held out")]


def test_integer_ids_of_the_same_frequency_are_ordered_as_numbers() -> None:
    log = replace(interactions_of([["a", "b", "c"]]), item_ids=np.array([10, -9, 9]), titles=None)
    assert all_events(log).catalogue.item_ids.tolist() == [-9, 9, 10]


@given(logs)
def test_a_final_run_trains_on_all_and_holds_nothing_out(
    histories: list[list[str]],
) -> None:
    split = all_events(interactions_of(histories))
    assert trained_histories(split) == histories
    assert [h.tolist() for h in split.everybody().histories] == histories
    with pytest.raises(ValueError, match="evaluate the run before it"):
        split.held_out("test")


def long_log(n_events: int) -> Interactions:
    """A user with so many events, each of another item, between two others."""
    lengths = [3, n_events, 4]
    return Interactions(
        user_ids=np.arange(3),
        item_ids=np.arange(n_events),
        offsets=np.cumsum([0, *lengths]),
        item_index=np.concatenate([np.arange(n) for n in lengths]).astype(np.int32),
        timestamps=np.arange(sum(lengths)),
        titles=None,
    )


def test_no_history_is_longer_than_a_request_may_be() -> None:
    log = long_log(LONGEST + 12)
    split = divide(log, "leave-one-out")
    for held_out, n_events in (
        (split.held_out("test"), LONGEST + 11),
        (split.held_out("valid"), LONGEST + 10),
        (split.seen(3), LONGEST + 9),
        (all_events(log).everybody(), LONGEST + 12),
    ):
        long = next(n for n, user in enumerate(held_out.users) if user == 1)
        start, stop = n_events - LONGEST, n_events
        assert held_out.histories[long].tolist() == list(range(start, stop))
        assert held_out.timestamps[long].tolist() == list(range(start + 3, stop + 3))
        assert {n: ids.tolist() for n, ids in held_out.older.items()} == {long: list(range(start))}
        assert {n: ids.tolist() for n, ids in held_out.between(long, 9).older.items()} == {
            0: list(range(start))
        }
        assert held_out.between(0, long).older == held_out.between(long + 1, 9).older == {}


def test_what_was_seen_before_the_newest_events_is_not_recommended_either() -> None:
    split = divide(long_log(LONGEST + 12), "leave-one-out")
    model = Popularity(PopularityConfig(split.catalogue.n_items))
    model.fit(split)
    recommender, held_out = TorchRecommender(model, split.catalogue), split.held_out("test")
    (_, answer, _) = ask(recommender, held_out, exclude_seen=True)
    assert answer.item_ids == []  # all that was trained on has been seen
    (_, answer, _) = ask(recommender, held_out, exclude_seen=False)
    assert answer.item_ids[:3] == [0, 1, 2]


# --- last session

visits = st.lists(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4), max_size=5),
    min_size=1,
    max_size=8,
)


def sessions_of(users: list[list[list[str]]]) -> Interactions:
    """A log of users, each with sessions, each with items of one time."""
    users = [user for user in users if user]
    log = interactions_of([[item for session in user for item in session] for user in users])
    # The last session of a user has the time of the first one of the next: users, not times
    # alone, part the sessions.
    times = [t - len(user) for user in users for t, s in enumerate(user, start=1) for _ in s]
    return replace(log, timestamps=np.array(times, dtype=np.int64))


def session_targets(log: Interactions, part: str) -> list[tuple[list[str], list[str]]]:
    held_out = held_out_targets(log, "last-session", "valid" if part == "valid" else "test")
    return [
        (some.histories[0].tolist(), some.targets.tolist())
        for some in (held_out.between(i, i + 1) for i in range(len(held_out.histories)))
    ]


BASKETS = [[["a", "b"], ["c"], ["b", "d", "b"]], [["a", "b", "c"], ["d"]], [["c"], ["a"], ["c"]]]


def test_the_last_two_sessions_are_held_back() -> None:
    log = sessions_of(BASKETS)
    split = divide(log, "last-session")
    assert trained_histories(split) == [["a", "b"], ["a", "b", "c", "d"], ["c"]]
    assert session_targets(log, "valid") == [(["a", "b"], ["c"]), (["c"], ["a"])]
    # An item that is twice in a session is one target; what was had before may be one.
    assert session_targets(log, "test") == [(["a", "b", "c"], ["b", "d"]), (["c", "a"], ["c"])]


@given(visits)
def test_sessions_are_held_back_from_users_with_three_and_the_rest_is_trained_on(
    users: list[list[list[str]]],
) -> None:
    users = [[["a"], ["b"], ["c"]], *users]
    log = sessions_of(users)
    long = [user for user in users if len(user) >= 3]
    expected = {
        part: [
            ([i for session in user[:-back] for i in session], list(dict.fromkeys(user[-back])))
            for user in long
        ]
        for part, back in (("test", 1), ("valid", 2))
    }
    trained = [user[:-2] if len(user) >= 3 else user for user in users if user]
    assert session_targets(log, "test") == expected["test"]
    assert session_targets(log, "valid") == expected["valid"]
    assert trained_histories(divide(log, "last-session")) == [
        [item for session in user for item in session] for user in trained
    ]


def test_a_log_without_three_sessions_is_refused_with_the_way_out() -> None:
    log = sessions_of([[["a", "b", "c"], ["d", "e"]]])
    with pytest.raises(DataError, match=r"the most is 2.*Use leave-one-out"):
        divide(log, "last-session")


# --- baskets: many events of one time


def baskets(visits: int) -> pd.DataFrame:
    """30 customers with so many visits of 3 items each; the first one comes ten times."""
    rows = [
        (user, (7 * user + 3 * visit + place) % 40, 1_700_000_000 + 86400 * visit)
        for user in range(30)
        for visit in range(10 if user == 0 else visits)
        for place in range(3)
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@pytest.mark.parametrize(("visits", "offered"), [(1, False), (2, False), (3, True)])
def test_last_session_is_offered_where_enough_users_have_three_sessions(
    visits: int, offered: bool, tmp_path: Path
) -> None:
    run = train(baskets(visits), TrainConfig("popularity"), out=tmp_path / "run")
    note = basket_note(run.metrics.to_json())
    assert note is not None and "complete a basket" in note
    assert run.metrics["last_session_users"] == (30 if offered else 1)
    assert ("--split last-session" in note) == offered


def test_a_log_of_single_events_has_no_note(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    run = train(shop_log, TrainConfig("popularity"), out=tmp_path / "run")
    assert basket_note(run.metrics.to_json()) is None and run.metrics.last_session_users is None

"""A log cut in time: nothing later than the cut is learned from, and who is asked for what."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnrec.runtime import DataError
from attnrec.train import TimeSplit, TrainConfig
from attnrec.train.data.interactions import Interactions
from attnrec.train.splits.held_out import HeldOut
from attnrec.train.splits.split import Split, divide
from attnrec.train.splits.time_split import DAY, before, cuts_of

_START = 1_700_000_000
events = st.tuples(st.integers(0, 40), st.integers(0, 9))  # day, item
logs = st.lists(st.lists(events, min_size=1, max_size=12), min_size=1, max_size=8)
splits = st.builds(
    TimeSplit,
    test_days=st.integers(1, 9),
    valid_days=st.one_of(st.none(), st.integers(1, 9)),
    targets=st.sampled_from(["all", "first", "last"]),
)


def log_of(histories: list[list[tuple[int, int]]]) -> Interactions:
    """Users with (day, item) events, one event every 10 seconds of a day."""
    ordered = [sorted(history, key=lambda event: event[0]) for history in histories]
    flat = [event for history in ordered for event in history]
    places = np.arange(len(flat)) * 10
    return Interactions(
        user_ids=np.arange(len(histories), dtype=np.int64),
        item_ids=np.arange(100, 110),
        offsets=np.cumsum([0, *map(len, ordered)]).astype(np.int64),
        item_index=np.array([item for _, item in flat], dtype=np.int32),
        timestamps=np.array([_START + DAY * day for day, _ in flat]) + places,
        titles=None,
    )


def split_of(log: Interactions, by: TimeSplit) -> Split | None:
    """None where a log made by chance has nothing before the cut."""
    try:
        return divide(log, by)
    except DataError:
        return None


def asked(held_out: HeldOut) -> dict[int, tuple[list[int], list[int]]]:
    """History and targets of each user."""
    n_targets = np.cumsum([0, *held_out.n_targets()])
    return {
        int(user): (history.tolist(), held_out.targets[n_targets[n] : n_targets[n + 1]].tolist())
        for n, (user, history) in enumerate(zip(held_out.users, held_out.histories, strict=True))
    }


@given(logs, splits)
def test_nothing_is_learned_from_what_lies_after_the_validation_window_begins(
    histories: list[list[tuple[int, int]]], by: TimeSplit
) -> None:
    log = log_of(histories)
    split = split_of(log, by)
    if split is None:
        return
    trained = split.sequences.timestamps
    assert trained is not None
    valid_from = cuts_of(by, log).valid_from
    assert (trained < valid_from).all()
    assert len(trained) == (log.timestamps < valid_from).sum()


@given(logs, splits, st.sampled_from(["valid", "test"]))
def test_whoever_has_an_event_before_a_window_and_one_in_it_is_asked(
    histories: list[list[tuple[int, int]]], by: TimeSplit, part: Any
) -> None:
    log = log_of(histories)
    if (split := split_of(log, by)) is None:
        return
    start, stop = cuts_of(by, log).window(part)
    expected, n_cold = {}, 0
    for user in range(log.n_users):
        own = slice(log.offsets[user], log.offsets[user + 1])
        items, times = log.item_ids[log.item_index[own]].tolist(), log.timestamps[own]
        earlier = [i for i, t in zip(items, times, strict=True) if t < start]
        inside = [i for i, t in zip(items, times, strict=True) if start <= t < stop]
        n_cold += bool(inside and not earlier)
        if not (earlier and inside):
            continue
        if by.targets == "first":
            expected[user] = (earlier, inside[:1])
        elif by.targets == "last":
            expected[user] = (earlier + inside[:-1], inside[-1:])
        else:  # an item counts once
            expected[user] = (earlier, list(dict.fromkeys(inside)))
    held_out = split.held_out(part)
    assert asked(held_out) == expected
    assert held_out.n_cold_users == n_cold


TWO = [[(0, 0), (10, 1), (20, 2), (30, 3)], [(1, 4), (29, 5), (30, 6)], [(30, 7)]]


def test_a_request_is_made_at_the_time_of_the_first_target_or_at_the_cut() -> None:
    log = log_of(TWO)
    by = TimeSplit(test_days=2)
    at_first = divide(log, by).held_out("test")
    at_cut = divide(log, replace(by, ask_at="cut")).held_out("test")
    assert at_first.request_times.tolist() == [log.timestamps[3], log.timestamps[5]]
    assert at_cut.request_times.tolist() == [cuts_of(by, log).test_from] * 2
    assert at_first.targets.tolist() == at_cut.targets.tolist() == [103, 105, 106]


@pytest.mark.parametrize(
    ("by", "day"),
    [
        (TimeSplit(test_days=2), 30 - 2),
        (TimeSplit(test_from="2023-12-12"), None),
        (TimeSplit(test_from="2023-12-12T03:00:00+03:00"), None),
    ],
)
def test_days_and_dates_set_the_cut(by: TimeSplit, day: int | None) -> None:
    log = log_of(TWO)
    cut = cuts_of(by, log).test_from
    if day is None:
        assert cut == 1_702_339_200  # midnight of that day, UTC
    else:
        assert cut == log.timestamps.max() + 1 - 2 * DAY
    # Without another word, the validation window is as long as the test window.
    cuts = cuts_of(by, log)
    assert cuts.test_from - cuts.valid_from == cuts.end - cuts.test_from


def test_a_share_of_the_events_sets_the_cut() -> None:
    log = log_of([[(day, day % 10) for day in range(40)] for _ in range(5)])
    cuts = cuts_of(TimeSplit(test_share=0.1), log)
    times = log.timestamps
    assert (times >= cuts.test_from).mean() == pytest.approx(0.1)
    assert ((times >= cuts.valid_from) & (times < cuts.test_from)).mean() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"test_days": 7, "test_share": 0.1}, "`test_days` and `test_share` both set the cut"),
        ({"test_days": 0}, "`test_days` must be a number above 0, not 0"),
        ({"test_share": 0.5}, "`test_share` must be a number above 0 and below 0.5, not 0.5"),
        ({"test_from": "tomorrow"}, "must be a date such as 2011-12-01"),
        ({"targets": "some"}, "targets"),
        ({"targets": "last", "ask_at": "cut"}, "cannot be asked for at the cut"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        TimeSplit(**given)


def test_a_cut_outside_of_the_log_is_refused_with_its_dates() -> None:
    log = log_of(TWO)
    for by in (TimeSplit(test_from="2031-01-01"), TimeSplit(test_days=31)):
        with pytest.raises(DataError, match=r"goes from 2023-11-14 .* to 2023-12-14 .*: the cut"):
            divide(log, by)
    with pytest.raises(DataError, match="nothing would be left to train on"):
        divide(log, TimeSplit(test_days=20))


def test_a_window_without_anybody_says_how_many_a_longer_one_would_have() -> None:
    log = log_of([[(0, 0), (14, 1), (25, 2)], [(1, 3), (12, 4), (28, 5)], [(30, 6)]])
    problem = (
        "nobody can be asked in the test window, .*; with 4 days there would be 1: give `test_"
    )
    with pytest.raises(DataError, match=problem):
        divide(log, TimeSplit(test_days=1), time_unit="s")
    assert len(divide(log, TimeSplit(test_days=4, valid_days=20)).held_out("test").users) == 1


def test_a_log_without_times_and_clocks_in_the_future_are_refused() -> None:
    log = log_of(TWO)
    with pytest.raises(DataError, match="an order and no times"):
        divide(log, TimeSplit(), time_unit="order")
    wrong = replace(log, timestamps=log.timestamps.copy())
    wrong.timestamps[-1] = time.time() + 90 * DAY
    with pytest.raises(DataError, match=r"1 event with a time in the future, .*; drop these rows"):
        divide(wrong, TimeSplit(), time_unit="s")
    dated = TimeSplit(test_from="2023-12-12", valid_days=20)
    assert divide(wrong, dated, time_unit="s").held_out("test").targets.tolist() == [103, 105, 106]


def test_the_log_as_it_was_at_a_time_has_no_later_event_and_no_later_user() -> None:
    log = log_of(TWO)
    earlier = before(log, _START + 29 * DAY)
    assert earlier.user_ids.tolist() == [0, 1]
    assert [earlier.sequence(user).tolist() for user in (0, 1)] == [[0, 1, 2], [4]]
    assert earlier.timestamps.max() < _START + 29 * DAY


def test_the_configuration_of_a_cut_survives_json() -> None:
    config = TrainConfig(split=TimeSplit(test_from="2023-12-12", targets="first"))
    assert TrainConfig.from_json(config.to_json()) == config
    assert TrainConfig(split="time").split == TimeSplit()


def test_leave_one_out_says_how_much_of_its_training_is_newer_than_its_targets() -> None:
    log = log_of([[(0, 0), (1, 1), (2, 2)], [(9, 3), (10, 4), (11, 5), (30, 6)]])
    # Trained on: day 0 of the first; days 9 and 10 of the second, after the target of the first.
    assert divide(log, "leave-one-out").in_time("s") == {
        "targets_before_training": 0.5,
        "later_training_events": pytest.approx(1 / 3, abs=1e-4),
    }
    assert divide(log, "leave-one-out").in_time("order") == {}


def test_an_event_at_the_cut_is_asked_for_and_not_known() -> None:
    log = log_of(TWO)
    for event, expected in ((3, ([100, 101, 102], [103])), (2, ([100, 101], [102, 103]))):
        at = str(np.datetime64(int(log.timestamps[event]), "s"))
        split = divide(log, TimeSplit(test_from=at, valid_days=5))
        assert asked(split.held_out("test"))[0] == expected

"""A file is evaluated only on events that it has not seen, on any log."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.export import export
from attnrec.runtime import Recommender
from attnrec.train import TrainConfig, compare, evaluate, train, train_final
from attnrec.train.evaluation.files import Log, divide_fairly
from attnrec.train.evaluation.metrics import evaluate_answers
from attnrec.train.runs.train import read_log
from attnrec.train.splits.split import divide

START = 1_700_000_000
DAY = 86_400
N_USERS, N_ITEMS, N_EVENTS = 80, 60, 8
COUNTS = TrainConfig("markov-chain")


def noise(first_day: int, n_users: int, n_events: int, seed: int) -> pd.DataFrame:
    """Random events: they cannot be predicted, but a model can have seen them."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        for day in range(n_events):
            time = START + DAY * (first_day + day) + int(rng.integers(DAY))
            rows.append((f"user {user}", f"item {rng.integers(N_ITEMS):02}", time))
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


BEFORE = noise(0, N_USERS, N_EVENTS, 0)
LATER = pd.concat([BEFORE, noise(N_EVENTS, 30, 2, 1)])
ONE_MORE_ROW = pd.concat([BEFORE, BEFORE.iloc[:1].assign(item_id="item 59", timestamp=START)])
ORDERS = BEFORE.assign(timestamp=BEFORE.groupby("user_id").cumcount())
LATER_ORDERS = LATER.assign(timestamp=LATER.groupby("user_id").cumcount())


def made(log: pd.DataFrame, directory: Path) -> tuple[Path, Path]:
    """The file of a run and that of its final run."""
    run = train(log, COUNTS, out=directory / "run")
    export(run, run.directory / "model.onnx")
    final = train_final(run, out=directory / "final")
    export(final, final.directory / "model.onnx")
    return run.directory / "model.onnx", final.directory / "model.onnx"


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory,
    tracing_once: Callable[[], AbstractContextManager[None]],
) -> tuple[Path, Path]:
    with tracing_once():
        return made(BEFORE, tmp_path_factory.mktemp("times"))


@pytest.fixture(scope="module")
def files_of_orders(
    tmp_path_factory: pytest.TempPathFactory,
    tracing_once: Callable[[], AbstractContextManager[None]],
) -> tuple[Path, Path]:
    with tracing_once():
        return made(ORDERS, tmp_path_factory.mktemp("orders"))


def with_seen_targets(file: Path, data: pd.DataFrame) -> float:
    """NDCG@10 over all that is held out of a log, whatever the file has seen of it."""
    recommender = Recommender.load(file)
    held_out = divide(read_log(data)[0], "leave-one-out").held_out("test")
    ids = np.unique(data["item_id"].to_numpy(dtype=object))
    return evaluate_answers(recommender, held_out, ids, exclude_seen=True).values["ndcg@10"]


def test_a_final_file_is_evaluated_only_on_events_after_its_log(files) -> None:
    _, final = files
    metrics = evaluate(final, LATER)
    assert metrics.n_users == 30 and metrics.n_left_out == N_USERS - 30
    assert metrics.to_json()["n_left_out"] == N_USERS - 30
    # Chance finds one of the first 10 in 10 of 60 cases, with an NDCG@10 of 0.08.
    assert metrics.values["ndcg@10"] < 0.2 < with_seen_targets(final, LATER)


def test_a_log_with_another_row_is_still_the_log_of_the_training(files) -> None:
    _, final = files
    with pytest.raises(ValueError, match=r"all 80 users .* not after .* that .*has seen.*`data`"):
        evaluate(final, ONE_MORE_ROW)
    with pytest.raises(ValueError, match="not after"):
        compare([final], ONE_MORE_ROW)


def test_a_file_that_is_not_final_has_its_own_split_of_its_own_log_alone(files) -> None:
    file, _ = files
    own = evaluate(file)
    assert own.n_users == N_USERS and own.n_left_out == 0
    assert own.to_json() == evaluate(file, BEFORE).to_json()
    # Validation has looked at the second last event of everybody.
    log, _ = read_log(BEFORE)
    last_seen = log.timestamps[log.offsets[1:] - 2].max()
    targets = log.timestamps[log.offsets[1:] - 1]
    metrics = evaluate(file, ONE_MORE_ROW)
    assert 0 < metrics.n_users == (targets > last_seen).sum() == N_USERS - metrics.n_left_out
    assert Recommender.load(file).info.data["seen_until"] == last_seen


def test_an_event_at_the_second_of_the_last_one_seen_is_left_out(files) -> None:
    _, final = files
    last = BEFORE["timestamp"].max()
    for time, n_users in ((last + 1, 5), (last, 0)):
        more = noise(0, 5, 1, 2).assign(timestamp=time, item_id="item new")
        if n_users:
            assert evaluate(final, pd.concat([BEFORE, more])).n_users == n_users
        else:
            with pytest.raises(ValueError, match="not after"):
                evaluate(final, pd.concat([BEFORE, more]))


def test_files_in_one_table_are_evaluated_on_events_that_none_of_them_has_seen(files) -> None:
    file, final = files
    alone, together = compare([file], LATER), compare([file, final], LATER)
    assert alone.files[0].metrics.n_users > 30
    assert [f.metrics.n_users for f in together.files] == [30, 30]
    assert together.left_out is not None and "not after" in together.left_out


def test_without_times_what_follows_the_sequence_of_a_user_counts(files_of_orders) -> None:
    _, final = files_of_orders
    renamed = LATER_ORDERS.replace({"user_id": {"user 0": "the same, renamed"}})
    # Another first event: what was seen of this user is not known.
    edited = renamed.drop(index=renamed.index[renamed["user_id"] == "user 1"][0])
    for data, n_users in ((LATER_ORDERS, 30), (renamed, 29), (edited, 28)):
        metrics = evaluate(final, data)
        assert metrics.n_users == n_users and metrics.values["ndcg@10"] < 0.2
    assert with_seen_targets(final, LATER_ORDERS) > 0.2
    with pytest.raises(ValueError, match="not behind the events of a user that"):
        evaluate(final, ORDERS.drop(index=0))


def test_without_times_a_file_that_left_its_run_is_refused(files_of_orders, tmp_path) -> None:
    file, final = files_of_orders
    for path in (file, final):
        copy = Path(shutil.copy(path, tmp_path / "model.onnx"))
        with pytest.raises(ValueError, match="where attnrec-export wrote it"):
            evaluate(copy, LATER_ORDERS)
    assert evaluate(Path(shutil.copy(file, copy)), ORDERS).n_users == N_USERS


def test_a_file_holds_no_user_of_the_log(files, files_of_orders) -> None:
    for file in (*files, *files_of_orders):
        data = Recommender.load(file).info.data
        assert "user 1" not in str(data)
        is_order = file in files_of_orders
        assert (data["seen_until"] is None) == is_order


def test_a_file_that_does_not_state_what_it_has_seen_has_its_own_log_alone(
    files,
) -> None:
    info = Recommender.load(files[0]).info
    unknown = replace(info, data={k: v for k, v in info.data.items() if k != "seen_until"})
    own, later = (Log(read_log(data)[0], has_times=True) for data in (BEFORE, LATER))
    assert divide_fairly(files[0], unknown, own, None).unseen is None
    with pytest.raises(ValueError, match="export its run again"):
        divide_fairly(files[0], unknown, later, None)


def test_without_times_users_are_the_same_whether_their_ids_are_read_as_numbers_or_texts(
    tmp_path,
) -> None:
    numbered = ORDERS.assign(user_id=ORDERS["user_id"].str.removeprefix("user "))
    file, _ = made(numbered, tmp_path)
    more = LATER_ORDERS.assign(user_id=LATER_ORDERS["user_id"].str.removeprefix("user "))
    guest = more[more["user_id"] == "0"].assign(user_id="guest")
    n_users = evaluate(file, more).n_users
    assert n_users > 0 and evaluate(file, pd.concat([more, guest])).n_users == n_users

"""What is left of a log, in which order, and that it survives on the disk."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from attnrec.runtime.errors import RunError
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.online_retail import online_retail
from attnrec.train.data.recipe import DataRecipe

VIEWS = pd.DataFrame(
    {
        "user_id": ["u", "u", "v", "u", "v", "v", "u"],
        "item_id": ["a", "b", "b", "a", "c", "a", "c"],
        "timestamp": [10, 20, 30, 40, 50, 60, 5],
    }
)


def events_of(data: Interactions) -> list[tuple[object, object, int]]:
    users = np.repeat(data.user_ids, np.diff(data.offsets))
    items = data.item_ids[data.item_index]
    return list(zip(users.tolist(), items.tolist(), data.timestamps.tolist(), strict=True))


def test_the_packaged_log_reads_as_its_page_says() -> None:
    log, items = online_retail()
    data, report = load_interactions(log, items=items)
    assert (report.rows_read, report.dropped_repeated) == (386_326, 120_105)
    assert (report.n_users, report.n_users_evaluable, report.n_items) == (4_334, 4_189, 3_659)
    assert (report.user_id_type, report.item_id_type) == ("int64", "string")
    assert report.n_titles == 3_659 and data.titles is not None
    assert data.titles[list(data.item_ids).index("23166")] == "Medium Ceramic Top Storage Jar"
    assert report.first_time == "2010-12-01T08:26:00+00:00"
    assert report.last_time == "2011-12-09T12:50:00+00:00"
    repeated = load_interactions(log, DataRecipe(repeats=True))[1]
    assert (repeated.n_events, repeated.dropped_repeated) == (386_326, 0)
    assert repeated.n_users_evaluable == 4_211


@pytest.mark.parametrize(("kind", "repeats"), [("int64", False), ("float64", True)])
def test_more_events_than_are_sorted_at_once_are_ordered_as_one(kind: str, repeats: bool) -> None:
    # Four million are sorted together; few times, so that many events share one.
    rng, n_events = np.random.default_rng(0), 4_300_000
    user, item, time = (rng.integers(0, n, n_events) for n in (500, 30_000, 9000))
    columns = {"user_id": user, "item_id": item, "timestamp": time.astype(kind)}
    data, _ = load_interactions(pa.table(columns), DataRecipe(repeats=repeats))
    order = np.lexsort((time, data.user_ids.argsort()[user]))
    if not repeats:
        order = order[~pd.Series(user[order] * 30_000 + item[order]).duplicated().to_numpy()]
    assert np.array_equal(data.item_ids[data.item_index], item[order])
    assert np.array_equal(data.timestamps, time[order])


def test_nanoseconds_of_many_users_are_ordered() -> None:
    # User and time together would be beyond int64.
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 900, 9000), rng.integers(0, 50, 9000)
    time = 10**18 + rng.integers(0, 10**17, 9000)
    log = pa.table({"user_id": user, "item_id": item, "timestamp": time})
    data, _ = load_interactions(log, DataRecipe(repeats=True))
    order = np.lexsort((time, data.user_ids.argsort()[user]))
    assert np.array_equal(data.item_ids[data.item_index], item[order])


def test_every_format_of_a_log_gives_the_same_fingerprint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, 9, 200) for name in ("user_id", "item_id", "timestamp")}
    log = pd.DataFrame(columns)
    log.to_csv(tmp_path / "log.csv", index=False)
    log.to_csv(tmp_path / "log.csv.gz", index=False)
    log.to_parquet(tmp_path / "log.parquet")
    log.astype("category").to_parquet(tmp_path / "coded.parquet")
    names = ("log.csv", "log.csv.gz", "log.parquet", "coded.parquet")
    reports = [load_interactions(tmp_path / name)[1] for name in names]
    reports += [load_interactions(frame)[1] for frame in (log, log.astype(str))]
    assert len({report.fingerprint for report in reports}) == 1
    assert len({json.dumps(r.to_json() | {"source": ""}) for r in reports}) == 1


def test_a_fingerprint_changes_with_every_part_of_the_log_but_the_titles() -> None:
    data, report = load_interactions(VIEWS)
    others = [
        replace(data, item_ids=np.array(["ab", "c", "d"], object)),
        replace(data, item_ids=np.array(["a", "bc", "d"], object)),  # joined, the same text
        replace(data, user_ids=data.user_ids[::-1]),
        replace(data, item_index=data.item_index[::-1]),
        replace(data, timestamps=data.timestamps + 1),
        replace(data, offsets=data.offsets * np.array([1, 0, 1])),
    ]
    assert len({data.fingerprint(), *(other.fingerprint() for other in others)}) == 7
    titled = data.with_titles(np.array(["A", "B", "C"], object))
    assert titled.fingerprint() == report.fingerprint


def test_titles_come_from_the_items_table(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "items.csv.gz", "wt", encoding="utf-8") as file:
        file.write('title,item_id\n"Apple, green",a\nnull,b\nSecond apple,a\nZebra,z\n')
    data, report = load_interactions(VIEWS, items=tmp_path / "items.csv.gz")
    assert data.titles is not None
    assert dict(zip(data.item_ids, data.titles, strict=True)) == {
        "a": "Apple, green",
        "b": "null",
        "c": "",
    }
    assert report.n_titles == 2


def assert_same(one: Interactions, other: Interactions) -> None:
    for name in ("user_ids", "item_ids", "offsets", "item_index", "timestamps"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype and np.array_equal(left, right), name
        assert left.flags.writeable and right.flags.writeable, "torch warns otherwise"
    titles = [None if log.titles is None else log.titles.tolist() for log in (one, other)]
    assert titles[0] == titles[1]


@pytest.mark.parametrize("titled", [False, True])
@pytest.mark.parametrize("id_type", [int, str])
def test_a_saved_log_is_loaded_exactly(titled: bool, id_type: type, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    columns = {"user_id": rng.integers(0, 300, 5000), "item_id": rng.integers(0, 200, 5000)}
    log = pd.DataFrame(columns).astype(id_type).assign(timestamp=rng.integers(0, 99, 5000))
    items = pd.DataFrame({"item_id": log["item_id"], "title": "🎁 " + log["item_id"].astype(str)})
    data, report = load_interactions(log, items=items if titled else None)
    data.save(tmp_path)
    loaded = Interactions.load(tmp_path)
    assert_same(data, loaded)
    assert loaded.fingerprint() == report.fingerprint
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["interactions.parquet", "items.parquet"]


def test_an_item_without_events_survives_saving(tmp_path: Path) -> None:
    data, _ = load_interactions(VIEWS)
    more = replace(data, item_ids=np.array(["unseen", *data.item_ids], object))
    more = replace(more, item_index=more.item_index + np.int32(1))
    more.save(tmp_path)
    assert_same(more, Interactions.load(tmp_path))


def test_a_saved_log_is_itself_a_log_that_can_be_read(tmp_path: Path) -> None:
    data, report = load_interactions(VIEWS)
    data.save(tmp_path)
    again, second = load_interactions(
        tmp_path / "interactions.parquet", DataRecipe(time_unit="order")
    )
    assert sorted(map(str, events_of(again))) == sorted(map(str, events_of(data)))
    assert second.n_events == report.n_events


def test_a_user_without_events_cannot_be_saved(tmp_path: Path) -> None:
    data, _ = load_interactions(VIEWS)
    lonely = replace(data, offsets=np.array([0, 0, data.n_events]))
    with pytest.raises(ValueError, match="every user must have an event"):
        lonely.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["interactions.parquet", "items.parquet"])
def test_an_incomplete_directory_is_refused(name: str, tmp_path: Path) -> None:
    load_interactions(VIEWS)[0].save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-20])
    with pytest.raises(RunError, match=f"{name}: not an intact file"):
        Interactions.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RunError, match=f"{name}: there is no such file"):
        Interactions.load(tmp_path)


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ({"item_id": ["a", "b"]}, "holds an item that items.parquet does not"),
        ({"item_id": [1, 2, 3]}, "differ in type"),
        ({"name": ["a", "b", "c"]}, "no column 'item_id'"),
    ],
)
def test_files_of_different_runs_are_refused(
    items: dict[str, list[object]], problem: str, tmp_path: Path
) -> None:
    load_interactions(VIEWS)[0].save(tmp_path)
    pyarrow.parquet.write_table(pa.table(items), tmp_path / "items.parquet")
    with pytest.raises(RunError, match=problem):
        Interactions.load(tmp_path)


def test_the_report_is_short_and_names_what_was_dropped() -> None:
    log = VIEWS.assign(event=["view", "buy", "buy", "buy", "view", "buy", "buy"])
    _, report = load_interactions(log, DataRecipe(events=("buy",)))
    assert len(report.lines()) == 7
    assert "2 other event types" in str(report) and "repeats" not in str(report)
    assert json.loads(json.dumps(report.to_json()))["dropped_event_type"] == 2

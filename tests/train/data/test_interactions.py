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
from hypothesis import given, settings
from hypothesis import strategies as st

from attnrec.runtime.errors import DataError, RunError
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.online_retail import online_retail
from attnrec.train.data.recipe import DataRecipe

VIEWS = pd.DataFrame(
    {
        "user_id": ["u", "u", "v", "u", "v", "v", "u"],
        "item_id": ["a", "b", "b", "a", "c", "a", "c"],
        "timestamp": [10, 20, 30, 40, 50, 60, 5],
        "event": ["view", "buy", "buy", "buy", "view", "buy", "buy"],
        "rating": [5, 4, 3, 2, 1, 5, 4],
    }
)

logs = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=60
).map(lambda rows: pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))


def events_of(data: Interactions) -> list[tuple[object, object, int]]:
    users = np.repeat(data.user_ids, np.diff(data.offsets))
    items = data.item_ids[data.item_index]
    return list(zip(users.tolist(), items.tolist(), data.timestamps.tolist(), strict=True))


def titles_of(data: Interactions) -> list[str] | None:
    return None if data.titles is None else data.titles.tolist()


def assert_same(one: Interactions, other: Interactions) -> None:
    for name in ("user_ids", "item_ids", "offsets", "item_index", "timestamps"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype and np.array_equal(left, right), name
    assert titles_of(one) == titles_of(other)


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


def test_repeats_are_kept_when_asked_for() -> None:
    _, report = load_interactions(online_retail()[0], DataRecipe(repeats=True))
    assert (report.n_events, report.dropped_repeated) == (386_326, 0)
    assert report.n_users_evaluable == 4_211


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
    log = pd.DataFrame(pairs, columns=["user_id", "item_id"]).assign(timestamp=range(11))
    data, report = load_interactions(log, DataRecipe(min_item_events=2, min_user_events=2))
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


@settings(max_examples=40, deadline=None)
@given(logs)
def test_every_format_of_a_log_gives_the_same_fingerprint(
    tmp_path_factory: pytest.TempPathFactory, log: pd.DataFrame
) -> None:
    log = pd.concat([log, pd.DataFrame({"user_id": 9, "item_id": [0, 1, 2], "timestamp": 3})])
    folder = tmp_path_factory.mktemp("formats")
    log.to_csv(folder / "log.csv", index=False)
    log.to_csv(folder / "log.csv.gz", index=False)
    log.to_parquet(folder / "log.parquet")
    log.astype("category").to_parquet(folder / "coded.parquet")
    names = ("log.csv", "log.csv.gz", "log.parquet", "coded.parquet")
    reports = [load_interactions(folder / name)[1] for name in names]
    reports += [load_interactions(frame)[1] for frame in (log, log.astype(str))]
    assert len({report.fingerprint for report in reports}) == 1
    assert len({json.dumps(r.to_json() | {"source": ""}) for r in reports}) == 1


def test_a_fingerprint_changes_with_every_part_of_the_log_but_the_titles() -> None:
    data, report = load_interactions(VIEWS)
    renamed = data.item_ids.copy()
    renamed[0] = "aa"
    others = [
        replace(data, item_ids=renamed),
        replace(data, user_ids=data.user_ids[::-1]),
        replace(data, item_index=data.item_index[::-1]),
        replace(data, timestamps=data.timestamps + 1),
        replace(data, offsets=data.offsets * np.array([1, 0, 1])),
    ]
    assert len({data.fingerprint(), *(other.fingerprint() for other in others)}) == 6
    titled = data.with_titles(np.array(["A", "B", "C"], object))
    assert titled.fingerprint() == report.fingerprint


def test_ids_that_only_join_alike_have_different_fingerprints() -> None:
    data, _ = load_interactions(VIEWS)
    one = replace(data, item_ids=np.array(["ab", "c", "d"], object))
    other = replace(data, item_ids=np.array(["a", "bc", "d"], object))
    assert one.fingerprint() != other.fingerprint()


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


def test_titles_are_found_for_number_ids_and_missing_ones_are_empty() -> None:
    log = pd.DataFrame({"user_id": 1, "item_id": [30, 10, 20], "timestamp": [1, 2, 3]})
    items = pd.DataFrame({"item_id": ["10", "20", "30"], "name": ["ten", None, "thirty"]})
    data, _ = load_interactions(log, DataRecipe(title_col="name"), items=items)
    assert data.titles is not None and list(data.titles) == ["thirty", "ten", ""]


def test_an_items_table_without_any_item_of_the_log_is_refused() -> None:
    items = pd.DataFrame({"item_id": ["A", "B"], "title": ["Apple", "Banana"]})
    with pytest.raises(DataError, match="none of the log's items is here, for example 'a'"):
        load_interactions(VIEWS, items=items)


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
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "interactions.parquet",
        "items.parquet",
    ]


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


def test_arrays_can_be_written_to_so_that_torch_takes_them(tmp_path: Path) -> None:
    data, _ = load_interactions(online_retail()[0])
    data.save(tmp_path)
    for log in (data, Interactions.load(tmp_path)):
        for name in ("user_ids", "item_ids", "offsets", "item_index", "timestamps"):
            assert getattr(log, name).flags.writeable, name


def test_the_report_is_short_and_names_what_was_dropped() -> None:
    _, report = load_interactions(VIEWS, DataRecipe(events=("buy",)))
    assert len(report.lines()) == 7
    assert "2 other event types" in str(report) and "repeats" not in str(report)
    assert json.loads(json.dumps(report.to_json()))["dropped_event_type"] == 2

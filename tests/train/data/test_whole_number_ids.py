"""Whole numbers that one empty cell made floats are read as the numbers that they were."""

import csv
import uuid
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnrec.runtime.errors import DataError
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe

KEEP = DataRecipe(repeats=True)
EXACT = st.integers(-(2**53), 2**53).filter(lambda number: number != -1)


def frame_of(items: object, user: object = 7.0) -> pd.DataFrame:
    column = pd.Series(items)
    return pd.DataFrame({"user_id": user, "item_id": column, "timestamp": range(len(column))})


def items_of(data: Interactions) -> list[object]:
    return data.item_ids[data.sequence(0)].tolist()


@pytest.mark.parametrize("suffix", [None, ".csv", ".parquet"])
def test_float_ids_of_users_and_items_are_the_numbers_they_were_and_it_is_said(
    suffix: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log: Path | pd.DataFrame = frame_of([12.0, 13.0, 12.0, 2.0**53])
    if suffix is not None:
        path = tmp_path / f"log{suffix}"
        log.to_csv(path, index=False) if suffix == ".csv" else log.to_parquet(path)
        # pandas writes 2**53 as 9007199254740992.0
        log = path
    data, report = load_interactions(log, KEEP)
    assert (report.user_id_type, report.item_id_type) == ("int64", "int64")
    assert items_of(data) == [12, 13, 12, 2**53] and data.user_ids.tolist() == [7]
    for column in ("user_id", "item_id"):
        assert f"column '{column}'" in caplog.text and "whole numbers" in caplog.text


@settings(max_examples=60, deadline=None)
@given(st.lists(EXACT, min_size=2, unique=True), st.data())
def test_a_log_with_some_ids_as_floats_is_the_log_with_none(
    ids: list[int], data: st.DataObject
) -> None:
    events = [*ids, ids[0], ids[1]]
    texts = [data.draw(st.sampled_from([f"{i}", f"{i}.0", f"{i}.00"])) for i in events]
    mixed, _ = load_interactions(frame_of(texts), KEEP)
    plain, _ = load_interactions(frame_of(events), KEEP)
    floats, _ = load_interactions(frame_of(np.array(events, float)), KEEP)
    assert mixed.fingerprint() == plain.fingerprint() == floats.fingerprint()


@pytest.mark.parametrize(
    "odd", ["x", "007.0", "12.5", "1e5", "+5", "-0.0", "1.0.0", "12.", ".0", "nan"]
)
def test_one_id_that_is_no_whole_number_leaves_all_as_written_and_is_named(
    odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, _ = load_interactions(frame_of(["12.0", odd, "13.0"]))
    assert items_of(data) == ["12.0", odd, "13.0"]
    assert f"'12.0' stay text as they are written, because '{odd}' is no whole" in caplog.text


@pytest.mark.parametrize("huge", ["9223372036854775808.0", "99999999999999999999.0"])
def test_numbers_beyond_int64_stay_text(huge: str) -> None:
    assert items_of(load_interactions(frame_of(["12.0", huge, "1"]))[0]) == ["12.0", huge, "1"]


def test_as_text_they_stay_as_written_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    versions = ["1.0", "2.0", "1"]
    data, _ = load_interactions(frame_of(versions), DataRecipe(id_type="string"))
    assert items_of(data) == versions and "item_id" not in caplog.text
    data, _ = load_interactions(frame_of([1.0, 2.0, 3.0]), DataRecipe(id_type="string"))
    assert items_of(data) == ["1", "2", "3"]


def test_as_int64_they_are_accepted() -> None:
    data, _ = load_interactions(frame_of(["1.0", "2.0", "3"]), DataRecipe(id_type="int64"))
    assert items_of(data) == [1, 2, 3]


def test_the_padding_value_and_a_missing_float_are_refused() -> None:
    with pytest.raises(DataError, match="row 2, column 'item_id': the id -1 is the padding value"):
        load_interactions(frame_of([1.0, -1.0, 2.0]))
    with pytest.raises(DataError, match="row 2, column 'item_id': the id is missing"):
        load_interactions(frame_of([1.0, float("nan"), 2.0]))
    table = pa.table(
        {"user_id": [1, 1, 1], "item_id": [1.0, float("nan"), 2.0], "timestamp": [1, 2, 3]}
    )
    with pytest.raises(DataError, match="row 2, column 'item_id': the id is missing"):
        load_interactions(table)


@pytest.mark.parametrize(
    "kind", [pa.decimal128(38, 0), pa.decimal128(20, 2), pa.decimal256(40, 1)]
)
def test_whole_decimals_of_a_database_are_exact(kind: pa.DataType) -> None:
    ids = pa.array([Decimal(12), Decimal(10**17), Decimal(13)], kind)
    table = pa.table({"user_id": [1, 1, 1], "item_id": ids, "timestamp": [1, 2, 3]})
    assert items_of(load_interactions(table)[0]) == [12, 10**17, 13]
    broken = pa.array([Decimal("12.5"), Decimal(1), Decimal(13)], pa.decimal128(20, 2))
    with pytest.raises(DataError, match=r"must be whole numbers, and there is 12\.50"):
        load_interactions(table.set_column(1, "item_id", broken))


@pytest.mark.parametrize("through_file", [False, True])
def test_uuids_are_read_as_their_text(through_file: bool, tmp_path: Path) -> None:
    ids = [uuid.UUID(int=number) for number in (1, 2, 3)]
    log: pd.DataFrame | Path = frame_of(ids, user="u")
    if through_file:
        column = pa.array([i.bytes for i in ids], pa.uuid())
        table = pa.table({"user_id": list("uuu"), "item_id": column, "timestamp": [1, 2, 3]})
        log = tmp_path / "log.parquet"
        pyarrow.parquet.write_table(table, log)
    data, _ = load_interactions(log)
    assert items_of(data) == [str(i) for i in ids]


@pytest.mark.parametrize(
    "ids", [[(1, 2), (3, 4), (5, 6)], [{"a": 1}, {"a": 2}, {"a": 3}], [[1], [2], [3]]]
)
def test_ids_of_several_values_are_refused(ids: list[object]) -> None:
    with pytest.raises(DataError, match=r"column 'item_id': ids of type .* are not supported"):
        load_interactions(frame_of(ids))


def test_tables_beside_the_log_know_the_same_numbers(caplog: pytest.LogCaptureFixture) -> None:
    log = frame_of([12, 13, 14], user=1)
    for ids in (["12.0", "13.0", "junk"], [12.0, 13.0, float("nan")], ["12", "13.0", ""]):
        caplog.clear()
        items = pd.DataFrame({"item_id": ids, "title": ["A", "B", "C"]})
        users = pd.DataFrame({"user_id": ["1.0"], "plan": ["gold"]})
        data, _ = load_interactions(log, DataRecipe(tag_cols=("plan",)), items=items, users=users)
        assert data.titles is not None and list(data.titles) == ["A", "B", ""]
        assert data.user_tags is not None and data.user_tags[0] == ("gold",)
        assert "whole numbers" in caplog.text


def test_text_ids_of_a_table_are_compared_as_written_unless_none_is_found() -> None:
    recipe = DataRecipe(id_type="string")
    items = pd.DataFrame({"item_id": ["1.0", "1"], "title": ["one point oh", "one"]})
    data, _ = load_interactions(frame_of(["1", "1.0", "2"]), recipe, items=items)
    assert data.titles is not None and list(data.titles) == ["one", "one point oh", ""]
    items = pd.DataFrame({"item_id": ["12", "13"], "title": ["A", "B"]})
    data, _ = load_interactions(frame_of(["12.0", "13.0", "x"]), recipe, items=items)
    assert data.titles is not None and list(data.titles) == ["A", "B", ""]


@pytest.mark.parametrize(
    ("log_ids", "table_ids", "titles"),
    [
        (["12", "13", "x", "y"], ["12.0", "13.0", "x"], ["A", "B", "C", ""]),
        (["12.0", "13.0", "x", "y"], ["12", "13", "x"], ["A", "B", "C", ""]),
        (["12", "13", "x"], ["12", "12.0", "13.0"], ["A", "", ""]),
    ],
    ids=["floats in the table", "floats in the log", "two versions of one number"],
)
def test_one_text_id_that_is_found_does_not_hide_numbers_in_another_spelling(
    log_ids: list[str], table_ids: list[str], titles: list[str]
) -> None:
    items = pd.DataFrame({"item_id": table_ids, "title": ["A", "B", "C"]})
    users = items.rename(columns={"item_id": "user_id"})
    pairs = [(user, item) for user in log_ids for item in log_ids]
    log = pd.DataFrame(pairs, columns=["user_id", "item_id"]).assign(timestamp=range(len(pairs)))
    recipe = DataRecipe(tag_cols=("title",))
    data, _ = load_interactions(log, recipe, items=items, users=users)
    assert data.titles is not None and data.user_tags is not None
    assert dict(zip(data.item_ids, data.titles, strict=True)) == dict(
        zip(log_ids, titles, strict=True)
    )
    assert [" ".join(tags) for tags in data.user_tags] == titles


def test_a_csv_of_pandas_after_an_empty_cell_is_read_as_before(tmp_path: Path) -> None:
    """The way it happens: a column with a hole, the row dropped, the table saved."""
    with open(tmp_path / "export.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [("user_id", "item_id", "timestamp"), (1, 12, 1), (1, "", 2), (1, 13, 3), (1, 14, 4)]
        )
    pd.read_csv(tmp_path / "export.csv").dropna().to_csv(tmp_path / "log.csv", index=False)
    assert "12.0" in (tmp_path / "log.csv").read_text()
    assert items_of(load_interactions(tmp_path / "log.csv")[0]) == [12, 13, 14]

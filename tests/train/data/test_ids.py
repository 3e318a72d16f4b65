"""Ids come out of a log as they went in, byte for byte."""

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
from attnrec.train.data.recipe import DataRecipe, IdType

KEEP = DataRecipe(repeats=True)
EXACT = st.integers(-(2**53), 2**53).filter(lambda number: number != -1)
AS_WRITTEN = [
    "007", "+1", "-0", "1e3", "0x10", " 1", "1 ", "NA", "null", "None", "nan", "true",
    "9223372036854775808", "f47ac10b-58cc-4372-a567-0e02b2c3d479", 'a,"b"', "two\nlines",
    "carriage\rreturn", "tab\t", "🎁 café", "cafe\u0301", "\ufeff1", "١٢",
]  # fmt: skip


def log_of(items: list[str], path: Path, user: str = "u") -> Path:
    """A CSV log in which one user meets `items`, then twice the items "a" and "b"."""
    rows = [(user, item, order) for order, item in enumerate([*items, "a", "b", "a", "b"])]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "item_id", "timestamp"))
        writer.writerows(rows)
    return path


def frame_of(items: object, user: object = 1) -> pd.DataFrame:
    column = pd.Series(items)
    return pd.DataFrame({"user_id": user, "item_id": column, "timestamp": range(len(column))})


def items_of(data: Interactions) -> list[object]:
    """The raw items of the first user, oldest first."""
    return list(data.item_ids[data.sequence(0)])


@pytest.mark.parametrize("odd", AS_WRITTEN)
def test_an_id_that_is_no_plain_number_stays_text_as_written(odd: str, tmp_path: Path) -> None:
    data, report = load_interactions(log_of([odd, "1"], tmp_path / "log.csv", odd), KEEP)
    assert report.item_id_type == report.user_id_type == "string"
    assert items_of(data) == [odd, "1", "a", "b", "a", "b"]
    assert list(data.user_ids) == [odd]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1).filter(lambda n: n != -1), min_size=3))
def test_plain_numbers_become_int64(ids: list[int]) -> None:
    texts = load_interactions(frame_of([*map(str, ids), "0", "5"]), KEEP)[0]
    numbers = load_interactions(frame_of(np.array([*ids, 0, 5])), KEEP)[0]
    assert texts.item_ids.dtype == numbers.item_ids.dtype == np.int64
    assert items_of(texts) == items_of(numbers) == [*ids, 0, 5]
    assert texts.fingerprint() == numbers.fingerprint()


def test_one_odd_id_makes_all_ids_of_its_column_text() -> None:
    data, report = load_interactions(frame_of(["1", "2", "03"]))
    assert (report.user_id_type, report.item_id_type) == ("int64", "string")
    assert list(data.item_ids) == ["1", "2", "03"]


def test_string_ids_are_chosen_by_the_recipe() -> None:
    data, report = load_interactions(frame_of([1, 2, -1]), DataRecipe(id_type="string"))
    assert (report.user_id_type, report.item_id_type) == ("string", "string")
    assert list(data.item_ids) == ["1", "2", "-1"]


@pytest.mark.parametrize("odd", ["007", "9223372036854775808", "-9223372036854775809"])
def test_int64_ids_of_the_recipe_must_be_possible(odd: str) -> None:
    recipe = DataRecipe(id_type="int64")
    assert items_of(load_interactions(frame_of(["1.0", "2.0", "3"]), recipe)[0]) == [1, 2, 3]
    with pytest.raises(DataError, match=f"row 3, column 'item_id': '{odd}' .*`id_type=string`"):
        load_interactions(frame_of(["1", "2", odd, "x"]), recipe)


def test_the_padding_value_of_int64_items_is_refused_and_a_user_of_that_id_is_not() -> None:
    for ids in ([1, -1, 2], [1.0, -1.0, 2.0]):
        with pytest.raises(DataError, match=r"row 2, column 'item_id': .*`id_type=string`"):
            load_interactions(frame_of(ids))
    assert list(load_interactions(frame_of([1, 2, 3], user=-1))[0].user_ids) == [-1]


@pytest.mark.parametrize("column", ["user_id", "item_id"])
@pytest.mark.parametrize("id_type", ["auto", "string", "int64"])
def test_an_empty_id_is_refused_with_its_line(
    column: str, id_type: IdType, tmp_path: Path
) -> None:
    row = {"user_id": "1", "item_id": "2", "timestamp": "3"}
    table = pd.DataFrame([row, row | {column: ""}, row])
    table.to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(DataError, match=f"log.csv, line 3, column '{column}': the id is empty"):
        load_interactions(tmp_path / "log.csv", DataRecipe(id_type=id_type))


@pytest.mark.parametrize(
    "ids",
    [
        *(pd.Series(["a", missing, "b"], dtype=object) for missing in (None, np.nan, pd.NA)),
        pd.Categorical(["a", None, "b"]),
        [1.0, float("nan"), 2.0],
        pa.array([1.0, float("nan"), 2.0]),
    ],
)
def test_a_missing_id_is_refused_with_its_row(ids: object) -> None:
    log = {"user_id": [1, 1, 1], "item_id": ids, "timestamp": [1, 2, 3]}
    table = pa.table(log) if isinstance(ids, pa.Array) else pd.DataFrame(log)
    with pytest.raises(DataError, match="row 2, column 'item_id': the id is missing"):
        load_interactions(table)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([7, 2**40, 9], pa.int64()),
        pa.array([7, 8, 9], pa.uint8()),
        pa.array([7, 2**63 - 1, 9], pa.uint64()),
        pa.array(["7", "8", "9"], pa.large_string()),
        pa.array(["7", "8", "9"], pa.string_view()),
        pa.array([b"7", b"8", b"9"], pa.binary()),
        pa.array(["7", "8", "9"]).dictionary_encode(),
        pa.array([7, 8, 9], pa.int16()).dictionary_encode(),
        pa.DictionaryArray.from_arrays([2, 0, 1], pa.array(["8", "9", "7", "unused"])),
        pa.DictionaryArray.from_arrays([0, 1, 2], pa.array(["7", "7", "9"])),
    ],
    ids=lambda values: str(values.type),
)
def test_every_exact_parquet_type_gives_the_same_ids(values: pa.Array, tmp_path: Path) -> None:
    users, times = pa.array([1, 1, 1]), pa.array([0, 1, 2])
    table = pa.table({"user_id": users, "item_id": values, "timestamp": times})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    data, report = load_interactions(tmp_path / "log.parquet", KEEP)
    assert report.item_id_type == "int64"
    assert items_of(data) == [int(value) for value in values.to_pylist()]


def test_numbers_beyond_int64_in_parquet_become_text(tmp_path: Path) -> None:
    frame = frame_of(np.array([1, 2, 2**64 - 1], np.uint64))
    frame.to_parquet(tmp_path / "log.parquet")
    data, _ = load_interactions(tmp_path / "log.parquet")
    assert list(data.item_ids) == ["1", "2", "18446744073709551615"]


@pytest.mark.parametrize("through_file", [False, True])
def test_a_category_column_keeps_its_ids_and_the_order_of_the_rows(
    through_file: bool, tmp_path: Path
) -> None:
    frame = frame_of(pd.Categorical(["b", "c", "a"], ["x", "a", "b", "c"]))
    frame.to_parquet(tmp_path / "log.parquet")
    data, _ = load_interactions(tmp_path / "log.parquet" if through_file else frame)
    assert list(data.item_ids) == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([1.0, 2.5, 3.0], "double must be whole numbers, and there is 2.5; convert"),
        (pd.Categorical([1.0, 2.5, 3.0]), "double must be whole numbers, and there is 2.5"),
        ([1.0, 2.0**53 + 2, 3.0], "are exact up to 9,007,199,254,740,992, and there is 90"),
        (
            [1.0, float("inf"), 3.0],
            "are exact up to 9,007,199,254,740,992, and there is inf",
        ),
        (np.array([1, 2**24 + 2, 3], np.float32), "float are exact up to 16,777,216"),
        ([True, False, True], "bool are not supported"),
        (pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]), "are not supported"),
        (pd.Series([1, "a", 2], dtype=object), "mixed"),
        (pd.Series(["a", "\ud800", "b"], dtype=object), "mixed or unknown"),
        (pd.Series([b"a", b"\xff", b"b"], dtype=object), "not UTF-8"),
        (pd.Series([2**70, 1, 2], dtype=object), "mixed or unknown"),
    ],
)
def test_ids_of_an_inexact_type_are_refused_with_the_remedy(values: object, problem: str) -> None:
    with pytest.raises(DataError, match=f"DataFrame, column 'item_id': .*{problem}"):
        load_interactions(frame_of(values))


def test_users_and_items_are_numbered_by_their_first_row() -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["v", "u", "u", "v", "v", "u"],
            "item_id": ["z", "y", "x", "y", "x", "z"],
            "timestamp": [5, 4, 3, 2, 1, 0],
        }
    )
    data, _ = load_interactions(frame)
    assert list(data.user_ids) == ["v", "u"]
    assert list(data.item_ids) == ["z", "y", "x"]
    assert items_of(data) == ["x", "y", "z"]


# --- whole numbers that one empty cell made floats


@pytest.mark.parametrize("suffix", [None, ".csv", ".parquet"])
def test_float_ids_of_users_and_items_are_the_numbers_they_were_with_a_warning(
    suffix: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log: Path | pd.DataFrame = frame_of([12.0, 13.0, 12.0, 2.0**53], user=7.0)
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
    "odd",
    ["x", "007.0", "12.5", "1e5", "+5", "-0.0", "1.0.0", "12.", ".0", "nan", f"{2**63}.0"],
)
def test_one_id_that_is_no_whole_number_leaves_all_as_written_and_is_named(
    odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, _ = load_interactions(frame_of(["12.0", odd, "13.0"]))
    assert items_of(data) == ["12.0", odd, "13.0"]
    assert f"'12.0' stay text as they are written, because '{odd}' is no whole" in caplog.text


def test_as_text_they_stay_as_written_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    versions = ["1.0", "2.0", "1"]
    data, _ = load_interactions(frame_of(versions), DataRecipe(id_type="string"))
    assert items_of(data) == versions and "item_id" not in caplog.text
    data, _ = load_interactions(frame_of([1.0, 2.0, 3.0]), DataRecipe(id_type="string"))
    assert items_of(data) == ["1", "2", "3"]


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

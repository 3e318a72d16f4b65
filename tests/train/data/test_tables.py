"""What a log may be: a file, a DataFrame, or any table that hands over Arrow columns."""

import datetime
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from attnrec.runtime.errors import DataError
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.runs.final import train_final
from attnrec.train.runs.train import train
from attnrec.train.tuning.search import tune

TABLE = pa.table(
    {
        "user_id": list("aaabbb"),
        "item_id": list("xyzxyz"),
        "timestamp": [1_700_000_000 + place for place in range(6)],
        "event": list("vbvbvb"),
        "rating": list("135135"),
        "note": [[1]] * 6,
    }
)
VIEWS = dict.fromkeys(("user_id", "item_id", "event", "rating"), pa.string_view())
CSV = "user_id,item_id,timestamp\n1,a,1\n1,b,2\n1,c,3\n"


def refused(log: Any, recipe: DataRecipe | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_interactions(log, recipe or DataRecipe())
    return str(caught.value)


class OtherTable:
    """A table of another library, which has Arrow's interface and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def in_views(table: pa.Table) -> pa.Table:
    fields = [pa.field(f.name, VIEWS.get(f.name, f.type)) for f in table.schema]
    return table.cast(pa.schema(fields))


def encoded(table: pa.Table) -> pa.Table:
    return table.set_column(
        0, "user_id", pa.array(table["user_id"].to_pylist()).dictionary_encode()
    )


@pytest.mark.parametrize(
    "made",
    [
        lambda table: table,
        OtherTable,
        in_views,
        lambda table: OtherTable(in_views(table)),
        encoded,
        lambda table: table.to_batches()[0],
        lambda table: table.to_reader(),
    ],
)
def test_every_arrow_table_is_the_log_that_its_dataframe_is(made: Any) -> None:
    recipe = DataRecipe(events=("v", "b"), event_weights={"b": 2}, min_rating=1)
    expected = load_interactions(TABLE.to_pandas(), recipe)[1]
    assert load_interactions(made(TABLE), recipe)[1].fingerprint == expected.fingerprint


def test_an_arrow_table_without_a_column_says_what_there_is() -> None:
    message = refused(TABLE, DataRecipe(item_col="nope"))
    assert message.startswith("Table: there is no column 'nope', the columns are 'user_id'")


@pytest.mark.parametrize("wrong", [None, {"user_id": []}, [("a", "x", 1)], 7, b"log.csv"])
def test_what_is_no_table_is_refused_with_how_to_make_one(wrong: Any) -> None:
    with pytest.raises(
        ValueError, match=r"a pandas DataFrame or an Arrow table, not .*pandas\.DataFrame"
    ):
        load_interactions(wrong)
    if wrong is not None:
        with pytest.raises(ValueError, match="an Arrow table, not a"):
            load_interactions(TABLE, items=wrong)


def test_a_stream_that_is_no_table_is_refused() -> None:
    with pytest.raises(DataError, match="not a table of named columns"):
        load_interactions(pa.chunked_array([[1, 2]]))


def test_types_that_arrow_cannot_filter_are_no_traceback() -> None:
    users = pa.RunEndEncodedArray.from_arrays([3, 6], ["a", "b"])
    table = TABLE.set_column(0, "user_id", users)
    assert load_interactions(table, DataRecipe(events=("v", "b")))[1].n_users == 2
    views = TABLE.set_column(1, "item_id", pa.array([[1]] * 6, pa.list_view(pa.int64())))
    with pytest.raises(DataError, match="column 'item_id'"):
        load_interactions(views, DataRecipe(events=("v", "b")))
    for column in ("timestamp", "event", "rating"):
        odd = TABLE.set_column(TABLE.column_names.index(column), column, TABLE["note"])
        with pytest.raises(DataError, match=f"column '{column}'"):
            load_interactions(odd, DataRecipe(events=("v", "b"), min_rating=1))


def test_a_date_in_the_far_future_of_spark_stays_the_last(tmp_path: Path) -> None:
    times = [datetime.datetime(2020, 1, day) for day in (1, 2, 3)] + [
        datetime.datetime(9999, 12, 31)
    ]
    items = ["first", "second", "third", "open end"]
    table = pa.table(
        {"user_id": ["a"] * 4, "item_id": items, "timestamp": pa.array(times, pa.timestamp("us"))}
    )
    pyarrow.parquet.write_table(
        table, tmp_path / "log.parquet", use_deprecated_int96_timestamps=True
    )
    data, report = load_interactions(tmp_path / "log.parquet")
    assert data.item_ids[data.item_index].tolist() == items
    assert report.last_time == "9999-12-31T00:00:00+00:00"


def test_the_name_of_a_model_in_place_of_a_config_is_named_with_the_remedy(tmp_path: Path) -> None:
    wrong: Any = "sasrec"
    frame = pd.DataFrame({"user_id": [], "item_id": [], "timestamp": []})
    message = "`config` must be a TrainConfig, not 'sasrec'; write TrainConfig"
    with pytest.raises(ValueError, match=message):
        train(frame, wrong, out=tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        tune(frame, wrong, minutes=1, out=tmp_path / "run")
    with pytest.raises(
        ValueError, match="`recipe` must be a DataRecipe, not a dict; write DataRecipe"
    ):
        train(frame, TrainConfig("popularity"), recipe={"repeats": True}, out=tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`held_out_run` must be a Run, not 'run'; Run\.load"):
        train_final("run", out=tmp_path / "run")  # type: ignore[arg-type]


# --- files


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "log.csv")
    assert "the folder holds no file" in refused(tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_a_name_that_is_no_unicode_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
    path.write_bytes(gzip.compress(CSV.encode()) if suffix == ".csv.gz" else CSV.encode())
    assert "name is not valid Unicode; rename it" in refused(path)


@pytest.mark.parametrize("name", ["log.txt", "log", "log.gz", "log.parquet.gz", "log.csv.zip"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(CSV)
    known = ".csv, .tsv, .parquet, .jsonl, .ndjson, .json, .feather, .arrow; texts also with .gz"
    assert refused(tmp_path / name).endswith(f"must end in {known}")


def test_a_file_whose_content_contradicts_its_name_is_recognised(tmp_path: Path) -> None:
    zipped, plain, frame = gzip.compress(CSV.encode()), CSV.encode(), pd.DataFrame({"a": [1]})
    frame.to_parquet(tmp_path / "table.parquet")
    (tmp_path / "log.csv").write_bytes(zipped)
    assert "name the file .csv.gz" in refused(tmp_path / "log.csv")
    (tmp_path / "log.csv.gz").write_bytes(plain)
    assert "not gzip" in refused(tmp_path / "log.csv.gz")
    (tmp_path / "table.parquet").rename(tmp_path / "table.csv")
    assert "name the file .parquet" in refused(tmp_path / "table.csv")
    (tmp_path / "log.parquet").write_bytes(plain)
    assert "log.parquet: not an intact Parquet file" in refused(tmp_path / "log.parquet")


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    numbers = range(999)
    pd.DataFrame({"user_id": numbers, "item_id": numbers, "timestamp": numbers}).to_parquet(path)
    content = path.read_bytes()
    for broken in (content[:100], content[:-4] + b"XXXX"):
        path.write_bytes(broken)
        assert "log.parquet: not an intact Parquet file" in refused(path)


def test_rows_of_parquet_are_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = pd.DataFrame({"user_id": 1, "item_id": ["a", "b", ""], "timestamp": [1, 2, 3]})
    frame.to_parquet(path)
    assert "log.parquet, row 3, column 'item_id': the id is empty" in refused(path)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.999])
def test_a_cut_or_damaged_gzip_file_is_refused(keep: float, tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * 7919 % 10007},{i}\n" for i in range(9999))
    content = bytearray(gzip.compress((CSV + rows).encode()))
    path = tmp_path / "log.csv.gz"
    path.write_bytes(content[: int(len(content) * keep)])
    assert "cannot be read to its end" in refused(path)
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert path.name in refused(path)


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode()) + gzip.compress(b"1,d,4\n"))
    assert load_interactions(path)[1].n_events == 4


# --- columns


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame([[1, 2, 2, 3]], columns=["user_id", "item_id", "item_id", "timestamp"])
    frame.to_csv(tmp_path / "log.csv", index=False)
    for log in (frame, tmp_path / "log.csv", TABLE.append_column("item_id", TABLE["item_id"])):
        message = refused(log)
        assert "several columns 'item_id'" in message
        assert message.endswith("rename all but one of them")


def test_a_header_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(CSV.splitlines()[0] + "\n")
    assert refused(tmp_path / "log.csv") == "log.csv: there is a header but no row"
    empty = pd.DataFrame({"user_id": [], "item_id": [], "timestamp": []})
    assert refused(empty) == "DataFrame: there is a header but no row"


def test_an_event_column_of_another_kind_is_refused() -> None:
    log = pd.DataFrame({"user_id": 1, "item_id": [1, 2, 3], "timestamp": [1, 2, 3]})
    log["event"] = [["a"], ["b"], ["c"]]
    log["rating"] = pd.to_datetime(["2020-01-01"] * 3)
    with pytest.raises(DataError, match="column 'event': the event types are no text"):
        load_interactions(log, DataRecipe(events=("a",)))
    with pytest.raises(DataError, match="column 'rating'"):
        load_interactions(log, DataRecipe(min_rating=1))
    with pytest.raises(DataError, match="column 'event': the titles are not text"):
        load_interactions(log, DataRecipe(title_col="event"), items=log)


def broken_texts(n_rows: int) -> pa.Array:
    """Arrow checks no text that it is handed: the first of these is half of a surrogate pair."""
    offsets = np.array([0, 3, 4, 5], np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"\xed\xa0\x80ab")]
    return pa.concat_arrays([pa.Array.from_buffers(pa.string(), 3, buffers)] * (n_rows // 3))


@pytest.mark.parametrize("column", ["user_id", "item_id", "timestamp", "event"])
@pytest.mark.parametrize("is_file", [True, False], ids=["parquet", "arrow"])
def test_text_of_an_arrow_table_that_is_no_utf_8_is_refused_with_its_column(
    column: str, is_file: bool, tmp_path: Path
) -> None:
    columns = {name: pa.array(list("xyz") * 3) for name in ("user_id", "item_id", "event")}
    table = pa.table({**columns, "timestamp": list(range(9)), column: broken_texts(9)})
    if is_file:
        pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(DataError, match=f"column '{column}': .*UTF8"):
        load_interactions(
            tmp_path / "log.parquet" if is_file else table, DataRecipe(events=("a", "x"))
        )

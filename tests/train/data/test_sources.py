"""What a log may be: a file, a DataFrame, or any table that hands over Arrow columns."""

import datetime
from pathlib import Path
from typing import Any

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
VIEWS = {
    "user_id": pa.string_view(),
    "item_id": pa.string_view(),
    "event": pa.string_view(),
    "rating": pa.string_view(),
}


class Stranger:
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
        Stranger,
        in_views,
        lambda table: Stranger(in_views(table)),
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
    with pytest.raises(
        DataError, match="Table: there is no column 'nope', the columns are 'user_id'"
    ):
        load_interactions(TABLE, DataRecipe(item_col="nope"))
    with pytest.raises(DataError, match="there are several columns 'user_id'"):
        load_interactions(TABLE.append_column("user_id", TABLE["user_id"]))


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

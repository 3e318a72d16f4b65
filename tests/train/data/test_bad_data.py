"""A log that cannot be used is refused with the file, the place and the remedy."""

import gzip
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from attnrec.runtime.errors import DataError
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe

HEADER = "user_id,item_id,timestamp\n"
GOOD = HEADER + "1,a,1\n1,b,2\n1,c,3\n"


def refused(path: Path, recipe: DataRecipe | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_interactions(path, recipe or DataRecipe())
    return str(caught.value)


@pytest.fixture(params=["log.csv", "log.csv.gz"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def write(path: Path, content: str | bytes) -> Path:
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_a_good_log_is_accepted(log: Path) -> None:
    assert load_interactions(write(log, GOOD))[1].n_events == 3


@pytest.mark.parametrize("variant", [GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, "\n" + GOOD])
def test_line_ends_a_byte_order_mark_and_empty_lines_are_no_fault(log: Path, variant: str) -> None:
    expected = load_interactions(write(log, GOOD))[1]
    assert load_interactions(write(log, variant))[1] == expected


@pytest.mark.parametrize("option", ["user", "item", "time"])
def test_a_missing_column_is_named_with_its_setting_and_what_is_there(
    log: Path, option: str
) -> None:
    recipe = DataRecipe.from_json({f"{option}_col": "nope"})
    message = refused(write(log, GOOD), recipe)
    assert "no column 'nope', the columns are 'user_id', 'item_id', 'timestamp'" in message
    assert f"; name the right one with `{option}_col`" in message


def test_the_event_and_rating_columns_are_needed_only_when_used(log: Path) -> None:
    write(log, GOOD)
    assert "with `event_col`" in refused(log, DataRecipe(events=("buy",)))
    assert "with `rating_col`" in refused(log, DataRecipe(min_rating=3))


def test_a_column_that_stands_twice_is_refused(log: Path, tmp_path: Path) -> None:
    write(log, "user_id,item_id,item_id,timestamp\n1,a,b,2\n")
    assert "several columns 'item_id'" in refused(log)
    frame = pd.DataFrame([[1, 2, 2, 3]], columns=["user_id", "item_id", "item_id", "timestamp"])
    with pytest.raises(DataError, match="several columns 'item_id'"):
        load_interactions(frame)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_separator_is_recognised(log: Path, mark: str) -> None:
    assert "separated by commas" in refused(write(log, GOOD.replace(",", mark)))


def test_an_empty_file_and_a_file_of_line_ends_are_refused(log: Path) -> None:
    assert refused(write(log, "")) == f"{log.name}: the file is empty"
    assert refused(write(log, "\n\n")) == f"{log.name}: the file is empty"


def test_a_header_without_rows_is_refused(log: Path) -> None:
    assert refused(write(log, HEADER)) == f"{log.name}: there is a header but no row"
    with pytest.raises(DataError, match="DataFrame: there is a header but no row"):
        load_interactions(pd.DataFrame({"user_id": [], "item_id": [], "timestamp": []}))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1,d", "line 5: 2 fields where the header has 3"),
        ("1,d,4,5", "line 5: 4 fields where the header has 3"),
        (",d,4", "line 5, column 'user_id': the id is empty"),
        ("1,,4", "line 5, column 'item_id': the id is empty"),
        ("1,d,", "line 5, column 'timestamp': '' is not a number"),
        ("1,d, 4", "line 5, column 'timestamp': ' 4' is not a number"),
    ],
)
def test_a_bad_row_is_named_by_its_line(log: Path, row: str, problem: str) -> None:
    message = refused(write(log, f"{GOOD}{row}\n1,e,6\n"))
    assert message.startswith(f"{log.name}, {problem}")


@pytest.mark.parametrize("note", [False, True])
def test_a_quote_that_is_never_closed_is_refused_even_where_it_fits_the_columns(
    log: Path, note: bool
) -> None:
    header = "user_id,timestamp,note,item_id\n" if note else "user_id,timestamp,item_id,note\n"
    write(log, header + '1,1,a,a\n1,2,b,"b\n1,3,c,c\n1,4,d,d\n1,5,e,e\n')
    assert refused(log) == f"{log.name}, line 3: a double quote is opened and never closed"
    write(log, GOOD + '1,"d,4\n1,e,5\n')
    assert refused(log) == f"{log.name}, line 5: a double quote is opened and never closed"


def test_an_inch_mark_inside_a_field_is_no_quote(log: Path) -> None:
    data, _ = load_interactions(write(log, GOOD + '1,pipe 5",4\n'))
    assert list(data.item_ids) == ["a", "b", "c", 'pipe 5"']


def test_a_long_wrong_value_is_cut_in_the_message(log: Path) -> None:
    message = refused(write(log, f"{GOOD}1,d,{'x' * 999}\n"))
    assert "'xxx" in message and len(message) < 250


def test_lines_are_counted_as_an_editor_shows_them(log: Path) -> None:
    rows = '1,"two\nlines",1\n\n1,"three\n\nlines",2\n1,c,oops\n'
    assert f"{log.name}, line 8, column 'timestamp': 'oops'" in refused(write(log, HEADER + rows))


def test_the_line_is_right_after_rows_were_filtered(log: Path) -> None:
    rows = "1,a,1,view,\n1,b,2,buy,5\n,,,view,\n1,c,oops,buy,4\n"
    write(log, "user_id,item_id,timestamp,event,rating\n" + rows)
    recipe = DataRecipe(events=("buy",), min_rating=1)
    assert f"{log.name}, line 5, column 'timestamp': 'oops'" in refused(log, recipe)


@pytest.mark.parametrize("rating", ["", "good", "nan"])
def test_a_rating_that_is_no_number_is_refused_only_when_used(log: Path, rating: str) -> None:
    rows = f"1,a,1,5\n1,b,2,{rating}\n1,c,3,4\n"
    write(log, "user_id,item_id,timestamp,rating\n" + rows)
    assert load_interactions(log)[1].n_events == 3
    message = refused(log, DataRecipe(min_rating=3))
    assert f"line 3, column 'rating': '{rating}' is not a rating" in message


def test_filters_that_leave_nothing_say_what_there_is(log: Path) -> None:
    rows = "1,a,1,view,2\n1,b,2,click,3\n1,c,3,view,1\n"
    write(log, "user_id,item_id,timestamp,event,rating\n" + rows)
    message = refused(log, DataRecipe(events=("buy",)))
    assert "no row has the event type 'buy', there are 'view', 'click'; see `events`" in message
    assert "no rating reaches 4, the highest is 3.0" in refused(log, DataRecipe(min_rating=4))
    assert "lower `min_item_events`" in refused(log, DataRecipe(min_item_events=2))
    assert "lower `min_user_events`, which is 4" in refused(log, DataRecipe(min_user_events=4))


def test_a_log_without_a_history_of_three_is_refused(log: Path) -> None:
    message = refused(write(log, HEADER + "1,a,1\n1,b,2\n2,a,3\n2,a,4\n"))
    assert "no user has 3 events, the longest history has 2" in message
    assert "3 events of 2 users and 2 items" in message
    assert message.endswith("`repeats` keeps the 1 repeated events that were dropped")
    assert refused(write(log, HEADER + "1,a,1\n2,b,2\n3,a,3\n")).endswith(
        "check that `user_col` names the column of the users"
    )


def test_a_log_with_one_item_is_refused(log: Path) -> None:
    write(log, HEADER + "1,a,1\n1,a,2\n1,a,3\n")
    assert "needs two items" in refused(log, DataRecipe(repeats=True))


@pytest.mark.parametrize("filler", [0, 1 << 20, (1 << 20) - 1])
def test_bytes_that_are_no_utf8_are_named_by_line_and_offset(log: Path, filler: int) -> None:
    long_item = "x" * filler
    start = f"{HEADER}1,a,1\n1,é{long_item},2\n1,".encode()
    message = refused(write(log, start + "café".encode("latin1") + b",3\n"))
    assert f"{log.name}, line 4: byte {len(start) + 3} is not UTF-8" in message
    assert "UTF-8" in message


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_a_file_in_utf16_is_recognised_and_converted_as_the_message_says(
    tmp_path: Path, order: str
) -> None:
    log, text = tmp_path / "log.csv", f"\ufeff{GOOD}".encode(order)
    message = refused(write(log, text))
    assert message.startswith("log.csv, line 1: byte 0 is not UTF-8 text")
    command = message.partition("`")[2].partition("`")[0]
    assert command == "iconv -f utf-16 -t utf-8"
    write(log, subprocess.run(command.split(), input=text, capture_output=True, check=True).stdout)
    assert load_interactions(log)[1].n_events == 3


def test_a_column_that_is_there_twice_is_to_be_renamed(log: Path) -> None:
    message = refused(write(log, "user_id,item_id,item_id,timestamp\n1,a,b,1\n"))
    assert message.endswith("'timestamp'; rename all but one of them")


def test_a_column_that_is_not_used_may_be_in_any_encoding(log: Path) -> None:
    rows = b"1,a,1,caf\xe9\n1,b,2,\n1,c,3,\n"
    assert load_interactions(write(log, b"user_id,item_id,timestamp,note\n" + rows))


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "log.csv")
    assert "is a directory" in refused(tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_a_name_that_is_no_unicode_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
    assert "name is not valid Unicode; rename it" in refused(write(path, GOOD))


@pytest.mark.parametrize("name", ["log.tsv", "log.json", "log", "log.parquet.gz", "log.csv.zip"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    message = refused(write(tmp_path / name, GOOD))
    assert message.endswith("must end in .csv, .csv.gz, .parquet")


def test_a_file_whose_content_contradicts_its_name_is_recognised(tmp_path: Path) -> None:
    zipped, plain, frame = gzip.compress(GOOD.encode()), GOOD.encode(), pd.DataFrame({"a": [1]})
    frame.to_parquet(tmp_path / "table.parquet")
    (tmp_path / "log.csv").write_bytes(zipped)
    assert "name the file .csv.gz" in refused(tmp_path / "log.csv")
    (tmp_path / "log.csv.gz").write_bytes(plain)
    assert "not gzip" in refused(tmp_path / "log.csv.gz")
    (tmp_path / "table.parquet").rename(tmp_path / "table.csv")
    assert "name the file .parquet" in refused(tmp_path / "table.csv")
    (tmp_path / "log.parquet").write_bytes(plain)
    assert "log.parquet: not an intact Parquet file" in refused(tmp_path / "log.parquet")


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.999])
def test_a_cut_gzip_file_is_refused(keep: float, tmp_path: Path) -> None:
    content = gzip.compress((HEADER + "".join(f"{i},{i * 7},{i}\n" for i in range(9999))).encode())
    path = tmp_path / "log.csv.gz"
    path.write_bytes(content[: int(len(content) * keep)])
    assert "cannot be read to its end" in refused(path)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * 7919 % 10007},{i}\n" for i in range(9999))
    content = bytearray(gzip.compress((HEADER + rows).encode()))
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "log.csv.gz"
    path.write_bytes(content)
    assert path.name in refused(path)


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pd.DataFrame(
        {"user_id": range(999), "item_id": range(999), "timestamp": range(999)}
    ).to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:100])
    assert "log.parquet" in refused(path)
    path.write_bytes(content[:-4] + b"XXXX")
    assert "not an intact Parquet file" in refused(path)


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode()) + gzip.compress(b"1,d,4\n"))
    assert load_interactions(path)[1].n_events == 4


def test_rows_of_parquet_are_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = pd.DataFrame({"user_id": 1, "item_id": ["a", "b", ""], "timestamp": [1, 2, 3]})
    frame.to_parquet(path)
    assert "log.parquet, row 3, column 'item_id': the id is empty" in refused(path)


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


@pytest.mark.parametrize("column", ["title", "kind"])
def test_text_of_a_table_beside_the_log_that_is_no_utf_8_is_refused_too(column: str) -> None:
    log = pd.DataFrame({"user_id": 1, "item_id": list("xyz"), "timestamp": [1, 2, 3]})
    columns = {name: pa.array(list("xyz")) for name in ("item_id", "title", "kind")}
    items = pa.table({**columns, column: broken_texts(3)})
    with pytest.raises(DataError, match=f"column '{column}': .*UTF8"):
        load_interactions(log, DataRecipe(attribute_cols=("kind",)), items=items)

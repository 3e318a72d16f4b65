"""A log in many files: folders, patterns, partitions, and the kinds of files that hold them."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from attnrec.runtime.errors import DataError
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe, DataReport
from attnrec.train.data.sources import check_files
from attnrec.train.data.tables import read_table

LOG = pd.DataFrame(
    {
        "user_id": [f"u{row % 7}" for row in range(60)],
        "item_id": [f"{row * row % 11:02}" for row in range(60)],
        "timestamp": [1_700_000_000 + row * 997 % 60 for row in range(60)],
        "event": ["view", "buy", "view"] * 20,
        "note": ["not read"] * 60,
    }
)
RECIPE = DataRecipe(events=("view", "buy"), event_weights={"buy": 2})
KINDS = ["csv", "csv.gz", "tsv", "tsv.gz", "jsonl", "ndjson.gz", "json", "parquet", "feather"]
KINDS += ["arrow"]


def write(frame: pd.DataFrame, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind in ("parquet", "feather", "arrow"):
        table = pa.Table.from_pandas(frame, preserve_index=False)
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif kind == "feather":
        pyarrow.feather.write_feather(table, path)
    elif kind == "arrow":
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    elif "json" in kind:
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, sep="\t" if kind == "tsv" else ",", index=False)
    return path


def in_parts(folder: Path, kind: str = "parquet", *, frame: pd.DataFrame = LOG) -> Path:
    for part in range(3):
        write(frame[part * 20 : part * 20 + 20], folder / f"part-{part:05}.{kind}")
    return folder


def report(source: str | Path, recipe: DataRecipe = RECIPE) -> DataReport:
    return load_interactions(source, recipe)[1]


def refused(source: str | Path, recipe: DataRecipe = RECIPE) -> str:
    with pytest.raises(DataError) as caught:
        load_interactions(source, recipe)
    return str(caught.value)


EXPECTED = load_interactions(LOG, RECIPE)[1].fingerprint


# --- what is read


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_the_log_that_its_dataframe_is(kind: str, tmp_path: Path) -> None:
    whole = report(write(LOG, tmp_path / f"log.{kind}"))
    parts = report(in_parts(tmp_path / "logs", kind))
    assert whole.fingerprint == parts.fingerprint == EXPECTED
    assert (whole.source, parts.source) == (f"log.{kind}", "logs")


def test_a_pattern_names_files_and_folders(tmp_path: Path) -> None:
    in_parts(tmp_path / "logs")
    write(LOG[:20], tmp_path / "2023" / "a.parquet")
    write(LOG[20:], tmp_path / "2024" / "b.parquet")
    for pattern in ("logs/*.parquet", "logs/part-0000[0-2].parquet", "lo*", "202?", "20*/*"):
        assert report(f"{tmp_path}/{pattern}").fingerprint == EXPECTED


def test_what_spark_writes_beside_its_parts_is_passed_over(tmp_path: Path) -> None:
    logs = in_parts(tmp_path / "logs")
    for name in ("_SUCCESS", "._SUCCESS.crc", ".part-00000.parquet.crc", "_temporary/0/a.parquet"):
        (logs / name).parent.mkdir(parents=True, exist_ok=True)
        (logs / name).write_bytes(b"no table")
    assert report(logs).fingerprint == EXPECTED
    assert report(f"{tmp_path}/*/**").fingerprint == EXPECTED


def test_partitions_are_columns(tmp_path: Path) -> None:
    # Numbers by their folders stay text: item 07 is not item 7.
    items = LOG[LOG["item_id"].isin(["00", "01", "04"])]
    expected = load_interactions(items.sort_values(["item_id", "event"], kind="stable"), RECIPE)[1]
    for (item, event), part in items.groupby(["item_id", "event"]):
        rest = part.drop(columns=["item_id", "event"])
        write(rest, tmp_path / "logs" / f"item_id={item}" / f"event={event}" / "0.parquet")
    assert report(tmp_path / "logs").fingerprint == expected.fingerprint
    assert report(f"{tmp_path}/logs/item_id=*/*/*.parquet").fingerprint == expected.fingerprint


def test_values_of_partitions_are_unquoted_and_may_be_missing(tmp_path: Path) -> None:
    rest = LOG.drop(columns="user_id")
    write(rest, tmp_path / "logs" / "user_id=a%2Fb" / "0.parquet")
    assert load_interactions(tmp_path / "logs")[0].user_ids.tolist() == ["a/b"]
    write(rest, tmp_path / "logs" / "user_id=__HIVE_DEFAULT_PARTITION__" / "1.parquet")
    assert "1.parquet, row 1, column 'user_id': the id is missing" in refused(tmp_path / "logs")


def test_a_file_that_is_named_itself_has_only_its_own_columns(tmp_path: Path) -> None:
    path = write(LOG, tmp_path / "user_id=5" / "log.csv")
    assert report(path).fingerprint == EXPECTED


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    for kind in KINDS:
        table = read_table(write(LOG, tmp_path / f"log.{kind}"), {"item_id": ""}, ["item_id"])
        assert table.columns.column_names == ["item_id"]


def test_ids_are_codes_into_one_dictionary_over_all_files(tmp_path: Path) -> None:
    numbers = LOG.assign(user_id=range(60), item_id=LOG["item_id"].astype(int))
    numbers = numbers.astype({"user_id": "int32"})
    for name, log in {"texts": LOG, "numbers": numbers}.items():
        table = read_table(in_parts(tmp_path / name, frame=log), {"item_id": ""}, ["item_id"])
        column = table.columns["item_id"]
        assert pa.types.is_dictionary(column.type)
        assert len(column.chunk(0).dictionary) == log["item_id"].nunique()
        assert all(chunk.dictionary.equals(column.chunk(0).dictionary) for chunk in column.chunks)


def test_ids_are_the_same_when_dictionaries_are_merged_on_the_way(tmp_path: Path) -> None:
    # Two million distinct ids in all, more than wait for being merged.
    ids = [range(start, start + 700_000) for start in (0, 500_000, 1_000_000)]
    for part, users in enumerate(ids):
        rows = {"user_id": users, "item_id": [*users][::-1], "timestamp": users}
        pyarrow.parquet.write_table(pa.table(rows), tmp_path / f"{part}.parquet")
    table = read_table(tmp_path, {"user_id": "", "item_id": ""}, ["user_id", "item_id"])
    for column, step in (("user_id", 1), ("item_id", -1)):
        whole = pa.concat_arrays([pa.array([*part][::step]) for part in ids])
        assert table.decoded(column).combine_chunks().equals(whole)
        assert len(table.columns[column].chunk(0).dictionary) == 1_700_000


# --- separators


def test_a_separator_can_be_named(tmp_path: Path) -> None:
    LOG.to_csv(tmp_path / "log.csv", sep=";", index=False)
    assert report(tmp_path / "log.csv", DataRecipe(**vars(RECIPE) | {"sep": ";"})) is not None
    assert "separated by a comma, or by what `sep` says" in refused(tmp_path / "log.csv")


def test_a_separator_is_minded_where_faults_are_looked_for(tmp_path: Path) -> None:
    path, recipe = tmp_path / "log.csv", DataRecipe(sep=";")
    rows = 'user_id;item_id;timestamp\na;"x;y";1\na;"two\nlines";2\na;b,c;3\n'
    path.write_text(rows)
    assert load_interactions(path, recipe)[0].item_ids.tolist() == ["x;y", "two\nlines", "b,c"]
    path.write_text(f"{rows}a;d;oops\n")
    assert "log.csv, line 6, column 'timestamp'" in refused(path, recipe)
    path.write_text(f"{rows}a;d;e;4\n")
    assert "line 6: 4 fields where the header has 3; put a field that holds a semic" in refused(
        path, recipe
    )
    path.write_text('user_id;item_id;timestamp\n"a",d;e;4\n')
    assert "line 2: there is text after the closing quote" in refused(path, recipe)


@pytest.mark.parametrize("sep", [";;", '"', "\n", "ü", 3])
def test_what_cannot_separate_fields_is_refused(sep: str) -> None:
    with pytest.raises(ValueError, match="`sep` must be one ASCII character"):
        DataRecipe(sep=sep)


# --- what is refused, before anything is read


def test_the_file_of_a_bad_row_is_named_with_its_line(tmp_path: Path) -> None:
    for kind, place in (("csv", "line 6"), ("jsonl", "line 5"), ("parquet", "row 5")):
        broken = LOG.assign(item_id=[*LOG["item_id"][:44], "", *LOG["item_id"][45:]])
        logs = in_parts(tmp_path / kind, kind, frame=broken)
        assert f"{logs}/part-00002.{kind}, {place}, column 'item_id': the id is" in refused(logs)


def test_the_file_is_right_after_rows_were_filtered(tmp_path: Path) -> None:
    broken = LOG.assign(timestamp=[*LOG["timestamp"][:43], "oops", *LOG["timestamp"][44:]])
    logs = in_parts(tmp_path / "logs", "csv", frame=broken)
    message = refused(logs, DataRecipe(events=("buy",)))
    assert f"{logs}/part-00002.csv, line 5, column 'timestamp': 'oops'" in message


def test_a_file_without_a_wanted_column_is_named_before_the_others_are_read(
    tmp_path: Path,
) -> None:
    for kind in KINDS:
        logs = in_parts(tmp_path / kind, kind)
        suffix = logs / f"part-00000.{kind}"
        suffix.unlink()
        write(LOG.assign(item_id=""), suffix)  # a fault that reading would find first
        write(LOG.drop(columns="timestamp"), logs / f"part-00001.{kind}")
        message = refused(logs)
        assert f"part-00001.{kind}: there is no column 'timestamp'" in message


def test_a_column_of_another_type_is_refused_with_its_file(tmp_path: Path) -> None:
    for kind in ("parquet", "feather"):
        logs = in_parts(tmp_path / kind, kind)
        write(LOG.assign(item_id=range(60)), logs / f"part-00001.{kind}")
        message = refused(logs)
        assert f"part-00001.{kind}: a column is of another type than in {logs}/part-00" in message
    logs = in_parts(tmp_path / "jsonl", "jsonl")
    write(LOG.assign(item_id=range(60)), logs / "part-00001.jsonl")
    assert "logs" not in refused(logs) and "differ from file to file" in refused(logs)


def test_columns_that_are_not_read_may_differ(tmp_path: Path) -> None:
    logs = in_parts(tmp_path / "logs")
    write(LOG[20:40].assign(note=7, more=1), logs / "part-00001.parquet")
    assert report(logs).fingerprint == EXPECTED


def test_numbers_of_different_width_are_one_column(tmp_path: Path) -> None:
    numbers = LOG.assign(user_id=[row % 7 for row in range(60)], item_id=LOG["item_id"] + "a")
    logs = in_parts(tmp_path / "logs", frame=numbers)
    kinds = {"user_id": "int16", "timestamp": "int32", "item_id": pd.ArrowDtype(pa.large_string())}
    narrow = numbers[20:40].astype(kinds)
    write(narrow, logs / "part-00001.parquet")
    assert report(logs).fingerprint == load_interactions(numbers, RECIPE)[1].fingerprint


def test_files_without_rows_are_no_fault_among_others(tmp_path: Path) -> None:
    for kind in ("parquet", "csv", "feather"):
        logs = in_parts(tmp_path / kind, kind)
        write(LOG[:0], logs / f"part-00009.{kind}")
        assert report(logs).fingerprint == EXPECTED
        assert refused(logs / f"part-00009.{kind}").endswith("there is a header but no row")


def test_files_of_several_kinds_are_refused(tmp_path: Path) -> None:
    logs = in_parts(tmp_path / "logs")
    write(LOG, logs / "zzz.csv")
    message = refused(logs)
    assert "zzz.csv: the files of a table must be of one kind" in message
    assert "a pattern, such as '*.parquet'" in message
    assert report(logs / "*.parquet").fingerprint == EXPECTED
    (logs / "README.md").write_text("# Log")
    assert f"{logs}/README.md: unknown kind of file" in refused(logs)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("empty", "the folder holds no file; names with _ or . at the start are passed over"),
        (
            "empty/*.csv",
            "there is no such file, and as a pattern it matches none; names with _ or .",
        ),
        ("nothing.csv", "there is no such file"),
    ],
)
def test_nothing_at_all_is_refused_before_the_work(
    source: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "_SUCCESS").write_text("")
    assert refused(tmp_path / source).startswith(f"{tmp_path / source}: {problem}")
    with pytest.raises(DataError, match=problem[:20]):
        check_files(tmp_path / source, None, None)


def test_a_delta_table_is_refused(tmp_path: Path) -> None:
    logs = in_parts(tmp_path / "logs")
    (logs / "_delta_log").mkdir()
    assert "a Delta table keeps files that no longer count" in refused(logs)


# --- JSON lines


def test_ids_that_look_like_dates_stay_text(tmp_path: Path) -> None:
    days = ["2020-01-01", "2020-01-02 00:00:00", "2020-01-03"]
    rows = [{"user_id": 1, "item_id": day, "timestamp": day} for day in days]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    data, found = load_interactions(path)
    assert data.item_ids.tolist() == days and found.time_unit == "iso"


def test_a_type_of_json_may_change_from_block_to_block(tmp_path: Path) -> None:
    rows = [{"user_id": 1, "item_id": row, "timestamp": row} for row in range(200_000)]
    rows[-1]["timestamp"] = 1e6
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert load_interactions(path)[1].n_events == 200_000


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{oops}", "line 4: not a JSON object on one line"),
        ("[1]", "line 4: not a JSON object; `jq -c .[]` writes an array line by line"),
        ('{"user_id": 1, "item_id": "b", "timestamp": 3}', "line 4, column 'item_id': 'b' is of"),
        ('{"user_id": 1, "timestamp": 3}', "line 4, column 'item_id': the id is missing"),
    ],
)
def test_a_bad_line_of_json_is_named(line: str, problem: str, tmp_path: Path) -> None:
    good = [json.dumps({"user_id": 1, "item_id": n, "timestamp": n}) for n in range(2)]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([*good, "", line, good[0]]))
    assert refused(path, DataRecipe()).startswith(f"log.jsonl, {problem}")

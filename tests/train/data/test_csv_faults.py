"""CSV files: every fault is refused with its line and a remedy, everything sound is read."""

import csv
import gzip
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from attnrec.runtime.errors import DataError
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.tables import read_table

HEADER = "user_id,item_id,timestamp\n"
GOOD = HEADER + "1,a,1\n1,b,2\n1,c,3\n"
TWICE = "a quote inside a field is written twice"
SPARK = 'not behind a backslash (Spark: .option("escape", "\\""))'


@pytest.fixture(params=["log.csv", "log.csv.gz"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def write(path: Path, content: str | bytes) -> Path:
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def refused(path: Path, recipe: DataRecipe | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_interactions(path, recipe or DataRecipe())
    return str(caught.value)


def items_of(path: Path) -> list[object]:
    data, _ = load_interactions(path)
    return data.item_ids.tolist()


# --- rows and values


@pytest.mark.parametrize("variant", [GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, "\n" + GOOD])
def test_line_ends_a_byte_order_mark_and_empty_lines_are_no_fault(log: Path, variant: str) -> None:
    expected = load_interactions(write(log, GOOD))[1]
    assert load_interactions(write(log, variant))[1] == expected


def test_an_empty_file_and_a_file_of_line_ends_are_refused(log: Path) -> None:
    assert refused(write(log, "")) == f"{log.name}: the file is empty"
    assert refused(write(log, "\n\n")) == f"{log.name}: the file is empty"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1,d", "line 5: 2 fields where the header has 3"),
        ("1,d,4,5", "line 5: 4 fields where the header has 3"),
        (",d,4", "line 5, column 'user_id': the id is empty"),
        ("1,,4", "line 5, column 'item_id': the id is empty"),
        ("1,d,", "line 5, column 'timestamp': '' is not a number"),
        ("1,d, 4", "line 5, column 'timestamp': ' 4' is not a number"),
        (
            f"1,d,{'x' * 999}",
            f"line 5, column 'timestamp': '{'x' * 59}... (1001 characters) is not",
        ),
    ],
)
def test_a_bad_row_is_named_by_its_line(log: Path, row: str, problem: str) -> None:
    message = refused(write(log, f"{GOOD}{row}\n1,e,6\n"))
    assert message.startswith(f"{log.name}, {problem}")


def test_lines_are_counted_as_an_editor_shows_them(log: Path) -> None:
    rows = '1,"two\nlines",1\n\n1,"three\n\nlines",2\n1,c,oops\n'
    assert f"{log.name}, line 8, column 'timestamp': 'oops'" in refused(write(log, HEADER + rows))


def test_the_line_is_right_after_rows_were_filtered(log: Path) -> None:
    rows = "1,a,1,view,\n1,b,2,buy,5\n,,,view,\n1,c,oops,buy,4\n"
    write(log, "user_id,item_id,timestamp,event,rating\n" + rows)
    recipe = DataRecipe(events=("buy",), min_rating=1)
    assert f"{log.name}, line 5, column 'timestamp': 'oops'" in refused(log, recipe)


# --- the header


@pytest.mark.parametrize("option", ["user", "item", "time"])
def test_a_missing_column_is_named_with_its_setting_and_what_is_there(
    log: Path, option: str
) -> None:
    message = refused(write(log, GOOD), DataRecipe.from_json({f"{option}_col": "nope"}))
    assert "no column 'nope', the columns are 'user_id', 'item_id', 'timestamp'" in message
    assert f"; name the right one with `{option}_col`" in message
    no_times = "where there are no times, add a column that numbers the rows"
    assert message.endswith(no_times) == (option == "time")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_separator_is_recognised(log: Path, mark: str) -> None:
    assert "separated by a comma" in refused(write(log, GOOD.replace(",", mark)))


@pytest.mark.parametrize(
    "rows",
    [
        "A1,B01,5.0,1369699200\nA1,B02,3.0,1355443200\n",
        "196,242,881250949\n186,302,891717742\n",
        "u1,i1,2020-01-01\nu1,i2,2020-01-02\n",
    ],
)
def test_a_file_without_a_header_is_told_apart_and_no_event_is_lost(log: Path, rows: str) -> None:
    message = refused(write(log, rows))
    first = rows.splitlines()[0].split(",")
    assert f"seems to have no header line, its first line is {first[0]!r}" in message
    assert (
        f"the {len(first)} columns before it, in their order, among them user_id, item_id"
        in message
    )
    assert "_col`" not in message
    recipe = DataRecipe(user_col=first[0], item_col=first[1], time_col=first[-1])
    assert "seems to have no header line" in refused(log, recipe)


@pytest.mark.parametrize("header", ["0,1,2", "1,2,3", "7,5,9", "user,item,2020"])
def test_a_short_number_is_a_column_where_the_recipe_names_it(log: Path, header: str) -> None:
    write(log, f"{header},2021\na,x,1,0\na,y,2,0\na,z,3,0\n")
    user, item, time = header.split(",")
    recipe = DataRecipe(user_col=user, item_col=item, time_col=time)
    assert load_interactions(log, recipe)[1].rows_read == 3


@pytest.mark.parametrize("header", ["0,1,2", "1,2,3", "customer,product,2020"])
def test_counted_columns_and_one_short_number_are_no_event(log: Path, header: str) -> None:
    listed = ", ".join(map(repr, header.split(",")))
    message = refused(write(log, f"{header}\na,x,1\na,y,2\na,z,3\n"))
    assert f"no column 'user_id', the columns are {listed}; name the right one" in message


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        ("sep=,", "the first line 'sep=,' is meant for Excel alone; delete it"),
        ("sep=;", "the first line 'sep=;' is meant for Excel alone; delete it, and name the"),
        ("# exported on Monday", "begins with '# exported on Monday', a comment"),
        ("#user_id,item_id,timestamp", "delete the comments, or the # before the names"),
    ],
)
def test_lines_above_the_header_are_named(log: Path, first: str, problem: str) -> None:
    assert problem in refused(write(log, f"{first}\n{HEADER}a,x,1\na,y,2\na,z,3\n"))


# --- quotes


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('a,nut,1\na,"Pipe 5\\" steel",2\na,"Pipe 6\\" steel",3\n', 3),
        ('a,nut,1\na,"Pipe 5\\", steel",2\na,b,3\n', 3),
        ('a,nut,1\na,"Pipe 5\\"",2\nb,"Pipe 6\\"",3\nb,b,4\n', 3),
        ('a,nut,1\na,b,2\na,"Pipe 5\\"",3\n', 4),
    ],
)
def test_a_quote_behind_a_backslash_is_refused_with_the_remedy(
    log: Path, rows: str, line: int
) -> None:
    message = refused(write(log, HEADER + rows))
    assert message.startswith(f"{log.name}, line {line}: ")
    assert message.endswith(f"; {TWICE}, {SPARK}")


def test_text_behind_a_closing_quote_is_refused_with_its_lines(log: Path) -> None:
    message = refused(write(log, HEADER + 'a,nut,1\na,"x"y,2\na,b,3\n'))
    assert (
        message == f"{log.name}, line 3: there is text after the closing quote of a field; {TWICE}"
    )
    message = refused(write(log, HEADER + 'a,nut,1\na,"x,2\na,"y",3\na,b,4\n'))
    assert (
        f"line 3: there is text after the closing quote of a field on line 4; {TWICE}" in message
    )


@pytest.mark.parametrize("note", [False, True])
def test_a_quote_that_is_never_closed_is_refused_even_where_it_fits_the_columns(
    log: Path, note: bool
) -> None:
    header = "user_id,timestamp,note,item_id\n" if note else "user_id,timestamp,item_id,note\n"
    write(log, header + '1,1,a,a\n1,2,b,"b\n1,3,c,c\n1,4,d,d\n1,5,e,e\n')
    assert refused(log) == f"{log.name}, line 3: a double quote is opened and never closed"
    write(log, GOOD + '1,"d,4\n1,e,5\n')
    assert refused(log) == f"{log.name}, line 5: a double quote is opened and never closed"


@pytest.mark.parametrize("item", ['5" pipe', 'pipe 5"', 'a "b" c', 'say ""', ' "x"', "it's", "\\"])
def test_a_quote_inside_a_field_without_quotes_is_a_character(log: Path, item: str) -> None:
    assert items_of(write(log, f"{HEADER}a,{item},1\na,y,2\na,z,3\n")) == [item, "y", "z"]


def test_quotes_at_the_start_of_a_file_with_a_byte_order_mark_are_read(log: Path) -> None:
    content = '\ufeff"user_id","item_id","timestamp"\n"a","x ""1""","1"\n"a","%s","2"\n"a","z","3"'
    assert items_of(write(log, content % "y")) == ['x "1"', "y", "z"]
    assert "line 3, column 'item_id': the id is empty" in refused(write(log, content % ""))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(st.sampled_from("ab,\"\\\n\r 'é"), min_size=1, max_size=6)] * 2),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
@example([('"', '""')], csv.QUOTE_ALL, "\n")
def test_every_sound_file_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], quoting: int, end: str
) -> None:
    # Python writes a lone "\r" without the quotes that it needs.
    assume(quoting == csv.QUOTE_ALL or not any("\r" in text for row in rows for text in row))
    path = tmp_path_factory.mktemp("csv") / "log.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
        writer.writerows([("a", "b"), *rows])
    columns = read_table(path, {"a": "", "b": ""}, ()).columns
    assert [*zip(columns["a"].to_pylist(), columns["b"].to_pylist(), strict=True)] == rows


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from('ab",\n'), max_size=40))
def test_what_is_read_is_what_an_exact_reader_reads(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """Or it is refused: nothing is pieced together."""
    path = tmp_path_factory.mktemp("csv") / "log.csv"
    path.write_text(f"a,b\n{text}\n", newline="")
    try:
        columns = read_table(path, {"a": "", "b": ""}, ()).columns
    except DataError:
        return
    with open(path, newline="") as file:
        exact = [row for row in csv.reader(file, strict=True) if row]
    assert [
        *map(list, zip(columns["a"].to_pylist(), columns["b"].to_pylist(), strict=True))
    ] == exact[1:]


def test_a_long_text_in_a_column_that_is_not_used_is_no_fault(log: Path) -> None:
    rows = [f"a,x,1,{'<p>' * 50_000}\n", 'a,y,2,pipe 5"\n', "a,z,3,ok\n"]
    write(log, "user_id,item_id,timestamp,note\n" + "".join(rows))
    assert items_of(log) == ["x", "y", "z"]
    write(log, "user_id,item_id,timestamp,note\n" + "".join(rows) + "a,w,oops,ok\n")
    assert f"{log.name}, line 5, column 'timestamp': 'oops'" in refused(log)


def test_the_limit_of_the_callers_own_csv_readers_stays(log: Path) -> None:
    before = csv.field_size_limit()
    refused(write(log, HEADER + 'a,"x"y,1\n'))
    assert csv.field_size_limit() == before


# --- bytes


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


def test_a_column_that_is_not_used_may_be_in_any_encoding(log: Path) -> None:
    rows = b"1,a,1,caf\xe9\n1,b,2,\n1,c,3,\n"
    assert load_interactions(write(log, b"user_id,item_id,timestamp,note\n" + rows))

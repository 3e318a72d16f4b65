"""CSV files whose quotes or first lines are not as they have to be are refused, others read."""

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from attnrec.runtime.errors import DataError
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.data.tables import read_table

HEADER = "user_id,item_id,timestamp\n"
TWICE = "a quote inside a field is written twice"
SPARK = 'not behind a backslash (Spark: .option("escape", "\\""))'


@pytest.fixture(params=["log.csv", "log.csv.gz"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def write(path: Path, content: str) -> Path:
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def refused(path: Path, recipe: DataRecipe | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_interactions(path, recipe or DataRecipe())
    return str(caught.value)


def items_of(path: Path) -> list[object]:
    data, _ = load_interactions(path)
    return data.item_ids.tolist()


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


def test_titles_are_held_to_the_same(log: Path, tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", 'item_id,title\nx,"5\\" pipe"\n')
    write(log, HEADER + "a,x,1\na,y,2\na,z,3\n")
    with pytest.raises(DataError, match=r"items\.csv, line 2: there is text after"):
        load_interactions(log, items=items)


@pytest.mark.parametrize("item", ['5" pipe', 'pipe 5"', 'a "b" c', 'say ""', ' "x"', "it's", "\\"])
def test_a_quote_inside_a_field_without_quotes_is_a_character(log: Path, item: str) -> None:
    if not item.startswith('"'):
        assert items_of(write(log, f"{HEADER}a,{item},1\na,y,2\na,z,3\n")) == [item, "y", "z"]


def test_quotes_at_the_start_of_a_file_with_a_byte_order_mark_are_read(log: Path) -> None:
    content = '\ufeff"user_id","item_id","timestamp"\n"a","x ""1""","1"\n"a","","2"\n"a","z","3"'
    assert "line 3, column 'item_id': the id is empty" in refused(write(log, content))
    assert items_of(write(log, content.replace('""', "y").replace('"x y1y"', '"x"')))[1:] == [
        "y",
        "z",
    ]


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


def test_columns_that_pandas_numbered_are_columns(log: Path) -> None:
    write(log, "0,1,2\na,x,1\na,y,2\na,z,3\n")
    recipe = DataRecipe(user_col="0", item_col="1", time_col="2")
    assert load_interactions(log, recipe)[1].rows_read == 3
    assert "no column 'user_id'" in refused(log)


@pytest.mark.parametrize("header", ["1,2,3", "7,5,9", "user,item,2020"])
def test_a_short_number_that_the_caller_names_is_a_column(log: Path, header: str) -> None:
    write(log, f"{header}\na,x,1\na,y,2\na,z,3\n")
    user, item, time = header.split(",")
    recipe = DataRecipe(user_col=user, item_col=item, time_col=time)
    assert load_interactions(log, recipe)[1].rows_read == 3


def test_columns_counted_from_one_are_shown_to_who_names_none(log: Path) -> None:
    message = refused(write(log, "1,2,3\na,x,1\na,y,2\na,z,3\n"))
    assert "no column 'user_id', the columns are '1', '2', '3'; name the right one" in message


def test_a_number_among_the_names_is_a_name(log: Path) -> None:
    write(log, "user_id,item_id,timestamp,2021\na,x,1,0\na,y,2,0\na,z,3,0\n")
    assert load_interactions(log)[1].rows_read == 3
    assert "there is no column 'time', the columns are" in refused(
        log, DataRecipe(time_col="time")
    )


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        ("sep=,", "the first line 'sep=,' is meant for Excel alone; delete it"),
        ("sep=;", "the first line 'sep=;' is meant for Excel alone; delete it, and separate"),
        ("# exported on Monday", "begins with '# exported on Monday', a comment"),
        ("#user_id,item_id,timestamp", "delete the comments, or the # before the names"),
    ],
)
def test_lines_above_the_header_are_named(log: Path, first: str, problem: str) -> None:
    assert problem in refused(write(log, f"{first}\n{HEADER}a,x,1\na,y,2\na,z,3\n"))


def test_another_id_column_in_a_table_beside_the_log_has_a_remedy_that_works(
    log: Path, tmp_path: Path
) -> None:
    write(log, "user_id,product_id,timestamp\na,x,1\na,y,2\na,z,3\n")
    recipe = DataRecipe(item_col="product_id", tag_cols=("plan",))
    for kind, column in (("items", "product_id"), ("users", "user_id")):
        table = write(tmp_path / f"{kind}.csv", "id,title,plan\nx,X,gold\na,A,gold\n")
        right = write(tmp_path / f"right-{kind}.csv", f"{column},title,plan\nx,X,gold\na,A,gold\n")
        users = right if kind == "items" else table
        if kind == "items":
            users = write(tmp_path / "people.csv", "user_id,plan\na,gold\n")
        with pytest.raises(
            DataError, match=f"must be called '{column}' here as in the log: rename"
        ):
            load_interactions(
                log, recipe, users=users, **({"items": table} if kind == "items" else {})
            )
        assert load_interactions(log, recipe, users=users if kind == "items" else right)[1]


def test_a_log_without_times_is_told_what_to_add(log: Path) -> None:
    message = refused(write(log, "user_id,item_id\na,x\na,y\na,z\n"))
    assert message.endswith("where there are no times, add a column that numbers the rows")


def test_a_name_may_be_a_number(log: Path) -> None:
    write(log, "customer,product,date,2020\na,x,1,5\n")
    message = refused(log)
    assert "no header" not in message and "user_col" in message

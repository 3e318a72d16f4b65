"""Side tables: titles and attributes of the items of a log, tags of its users."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from attnrec.runtime.errors import DataError
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.runs.train import read_log
from attnrec.train.splits.split import all_events, divide

LOG = pd.DataFrame(
    {
        "user_id": ["u", "u", "u", "v", "v", "v", "w"],
        "item_id": ["a", "b", "c", "b", "a", "d", "b"],
        "timestamp": [1, 2, 3, 1, 2, 3, 1],
    }
)
FILMS = pd.DataFrame(
    {
        "item_id": ["c", "a", "b", "a", "unseen"],
        "title": ["C", "A", "B", "again", "U"],
        "genres": ["Drama| War ||Drama", "Comedy", None, "Horror", "War"],
        "brand": ["red", "red", "blue", "green", "red"],
        "year": [1994, 1995, None, 1996, 1997],
    }
)
USERS = pd.DataFrame(
    {
        "user_id": ["v", "not in the log", "u"],
        "segment": ["gold", "gold", ""],
        "interests": ["chess|football", "chess", "opera"],
    }
)


def log_of(items: list[Any]) -> pd.DataFrame:
    """One user with these items."""
    return pd.DataFrame({"user_id": 1, "item_id": items, "timestamp": range(len(items))})


def attributes(*columns: str) -> dict[str, tuple[str, ...]]:
    data, _ = load_interactions(LOG, DataRecipe(attribute_cols=columns), items=FILMS)
    assert data.item_attributes is not None
    return dict(zip(data.item_ids.tolist(), data.item_attributes.tolist(), strict=True))


def tagged(*columns: str) -> Interactions:
    return load_interactions(LOG, DataRecipe(tag_cols=columns), users=USERS)[0]


def test_a_cell_holds_several_values_each_counted_once() -> None:
    expected = {"a": ("Comedy",), "b": (), "c": ("Drama", "War"), "d": ()}
    assert attributes("genres") == expected


def test_values_of_several_columns_carry_the_name_of_their_column() -> None:
    found = attributes("genres", "brand")
    assert found["c"] == ("genres:Drama", "genres:War", "brand:red")
    assert found["b"] == ("brand:blue",)


def test_numbers_describe_an_item_as_they_are_written() -> None:
    assert attributes("year") == {"a": ("1995",), "b": (), "c": ("1994",), "d": ()}


def test_users_have_tags_and_those_outside_the_log_are_ignored() -> None:
    data = tagged("segment", "interests")
    assert data.user_ids.tolist() == ["u", "v", "w"]
    assert data.user_tags is not None and data.user_tags.tolist() == [
        ("interests:opera",),
        ("segment:gold", "interests:chess", "interests:football"),
        (),
    ]


def test_number_ids_find_their_rows_in_both_tables(tmp_path: Path) -> None:
    log = pd.DataFrame({"user_id": [7, 7, 7], "item_id": [30, 10, 20], "timestamp": [1, 2, 3]})
    (tmp_path / "items.csv").write_text("item_id,title,kind\n10,ten,even\n30,thirty,round\n")
    (tmp_path / "users.csv").write_text("user_id,plan\n7,free\n")
    recipe = DataRecipe(attribute_cols=("kind",), tag_cols=("plan",))
    data, report = load_interactions(
        log, recipe, items=tmp_path / "items.csv", users=tmp_path / "users.csv"
    )
    assert data.item_attributes is not None and data.user_tags is not None
    assert data.item_attributes.tolist() == [("round",), ("even",), ()]
    assert data.user_tags.tolist() == [("free",)]
    assert (report.n_described, report.n_tagged) == (2, 1)
    assert "2 described" in str(report) and "1 with tags" in str(report)


def test_without_tables_there_is_nothing_and_the_report_is_silent() -> None:
    data, report = load_interactions(LOG)
    assert data.item_attributes is data.user_tags is data.weights is None
    assert "described" not in str(report) and "tags" not in str(report)
    assert "columns" not in str(report)
    split = divide(data, "leave-one-out")
    assert split.catalogue.attributes is split.sequences.weights is None


def test_items_may_have_attributes_and_no_titles() -> None:
    untitled = FILMS.drop(columns="title")
    recipe = DataRecipe(attribute_cols=("brand",), title_col="")
    data, _ = load_interactions(LOG, recipe, items=untitled)
    assert data.titles is None
    assert data.item_attributes is not None and data.item_attributes[0] == ("red",)
    with pytest.raises(
        DataError, match=r"no column 'name'.* leave titles out with `title_col=''`"
    ):
        load_interactions(LOG, replace(recipe, title_col="name"), items=untitled)
    data, report = load_interactions(LOG, replace(recipe, title_col="title"), items=untitled)
    assert data.titles is None and "columns  brand (attribute)" in str(report)


def test_attributes_follow_their_items_into_the_catalogue() -> None:
    recipe = DataRecipe(attribute_cols=("genres",))
    split = all_events(load_interactions(LOG, recipe, items=FILMS)[0])
    assert split.catalogue.item_ids.tolist() == ["b", "a", "c", "d"]
    assert split.catalogue.attributes is not None
    assert split.catalogue.attributes.tolist() == [(), ("Comedy",), ("Drama", "War"), ()]


def test_weights_follow_their_events_into_training() -> None:
    data, _ = load_interactions(LOG)
    weights = np.arange(1, data.n_events + 1, dtype=np.float32)
    split = divide(replace(data, weights=weights), "leave-one-out")
    assert split.sequences.weights is not None
    ids, bounds = split.catalogue.item_ids, list(pairwise(split.sequences.offsets))
    rows = [ids[split.sequences.rows[a:b] - 1].tolist() for a, b in bounds]
    assert rows == [["a"], ["b"], ["b"]]
    assert [split.sequences.weights[a:b].tolist() for a, b in bounds] == [[1], [4], [7]]


def test_everything_survives_saving(tmp_path: Path) -> None:
    recipe = DataRecipe(attribute_cols=("brand",), tag_cols=("interests",))
    data, _ = load_interactions(LOG, recipe, items=FILMS, users=USERS)
    weighed = replace(data, weights=np.linspace(0.1, 3, data.n_events, dtype=np.float32))
    weighed.save(tmp_path)
    loaded = Interactions.load(tmp_path)
    for name in ("item_attributes", "user_tags", "weights"):
        before, after = getattr(weighed, name), getattr(loaded, name)
        assert before.dtype == after.dtype and before.tolist() == after.tolist(), name
    load_interactions(LOG)[0].save(tmp_path)
    plain = Interactions.load(tmp_path)
    assert plain.item_attributes is plain.user_tags is plain.weights is None


def test_only_the_full_fingerprint_counts_weights_tags_titles_and_attributes() -> None:
    data, _ = load_interactions(LOG)
    weighed = replace(data, weights=np.full(data.n_events, 2, np.float32))
    logs = [data, weighed, tagged("segment"), tagged("interests")]
    described, _ = load_interactions(LOG, DataRecipe(attribute_cols=("brand",)), items=FILMS)
    assert len({log.fingerprint() for log in [*logs, described]}) == 1
    titled = replace(described, item_attributes=None)
    assert titled.titles is not None
    logs += [described, titled, replace(described, titles=None)]
    assert len({log.fingerprint(extras=True) for log in logs}) == 7
    assert data.fingerprint() == data.fingerprint(extras=True) == described.fingerprint()


@pytest.mark.parametrize("kind", ["item", "user"])
def test_a_missing_column_is_named_with_its_setting(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}s.csv"
    path.write_text(f"{kind}_id,title\na,A\nu,U\n")
    columns = {"item": "attribute_cols", "user": "tag_cols"}[kind]
    recipe = DataRecipe.from_json({columns: ["colour"]})
    items, users = (path, None) if kind == "item" else (None, path)
    with pytest.raises(DataError) as caught:
        load_interactions(LOG, recipe, items=items, users=users)
    assert str(caught.value) == (
        f"{path.name}: there is no column 'colour', the columns are '{kind}_id', 'title'; "
        f"name the right one with `{columns}`"
    )


def test_a_table_of_other_items_or_users_is_refused() -> None:
    with pytest.raises(DataError, match="none of the log's users is here, for example 'u'"):
        load_interactions(LOG, DataRecipe(tag_cols=("a",)), users=LOG.assign(user_id="x", a="b"))
    with pytest.raises(DataError, match="none of the log's items is here, for example 'a'"):
        load_interactions(LOG, items=FILMS.assign(item_id="x"))


@pytest.mark.parametrize("kind", ["item", "user"])
def test_another_id_column_is_to_be_renamed_as_in_the_log(kind: str) -> None:
    log = LOG.rename(columns={"item_id": "product_id"})
    recipe = DataRecipe(item_col="product_id", tag_cols=("segment",))
    items, users = FILMS.rename(columns={"item_id": "product_id"}), USERS
    assert load_interactions(log, recipe, items=items, users=users)
    column = {"item": "product_id", "user": "user_id"}[kind]
    tables = {"items": items, "users": users}
    tables[f"{kind}s"] = tables[f"{kind}s"].rename(columns={column: "id"})
    with pytest.raises(DataError, match=f"must be called '{column}' here as in the log: rename"):
        load_interactions(log, recipe, **tables)


def test_a_broken_title_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text('item_id,title\na,"5\\" pipe"\n')
    with pytest.raises(DataError, match=r"items\.csv, line 2: there is text after"):
        load_interactions(LOG, items=tmp_path / "items.csv")


def test_a_user_with_too_many_tags_is_named_with_the_row_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    most = "|".join(f"tag {i}" for i in range(50))
    path.write_text(f"user_id,interests\nu,{most}\n")
    data, _ = load_interactions(LOG, DataRecipe(tag_cols=("interests",)), users=path)
    assert data.user_tags is not None and len(data.user_tags[0]) == 50
    path.write_text(f"user_id,interests\nu,{most}\nv,{most}|one more\n")
    with pytest.raises(DataError) as caught:
        load_interactions(LOG, DataRecipe(tag_cols=("interests",)), users=path)
    assert str(caught.value) == (
        "users.csv, line 3, column 'interests': user 'v' has 51 tags, at most 50 are possible; "
        "leave columns out of `tag_cols`, or keep the most telling values"
    )


def test_columns_without_their_table_are_refused_and_the_other_way_round() -> None:
    with pytest.raises(ValueError, match="name it with `items`"):
        read_log(LOG, DataRecipe(attribute_cols=("genres",)))
    with pytest.raises(ValueError, match="name it with `users`"):
        read_log(LOG, DataRecipe(tag_cols=("segment",)))
    with pytest.raises(ValueError, match="name columns with `tag_cols`"):
        read_log(LOG, users=USERS)


def test_the_embedded_log_has_its_own_items() -> None:
    assert read_log(None, DataRecipe(title_col=""))[0].titles is None
    with pytest.raises(ValueError, match="has its own items table: leave `items` out"):
        read_log(None, items=FILMS)


# --- ids that are written otherwise there


def test_side_tables_know_the_same_numbers(caplog: pytest.LogCaptureFixture) -> None:
    log = log_of([12, 13, 14])
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
    data, _ = load_interactions(log_of(["1", "1.0", "2"]), recipe, items=items)
    assert data.titles is not None and list(data.titles) == ["one", "one point oh", ""]
    items = pd.DataFrame({"item_id": ["12", "13"], "title": ["A", "B"]})
    data, _ = load_interactions(log_of(["12.0", "13.0", "x"]), recipe, items=items)
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

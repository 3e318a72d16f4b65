"""What the columns of an items table are: by their values, or as they are named."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from attnrec.runtime.errors import DataError
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.item_columns import ItemColumns, inferred_columns
from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.splits.split import all_events

N = 40
LOG = pd.DataFrame({"user_id": 1, "item_id": range(1, N + 1), "timestamp": range(N)})
TABLE = pd.DataFrame(
    {
        "item_id": range(1, N + 1),
        "title": [f"lamp number {i}" for i in range(N)],
        "blurb": [f"a warm light for room {i} of the house" for i in range(N)],
        "beschreibung": [f"\u6696\u304b\u3044\u660e\u304b\u308a{i}" for i in range(N)],
        "brand": [f"maker {i % 4}" for i in range(N)],
        "colours": ["red|blue" if i % 2 else "green" for i in range(N)],
        "tags": [["soft", "tall"] if i % 3 else ["small"] for i in range(N)],
        "in_stock": [bool(i % 2) for i in range(N)],
        "price": [0.5 * i for i in range(N)],
        "category_id": [i % 3 for i in range(N)],
        "image": [[float(i), 1.0, -1.0] for i in range(N)],
        "asin": [f"B00{i:05}" for i in range(N)],
        "url": [f"https://shop.example/{i}" for i in range(N)],
        "ean": [4000000000 + i for i in range(N)],
        "n_reviews": [i % 7 for i in range(N)],
        "added": pd.Timestamp("2024-01-01"),
        "seen": "2024-01-01",
        "shop": "ours",
        "note": "",
        "size": [{"cm": i} for i in range(N)],
    }
)
KINDS = ItemColumns(
    title="title",
    texts=("blurb", "beschreibung"),
    attributes=("brand", "colours", "tags", "in_stock", "category_id"),
    numbers=("price",),
    vectors=("image",),
    left_out={
        "asin": "nearly every value is different",
        "url": "nearly every value is different",
        "ean": "nearly every value is different",
        "n_reviews": "looks like a count of what came later",
        "added": "a time",
        "seen": "one value",
        "shop": "one value",
        "note": "empty",
        "size": "of type struct<cm: int64>",
    },
)


def loaded(table: Any, **recipe: Any) -> Interactions:
    return load_interactions(LOG, DataRecipe(**recipe), items=table)[0]


def test_values_tell_what_a_column_is() -> None:
    assert inferred_columns(DataRecipe(), pa.Table.from_pandas(TABLE), [*TABLE]) == KINDS


def test_the_texts_of_a_csv_file_tell_the_same(tmp_path: Path) -> None:
    flat = TABLE.drop(columns=["tags", "size"]).assign(in_stock=TABLE["in_stock"].map(str))
    flat.to_csv(tmp_path / "items.csv", index=False)
    data, report = load_interactions(LOG, items=tmp_path / "items.csv")
    read, left_out = (str(report).splitlines()[place] for place in (5, 6))
    assert read == (
        "columns  title (title), blurb (text), beschreibung (text), brand (attribute), "
        "colours (attribute), in_stock (attribute), category_id (attribute), price (number)"
    )
    assert "image (lists are read from Parquet, Arrow, JSON lines and DataFrames)" in left_out
    assert "asin (nearly every value is different)" in left_out and "added (one value)" in left_out
    assert data.item_attributes is not None and not data.item_vectors
    assert {"brand:maker 3", "colours:red", "colours:blue"} <= set(data.item_attributes[3])


@pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow", "frame"])
def test_every_form_of_a_table_is_described_alike(form: str, tmp_path: Path) -> None:
    table = TABLE[["item_id", "title", "brand", "tags", "price", "image"]]
    source: Any = tmp_path / f"items.{form}"
    if form == "parquet":
        table.to_parquet(source)
    elif form == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
    else:
        source = table if form == "frame" else pa.Table.from_pandas(table).to_reader()
    data, report = load_interactions(LOG, items=source)
    assert report.n_described == N
    assert data.item_attributes is not None
    assert data.item_attributes[39] == ("brand:maker 3", "tags:small")
    assert data.item_vectors["image"].dtype == np.float32
    assert data.item_numbers["price"][7] == 3.5
    assert data.item_vectors["image"][7].tolist() == [7, 1, -1]


def test_named_columns_are_read_as_named_and_no_others(caplog: pytest.LogCaptureFixture) -> None:
    data = loaded(TABLE, text_cols=("asin",), number_cols=("n_reviews",), title_col="")
    assert data.titles is None and not data.item_vectors
    assert data.item_texts is not None and data.item_texts[2] == "B0000002"
    assert data.item_numbers["n_reviews"][8] == 1
    assert "it knows the answers" in caplog.text and "n_reviews" in caplog.text


def test_descriptions_survive_saving_and_follow_their_items(tmp_path: Path) -> None:
    data = loaded(TABLE)
    data.save(tmp_path)
    again = Interactions.load(tmp_path)
    assert again.item_texts is not None and data.item_texts is not None
    assert again.item_texts.tolist() == data.item_texts.tolist()
    assert again.item_numbers["price"].tolist() == data.item_numbers["price"].tolist()
    assert again.item_vectors["image"].tolist() == data.item_vectors["image"].tolist()
    assert again.fingerprint(extras=True) == data.fingerprint(extras=True)
    other = loaded(TABLE.assign(image=[[float(i), 2.0, -1.0] for i in range(N)]))
    assert other.fingerprint() == data.fingerprint()
    assert other.fingerprint(extras=True) != data.fingerprint(extras=True)
    catalogue = all_events(again).catalogue
    assert catalogue.vectors["image"][:, 0].tolist() == (catalogue.item_ids - 1).tolist()
    assert catalogue.texts is not None and "room 0" in catalogue.texts[0]


def test_items_that_the_log_does_not_have_are_counted() -> None:
    more = pd.concat([TABLE, TABLE[:3].assign(item_id=[901, 902, 903])], ignore_index=True)
    assert "others   3 items of the table are not in the log" in str(
        load_interactions(LOG, items=more)[1]
    )
    assert "others" not in str(load_interactions(LOG, items=TABLE)[1])


def test_an_item_without_a_description_has_none() -> None:
    data, report = load_interactions(LOG, items=TABLE[TABLE["item_id"] > 10])
    assert report.n_described == N - 10
    assert data.item_texts is not None and data.item_texts[0] == ""
    assert data.item_vectors["image"][0].tolist() == [0, 0, 0]
    assert np.isnan(data.item_numbers["price"][:10]).all()
    assert data.item_numbers["price"][10:].tolist() == TABLE["price"][10:].tolist()


def vectors(*values: Any) -> pa.Table:
    return pa.table({"item_id": range(1, len(values) + 1), "v": pa.array(values)})


@pytest.mark.parametrize(
    ("table", "recipe", "message"),
    [
        (vectors([1.0, 2.0], [1.0]), {}, "row 2, column 'v': a vector of 1 numbers, and others"),
        (vectors([1.0], [float("nan")]), {}, "row 2, column 'v': a vector with nan; leave"),
        (vectors(["a"], ["b"]), {"vector_cols": ("v",)}, "column 'v': the values are no vectors"),
        (vectors(None, [1.0]).slice(0, 1), {"vector_cols": ("v",)}, "no item of the log has a v"),
        (TABLE, {"text_cols": ("note",)}, "'note': no item of the log has a text here; leave"),
        (TABLE, {"number_cols": ("brand",)}, "'brand': a value is no number"),
        (TABLE.assign(note=np.nan), {"number_cols": ("note",)}, "no item of the log has a number"),
        (TABLE, {"vector_cols": ("img",)}, "no column 'img'.*the right one with `vector_cols`"),
    ],
)
def test_what_is_no_description_is_refused(table: Any, recipe: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        loaded(table, **recipe)


def test_what_is_not_read_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    loaded(vectors([1.0, 0.0], [0.0, 0.0], [0.0, 1.0]))
    assert "column 'v': 1 vectors are all zeros" in caplog.text
    twice = pd.concat([TABLE, TABLE[:3].assign(brand="another"), TABLE[5:6]], ignore_index=True)
    data = loaded(twice)
    assert "3 rows say something else than an earlier row of the same id" in caplog.text
    assert data.item_attributes is not None and "brand:maker 1" in data.item_attributes[1]

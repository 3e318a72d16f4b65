"""A recipe refuses wrong values and survives JSON."""

import json
from typing import Any

import pytest

from attnrec.train.data.recipe import DataRecipe


def test_a_recipe_survives_json() -> None:
    recipe = DataRecipe(
        user_col="who", events=("buy", "view"), min_rating=3.5, repeats=True, min_user_events=5,
        attribute_cols=("genres", "brand"), tag_cols=("segment",), event_weights={"buy": 2},
    )  # fmt: skip
    assert DataRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_missing_keys_take_their_defaults() -> None:
    assert DataRecipe.from_json({}) == DataRecipe()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("user_col", ["", 3, "item_id"]),
        ("id_type", ["int32"]),
        ("time_unit", ["minutes"]),
        ("repeats", [1]),
        ("min_rating", ["4", float("nan"), True]),
        ("events", ["buy", ["buy", ""], [1]]),
        ("attribute_cols", ["genres", [""]]),
        ("tag_cols", [[1]]),
        ("event_weights", [["buy"], {"": 2}, {"buy": 0}, {"buy": float("nan")}, {"buy": "2"}]),
        ("min_item_events", [0]),
        ("min_user_events", [2.0, True]),
        ("colour", ["red"]),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, wrong: list[Any]) -> None:
    for value in wrong:
        with pytest.raises(ValueError, match=name):
            DataRecipe.from_json({name: value})

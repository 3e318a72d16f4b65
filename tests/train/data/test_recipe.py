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
    "wrong",
    [
        {"user_col": ""},
        {"user_col": 3},
        {"user_col": "item_id"},
        {"id_type": "int32"},
        {"time_unit": "minutes"},
        {"repeats": 1},
        {"min_rating": "4"},
        {"min_rating": float("nan")},
        {"min_rating": True},
        {"events": "buy"},
        {"events": ["buy", ""]},
        {"events": [1]},
        {"attribute_cols": "genres"},
        {"attribute_cols": [""]},
        {"tag_cols": [1]},
        {"event_weights": ["buy"]},
        {"event_weights": {"": 2}},
        {"event_weights": {"buy": 0}},
        {"event_weights": {"buy": float("nan")}},
        {"event_weights": {"buy": "2"}},
        {"min_item_events": 0},
        {"min_user_events": 2.0},
        {"min_user_events": True},
        {"colour": "red"},
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DataRecipe.from_json(wrong)

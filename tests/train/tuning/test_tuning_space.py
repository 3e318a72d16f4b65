"""The ranges of a search: near the recipe, and always a model."""

from typing import Any

import numpy as np
import pytest

from attnrec.train import TrainConfig
from attnrec.train.models import MODELS
from attnrec.train.models.base import LearnedModel
from attnrec.train.tuning.space import near, search_space, settled, values_of, with_values

LEARNED = [name for name, kind in MODELS.items() if issubclass(kind.model, LearnedModel)]


@pytest.mark.parametrize("model", LEARNED)
def test_whatever_is_drawn_makes_a_model(model: str) -> None:
    config = TrainConfig(model)
    values = values_of(config, config.model_config(n_items=40))
    space = search_space(values, set())
    assert {"learning_rate", "hidden_dim", "batch_events"} <= space.keys()
    rng = np.random.default_rng(0)
    for _ in range(200):
        made = settled(near(space, values, rng), space, values)
        changed = {name for name, value in made.items() if value != values[name]}
        assert len(changed) <= 3
        drawn = with_values(config, made)
        sizes = {"n_items": 40, "n_users": 5}
        assert drawn.model_config(**sizes).n_items == 40
        assert 0.001 <= drawn.learning_rate <= 0.009


def test_settings_that_change_nothing_are_left_as_they_are() -> None:
    config = TrainConfig("sasrec")
    values = values_of(config, config.model_config(n_items=40))
    space = search_space(values, set())
    drawn = values | {"n_negatives": 1024}
    softmax = settled({name: drawn[name] for name in space}, space, values)
    assert softmax["n_negatives"] == 512
    drawn |= {"loss": "sampled-softmax"}
    sampled = settled({name: drawn[name] for name in space}, space, values)
    assert sampled["n_negatives"] == 1024
    # Nothing asks for negatives where the loss was given as softmax.
    assert "n_negatives" not in search_space(values, {"loss"})


@pytest.mark.parametrize(("width", "heads"), [(48, 3), (30, 2), (16, 16)])
def test_heads_divide_every_width_that_is_tried(width: int, heads: int) -> None:
    config = TrainConfig("sasrec", {"hidden_dim": width, "n_heads": heads})
    values = values_of(config, config.model_config(n_items=40))
    space: Any = search_space(values, set())
    widths = space["hidden_dim"].values if "hidden_dim" in space else (width,)
    tried_heads = space["n_heads"].values if "n_heads" in space else (heads,)
    assert width in widths and heads in tried_heads
    assert all(width % heads == 0 for width in widths for heads in tried_heads)

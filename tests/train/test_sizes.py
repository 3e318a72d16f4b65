"""Sizes that no machine holds are refused by the settings, before an array is made."""

from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest

from attnrec.train.fitting.config import TrainConfig
from attnrec.train.models import MODELS
from attnrec.train.tuning.space import OneOf, search_space, values_of

FROM_THE_LOG = {"n_items", "n_users", "n_tags"}
HUGE = 10**9


def whole_numbers(kind: type[Any]) -> list[str]:
    """Settings of a configuration that are whole numbers."""
    hints = get_type_hints(kind)
    return [
        field.name
        for field in fields(kind)
        if int in (get_args(hints[field.name]) or (hints[field.name],))
        and field.name not in FROM_THE_LOG
    ]


OF_MODELS = [(name, size) for name, kind in MODELS.items() for size in whole_numbers(kind.config)]
OF_TRAINING = [name for name in whole_numbers(TrainConfig) if name != "seed"]


def test_the_walk_finds_the_sizes() -> None:
    assert {"hidden_dim", "n_blocks", "n_negatives", "n_neighbours"} <= {n for _, n in OF_MODELS}
    assert {"epochs", "batch_events", "threads"} <= set(OF_TRAINING)


@pytest.mark.parametrize(("model", "size"), OF_MODELS)
def test_a_size_of_a_model_has_a_limit_which_the_message_names(model: str, size: str) -> None:
    with pytest.raises(ValueError, match=rf"`{size}` .* from 1 to \d+, not {HUGE}$"):
        MODELS[model].config(n_items=5, **{size: HUGE})


@pytest.mark.parametrize("size", OF_TRAINING)
def test_a_size_of_the_training_has_a_limit_which_the_message_names(size: str) -> None:
    with pytest.raises(ValueError, match=rf"`{size}` .* from 1 to \d+, not {HUGE}$"):
        TrainConfig(**{size: HUGE})


@pytest.mark.parametrize(("model", "setting"), [("sasrec", "n_blocks"), ("sasrec", "hidden_dim")])
def test_a_search_stays_within_the_limits(model: str, setting: str) -> None:
    most = {"n_blocks": 64, "hidden_dim": 4096}[setting]
    config = TrainConfig(model=model, settings={setting: most})
    values = values_of(config, config.model_config(n_items=5))
    tried = search_space(values, set())[setting]
    assert isinstance(tried, OneOf) and max(tried.values) == most

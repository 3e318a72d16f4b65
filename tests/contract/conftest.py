"""Every compared model, trained on two logs that differ in nothing but their ids."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pandas as pd
import pytest
import torch
from hypothesis import settings

from attnrec.export import ParityReport, build, export
from attnrec.train import DataRecipe, Run, TrainConfig, train
from attnrec.train.models import COMPARED_MODELS, MODELS

Tracing = Callable[[], AbstractContextManager[None]]

# One thread: sums of floats come out in the same order, so equal seeds give equal bits.
torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

N_ITEMS, N_USERS = 40, 60
_STRINGS = ["é", "товар", "00123", "123", "NA", "a,b", *(f"sku {n}" for n in range(6, N_ITEMS))]
# Beyond 2^53 two neighbours are one number for everything that computes in float64.
_INTEGERS = [0, -2, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), *range(100, 94 + N_ITEMS)]
# Sorted, because equally frequent items stand in the order of their ids: so both logs give the
# same table, the same weights and one body of the graph.
ITEM_IDS: dict[str, list[Any]] = {"string": sorted(_STRINGS), "int64": sorted(_INTEGERS)}
# The types of item and user ids are independent; each kind of item meets the other kind of user.
USER_IDS: dict[str, list[Any]] = {
    "string": [7 * n - 60 for n in range(N_USERS)],
    "int64": [f"user {n:02}" for n in range(N_USERS)],
}
ID_TYPES = tuple(ITEM_IDS)
_SMALL = {"hidden_dim": 8, "n_neighbours": 5, "ease_weight": 0.7, "content_weight": 0.6}
_LONGEST_HISTORY = 8
RECIPE = DataRecipe(attribute_cols=("genre",), tag_cols=("segment",), time_unit="s")


@dataclass(frozen=True)
class Tables:
    """A log, its items and its users."""

    events: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame

    @classmethod
    def of(cls, id_type: str) -> "Tables":
        """60 users; each walks around a ring of items, a few steps at a time."""
        items, users = ITEM_IDS[id_type], USER_IDS[id_type]
        rng = np.random.default_rng(0)
        rows = []
        for n, user in enumerate(users):
            item = int(rng.integers(N_ITEMS))
            for time in range(1 + n % 20):
                rows.append((user, items[item], 1000 * n + time))
                item = (item + int(rng.choice([1, 1, 1, 2, 3, 7]))) % N_ITEMS
        events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
        titles = [f"Title {n % 7} of {n // 5}" if n != 9 else None for n in range(N_ITEMS)]
        genres = ["a|b", "b", "", "c"] * (N_ITEMS // 4)
        segments = ["gold", "gold|a", "", "a"] * (N_USERS // 4)
        return cls(
            events,
            pd.DataFrame({"item_id": items, "title": titles, "genre": genres}),
            pd.DataFrame({"user_id": users, "segment": segments}),
        )


@dataclass(frozen=True)
class Member:
    """A trained model, with its file and the report of its gate."""

    name: str
    id_type: str
    run: Run
    file: Path
    report: ParityReport


def small_config(name: str) -> TrainConfig:
    """Trained in a moment, whatever the model has to be made small with."""
    model, settings = COMPARED_MODELS[name]
    own = {f.name: f.default for f in fields(MODELS[model].config)}
    small = {key: value for key, value in _SMALL.items() if key in own}
    small["max_len"] = min(own["max_len"], _LONGEST_HISTORY)
    settings = {**small, **settings}
    return TrainConfig(model, settings, epochs=1, batch_events=100, learning_rate=0.02)


@pytest.fixture(scope="session")
def body_of(tracing_once: Tracing) -> Callable[[Run], ir.Model]:
    """The exported body of a run, made once for equal weights: it is the slow part."""

    def get(run: Run) -> ir.Model:
        with tracing_once():
            return build.export_body(run.model)

    return get


@pytest.fixture(scope="session")
def member_of(
    tracing_once: Tracing, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Member]:
    """Trains and exports a model on first use."""
    directory = tmp_path_factory.mktemp("models")

    @functools.cache
    def get(name: str, id_type: str) -> Member:
        tables, out = Tables.of(id_type), directory / f"{name}-{id_type}"
        config = small_config(name)
        run = train(
            tables.events, config, items=tables.items, users=tables.users, recipe=RECIPE, out=out
        )
        with tracing_once():
            report = export(run, out / "model.onnx", allow_users=True)
        return Member(name, id_type, run, out / "model.onnx", report)

    return get


@pytest.fixture(params=[(n, i) for n in COMPARED_MODELS for i in ID_TYPES], ids="-".join)
def member(request: pytest.FixtureRequest, member_of: Callable[[str, str], Member]) -> Member:
    """Every model with every type of ids, in turn."""
    return member_of(*request.param)

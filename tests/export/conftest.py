"""Four small trained runs and their files: both shapes of a model, both types of ids."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pandas as pd
import pytest
import torch
from hypothesis import settings

from attnrec.export import ParityReport, build, export
from attnrec.train import Run, TrainConfig, train

Tracing = Callable[[], AbstractContextManager[None]]
Enlarge = Callable[..., Run]

# One thread: sums of floats come out in the same order, so equal seeds give equal bits.
torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

N_ITEMS = 40
STRING_IDS = ["é", "товар", "00123", "123", "NA", "a,b", *(f"sku {n}" for n in range(6, N_ITEMS))]
# Beyond 2^53 two neighbours are one number for everything that computes in float64.
INT64_IDS = [0, -2, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), *range(100, 94 + N_ITEMS)]
CONFIGS = {
    "sasrec-string": TrainConfig(
        "sasrec", settings={"hidden_dim": 16, "max_len": 10}, epochs=2, batch_events=100
    ),
    "sasrec-int64": TrainConfig(
        "sasrec",
        settings={"hidden_dim": 16, "max_len": 7, "n_blocks": 1, "logits": "dot"},
        epochs=2,
        batch_events=100,
        learning_rate=0.01,
    ),
    "markov-chain-int64": TrainConfig("markov-chain", settings={"max_len": 8}),
    "popularity-string": TrainConfig("popularity"),
}


def shop_log(ids: list[int] | list[str]) -> pd.DataFrame:
    """60 users; each buys along a circle of items, a few steps at a time."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        item = int(rng.integers(len(ids)))
        for time in range(int(rng.integers(1, 26))):
            rows.append((f"user {user}", ids[item], 1000 * user + time))
            item = (item + int(rng.choice([1, 1, 1, 2, 3, 7]))) % len(ids)
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, operators_read_once: None) -> dict[str, Run]:
    """By name; every log is read from a file, the first run has titles."""
    directory = tmp_path_factory.mktemp("private-place")
    made = {}
    for name, config in CONFIGS.items():
        ids = INT64_IDS if name.endswith("int64") else STRING_IDS
        log, items = directory / f"{name}.csv", None
        shop_log(ids).to_csv(log, index=False)
        if name == "sasrec-string":
            items = pd.DataFrame({"item_id": ids, "title": [f"Title of {i}" for i in ids]})
            items = items[items["item_id"] != "sku 9"]  # one item has no title
        made[name] = train(log, config, items=items, out=directory / name)
    return made


@pytest.fixture(scope="session")
def enlarged(runs: dict[str, Run]) -> Enlarge:
    """enlarged(name, hidden_dim): the run with 100,001 items, of which those added are untrained.

    Of another hidden_dim than 16, all of the model is untrained.
    """

    def call(name: str, hidden_dim: int = 16) -> Run:
        run = runs[name]
        catalogue, n_added = run.split.catalogue, 100_001 - N_ITEMS
        added = [f"item {n}" if name.endswith("string") else 10**6 + n for n in range(n_added)]
        ids = np.array([*catalogue.item_ids, *added], catalogue.item_ids.dtype)
        n_events = np.append(catalogue.n_events, np.ones(n_added, np.int64))
        catalogue = replace(catalogue, item_ids=ids, n_events=n_events, titles=None)
        config = replace(run.model.config, n_items=len(ids), hidden_dim=hidden_dim)
        model = type(run.model)(config).eval()
        if hidden_dim == run.model.config.hidden_dim:
            weights = run.model.state_dict()
            random = torch.randn((n_added, hidden_dim), generator=torch.Generator().manual_seed(0))
            vectors = [weights["item_embedding.weight"], random / 100]
            model.load_state_dict(weights | {"item_embedding.weight": torch.cat(vectors)})
        return replace(run, model=model, split=replace(run.split, catalogue=catalogue))

    return call


@pytest.fixture(scope="session")
def large_runs(enlarged: Enlarge) -> dict[str, Run]:
    """By name; their catalogues are so large that top-k goes by blocks, and codes are scanned."""
    return {name: enlarged(name) for name in ("sasrec-string", "sasrec-int64")}


@pytest.fixture(scope="session")
def exported(
    runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory, tracing_once: Tracing
) -> dict[str, tuple[Path, ParityReport]]:
    """The file of every run, with the report of its gate."""
    directory = tmp_path_factory.mktemp("files")
    with tracing_once():
        return {
            name: (directory / f"{name}.onnx", export(run, directory / f"{name}.onnx"))
            for name, run in runs.items()
        }


@pytest.fixture(scope="session")
def body_of(runs: dict[str, Run], tracing_once: Tracing) -> Callable[[str], ir.Model]:
    """The exported body of a run, made once: it is the slow part of an export."""

    def get(name: str) -> ir.Model:
        with tracing_once():
            return build.export_body(runs[name].model)

    return get

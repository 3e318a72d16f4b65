"""Explanations find the cause where there is one, whatever the model; and what is near is near."""

import numpy as np
import pandas as pd
import pytest

from attnrec.export import export
from attnrec.runtime import Recommender
from attnrec.train import Run, TrainConfig, train

N_CAUSES, N_OTHERS, N_USERS = 10, 30, 250
SMALL = {"hidden_dim": 32, "max_len": 10}
CONFIGS = {
    "markov-chain": TrainConfig("markov-chain"),
    "attention-pool": TrainConfig(
        "attention-pool", SMALL | {"dropout": 0.1}, epochs=12, batch_events=200, learning_rate=0.01
    ),
    "sasrec": TrainConfig(
        "sasrec", SMALL | {"n_blocks": 1, "dropout": 0.1}, epochs=12, batch_events=200,
        learning_rate=0.01,
    ),
}  # fmt: skip


def planted_log() -> pd.DataFrame:
    """Between things of no meaning, every effect comes up to three steps after its cause."""
    rng = np.random.default_rng(0)

    def others(most: int) -> list[str]:
        return [f"other {n}" for n in rng.choice(N_OTHERS, rng.integers(0, most + 1))]

    rows = []
    for user in range(N_USERS):
        events = list[str]()
        for n in rng.choice(N_CAUSES, 4, replace=False):
            events += [*others(3), f"cause {n}", *others(2), f"effect {n}"]
        rows += [(user, item, time) for time, item in enumerate(events)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, operators_read_once: None) -> dict[str, Run]:
    directory = tmp_path_factory.mktemp("planted")
    return {name: train(planted_log(), config, out=directory / name) for name, config in CONFIGS.items()}


@pytest.mark.parametrize("model", CONFIGS)
def test_the_cause_is_named(model, planted) -> None:
    run = planted[model]
    export(run, run.directory / "model.onnx")
    recommender = Recommender.load(run.directory / "model.onnx")
    rng, named = np.random.default_rng(1), []
    for case in range(200):
        history = [f"other {n}" for n in rng.choice(N_OTHERS, 6, replace=False)]
        place, cause = 6 - int(rng.integers(0, 3)), case % N_CAUSES
        history.insert(place, f"cause {cause}")
        why = recommender.explain(history, f"effect {cause}")
        named.append(why.strongest(1)[0][0] == place)
    assert np.mean(named) >= 0.95

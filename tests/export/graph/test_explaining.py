"""Explanations find the cause where there is one, in every file; and what is near is near."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pandas as pd
import pytest

from attnrec.export import build
from attnrec.export.facts import describe
from attnrec.export.graph.item_table import FloatTable, UnfoldedTable
from attnrec.export.graph.scanned_table import NESTED_CODES, NestedTable, ScannedTable
from attnrec.export.graph.trace import export_body
from attnrec.export.quantize import item_vectors
from attnrec.runtime import Recommender
from attnrec.train import Run, TrainConfig, train
from attnrec.train.evaluation.torch_recommender import TorchRecommender

N_CAUSES, N_OTHERS, N_USERS = 10, 30, 250
SMALL = {"hidden_dim": 32, "max_len": 10}
STEPS: dict[str, Any] = {"batch_events": 200, "learning_rate": 0.01}
CONFIGS = {
    "markov-chain": TrainConfig("markov-chain"),
    "attention-pool": TrainConfig("attention-pool", SMALL, epochs=8, **STEPS),
    "sasrec": TrainConfig(
        "sasrec",
        {**SMALL, "n_blocks": 1, "dropout": 0.1},
        epochs=12,
        patience=12,
        batch_events=60,
        learning_rate=0.01,
    ),
}


def planted_log() -> pd.DataFrame:
    """Among things of no meaning, every effect comes up to three steps after its cause."""
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


@pytest.fixture(scope="module", params=CONFIGS)
def planted(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    operators_read_once: None,
) -> Run:
    directory = tmp_path_factory.mktemp("planted")
    return train(planted_log(), CONFIGS[request.param], out=directory / "run")


@pytest.fixture(scope="module")
def body(planted: Run) -> ir.Model:
    """Its slow part is made once."""
    return export_body(planted.model)


@pytest.fixture(scope="module")
def with_table(planted: Run, body: ir.Model) -> Callable[[Any], Recommender]:
    """The file of the run with its item vectors in a form, as the gate would have let it pass."""

    def load(table: Any, profile: str = "fp32") -> Recommender:
        graph = build.build_graph(planted, body, table)
        path = Path(planted.directory) / "model.onnx"
        path.write_bytes(build.finish(graph, describe(planted, {}, None, profile)))
        return Recommender.load(path)

    return load


@pytest.fixture(scope="module")
def recommender(planted: Run, with_table: Callable[[Any], Recommender]) -> Recommender:
    return with_table(build.exact_table(planted))


def histories(n: int) -> list[tuple[list[str], int, str]]:
    """Six things of no meaning, a cause among the newest of them, its place, and its effect."""
    rng, made = np.random.default_rng(1), []
    for case in range(n):
        history = [f"other {n}" for n in rng.choice(N_OTHERS, 6, replace=False)]
        place, cause = 6 - int(rng.integers(0, 3)), case % N_CAUSES
        history.insert(place, f"cause {cause}")
        made.append((history, place, f"effect {cause}"))
    return made


def test_the_cause_is_named(recommender) -> None:
    named = [
        recommender.explain(history, effect).strongest(1)[0][0] == place
        for history, place, effect in histories(200)
    ]
    assert np.mean(named) >= 0.95


def test_attention_is_that_of_the_model_in_the_places_of_the_caller(planted, recommender) -> None:
    if planted.config.model == "markov-chain":
        assert recommender.explain(["cause 1"], "effect 1").attention is None
        return
    reference = TorchRecommender(planted.model, planted.split.catalogue)
    for history, _, effect in histories(10):
        (own,) = reference.attention([history])
        assert recommender.explain(history, effect).attention == pytest.approx(own, abs=1e-5)
    mixed = [*history[:2], "unknown", *history[2:], *history, "unknown", ""]
    weights = recommender.explain(mixed, effect).attention
    (own,) = reference.attention([mixed])
    known = [place for place, event in enumerate(mixed) if event not in ("unknown", "")]
    assert [weights[place] for place in known[-10:]] == pytest.approx(own, abs=1e-5)
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    assert {weights[place] for place in {*range(len(mixed))} - {*known[-10:]}} == {0.0}
    assert recommender.explain(["unknown"], effect).attention == [0.0]


def test_the_outputs_that_were_there_stay_where_they_were(planted, recommender) -> None:
    outputs = [value.name for value in recommender._run.session.get_outputs()]
    weighs = planted.config.model != "markov-chain"
    assert outputs == ["items", "scores", "n_known", *["attention"] * weighs]


def test_the_nearest_by_cosine_in_every_form_of_the_table(planted, with_table) -> None:
    if planted.config.model == "markov-chain":
        assert with_table(None).similar("cause 1", 1).item_ids == ["effect 1"]
        return
    exact = planted.model.item_table().detach().numpy()
    states = np.eye(exact.shape[1], dtype=np.float32)
    for table in (
        FloatTable(exact),
        UnfoldedTable(item_vectors.quantize(exact, states, exact.shape[1])),
        ScannedTable(item_vectors.quantize(exact, states, 16)),
        ScannedTable(item_vectors.quantize(exact, states, 16, bits=4)),
        NestedTable(item_vectors.quantize(exact, states, 16, between=NESTED_CODES)),
    ):
        recommender = with_table(table, "fp32" if table.is_exact else "int8")
        vectors = table.values[1:].astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = planted.split.catalogue.item_ids.tolist()
        for row in (0, 7, len(ids) - 1):
            cosines = vectors @ vectors[row]
            cosines[row] = -np.inf
            found = recommender.similar(ids[row], 5)
            assert found.item_ids == [ids[i] for i in np.argsort(-cosines, kind="stable")[:5]]
            assert found.scores == pytest.approx(np.sort(cosines)[:-6:-1], abs=1e-5)

"""Figures of lists, held against their formulas written out."""

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnrec.export import export
from attnrec.train import TrainConfig, train
from attnrec.train.evaluation.comparison import compare
from attnrec.train.evaluation.comparison_plot import draw_comparison
from attnrec.train.evaluation.exposure import KnownItems, exposure, gini

N = 12


def by_formula(
    lists: list[list[int]], histories: list[list[int]], known: KnownItems
) -> dict[str, float]:
    """docs/metrics.md, one item at a time."""
    assert known.vectors is not None and known.tags is not None
    p = [(n + 1) / (sum(known.n_events) + N) for n in known.n_events]
    places = [item for own in lists for item in own]
    x = sorted(places.count(item) for item in range(N))
    figures = {
        "coverage@10": len({*places}) / N,
        "gini@10": sum((2 * i - N - 1) * x_i for i, x_i in enumerate(x, 1)) / (N * sum(x)),
        "novelty@10": sum(-math.log2(p[item]) for item in places) / len(places),
        "new_items@10": sum(known.n_events[item] == 0 for item in places) / len(places),
    }
    taken = [own for own in histories if own]
    if taken:
        lift = [sum(p[i] for i in own) / len(own) for own in lists]
        usual = [sum(p[i] for i in own) / len(own) for own in taken]
        figures["popularity_lift@10"] = (sum(lift) / len(lift)) / (sum(usual) / len(usual)) - 1
    several = [own for own in lists if len(own) > 1]
    if several:
        alike = {"vectors": lambda a, b: float(known.vectors[a] @ known.vectors[b]),
                 "tags": lambda a, b: cosine(known.tags[a], known.tags[b])}  # fmt: skip
        for name, of in alike.items():
            means = [np.mean([1 - of(a, b) for a, b in combinations(own, 2)]) for own in several]
            figures[f"diversity_by_{name}@10"] = float(np.mean(means))
    return figures


def cosine(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / math.sqrt(len(a) * len(b)) if a and b else 0.0


_list = st.lists(st.integers(0, N - 1), min_size=1, max_size=10, unique=True)


@settings(deadline=None, derandomize=True, database=None, max_examples=100)
@given(
    lists=st.lists(_list, min_size=1, max_size=6),
    histories=st.lists(st.lists(st.integers(0, N - 1), max_size=5), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_every_figure_is_its_formula(
    lists: list[list[int]], histories: list[list[int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(N, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tags = [
        frozenset(rng.choice(list("abc"), rng.integers(0, 4), replace=False)) for _ in range(N)
    ]
    known = KnownItems({i: i for i in range(N)}, rng.integers(0, 9, N), vectors, tags)
    found = exposure(lists, histories, known)
    assert found == pytest.approx(by_formula(lists, histories, known), abs=2e-6)


def test_lists_that_are_all_empty_show_nothing() -> None:
    known = KnownItems({1: 0}, np.array([3]), None, None)
    assert exposure([[], []], [[1], []], known) == {"coverage@10": 0.0}


def test_gini_of_equal_and_of_one() -> None:
    assert gini(np.array([3, 3, 3])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    rows = [(u, int(i), t) for u in range(60) for t, i in enumerate(rng.permutation(30)[:8])]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    items = pd.DataFrame({"item_id": range(30), "brand": [f"b{i % 4}" for i in range(30)]})
    out = tmp_path_factory.mktemp("run") / "run"
    run = train(log, TrainConfig("sasrec", {"hidden_dim": 8}, epochs=2), items=items, out=out)
    export(run, out / "model.onnx")
    return out / "model.onnx"


def test_more_diversity_buys_variety_and_the_curve_is_drawn(file: Path, tmp_path: Path) -> None:
    comparison = compare([file], diversity=[0, 0.5, 1])
    (figures,) = comparison.files
    curve: Any = figures.by_diversity
    assert [point["diversity"] for point in curve] == [0, 0.5, 1]
    assert curve[0]["ndcg@10"] == pytest.approx(figures.metrics.values["ndcg@10"], abs=1e-6)
    assert {k: curve[0][k] for k in figures.lists} == figures.lists
    variety = [point["diversity_by_vectors@10"] for point in curve]
    assert variety == sorted(variety) and variety[2] > variety[0] + 0.01
    assert figures.to_json()["by_diversity"] == curve
    heights = []
    for shown in (compare([file]), comparison):
        draw_comparison(shown, tmp_path / "picture.png")
        content = (tmp_path / "picture.png").read_bytes()
        heights.append(int.from_bytes(content[20:24], "big"))
    assert heights[1] > heights[0] + 300

"""Top-k by blocks: the same items, scores and order as plain top-k."""

from functools import cache

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from attnrec.export.build import FileBuilder
from attnrec.export.exporting import gate
from attnrec.export.graph import top_k
from attnrec.export.graph.builder import GraphBuilder
from attnrec.train import Run

pytestmark = pytest.mark.usefixtures("equal_weights_are_traced_once")

SIZES = (1, 63, 64, 65, 129, 300)


@cache
def session(n_rows: int, by_blocks: bool) -> onnxruntime.InferenceSession:
    g = GraphBuilder()
    scores = ir.Value(
        name="scores", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["B", n_rows])
    )
    k = ir.Value(name="k", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([1]))
    find = top_k._of_blocks if by_blocks else top_k._of_all
    outputs = find(g, scores, g.Clip(k, 0, n_rows), n_rows)
    for value, kind in zip(outputs, (ir.DataType.FLOAT, ir.DataType.INT64), strict=True):
        value.shape, value.type = ir.Shape(["B", "K"]), ir.TensorType(kind)
    tensors = list(g.initializers.values())
    graph = ir.Graph(
        [scores, k], outputs, nodes=g.nodes, initializers=tensors, opset_imports={"": 23}
    )
    content = ir.serde.serialize_model(ir.Model(graph, ir_version=10)).SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def answers(scores: NDArray[np.float32], k: int, by_blocks: bool) -> list[NDArray[np.generic]]:
    feed = {"scores": scores, "k": np.array([k])}
    found: list[NDArray[np.generic]] = session(scores.shape[1], by_blocks).run(None, feed)
    return found


@settings(max_examples=150)
@given(data=st.data(), n_rows=st.sampled_from(SIZES), batch=st.integers(1, 3))
def test_blocks_find_what_plain_top_k_finds_in_its_order(
    data: st.DataObject, n_rows: int, batch: int
) -> None:
    # Few different values: most scores have equals, in their block and in others.
    values = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])
    scores = data.draw(arrays(np.float32, (batch, n_rows), elements=values))
    k = data.draw(st.integers(0, n_rows + 3))
    plain, blocks = answers(scores, k, by_blocks=False), answers(scores, k, by_blocks=True)
    assert np.array_equal(plain[0], blocks[0])
    left = np.isfinite(plain[0])  # where nothing is left, any row will do
    assert np.array_equal(plain[1][left], blocks[1][left])


def test_rising_scores_are_answered_alike() -> None:
    scores = np.arange(1000, dtype=np.float32)[None]
    assert answers(scores, 10, by_blocks=True)[1].tolist() == [list(range(999, 989, -1))]


@pytest.mark.parametrize("profile", ["fp32", "int8", "int4"])
def test_a_file_with_blocks_passes_the_gate_and_keeps_its_order_among_candidates(
    profile: str, large_runs: dict[str, Run]
) -> None:
    run = large_runs["sasrec-string"]
    made = FileBuilder(run).of(profile)
    assert b"MaxPool" in made.graph
    assert gate(made, None).n_faults == 0
    recommender = made.recommender()
    ids, unknown = run.split.catalogue.item_ids.tolist(), "nothing of the kind"
    for history in run.split.held_out("test").histories[:5]:
        order = recommender.recommend(history, len(ids))
        first = recommender.recommend(history, 40)
        assert (first.item_ids, first.scores) == (order.item_ids[:40], order.scores[:40])
        listed = [*history, *ids[5:20], *ids[10:12], *ids[-3:], unknown]
        for k, banned in ((3, ids[:8]), (40, []), (5, listed)):
            answer = recommender.recommend(history, k, candidates=listed, exclude=banned)
            allowed = set(listed) - {*banned}
            assert answer.item_ids == [i for i in order.item_ids if i in allowed][:k]

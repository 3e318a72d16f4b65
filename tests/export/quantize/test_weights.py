"""Weights of the body as codes: smaller, and exactly what the torch model then computes with."""

import copy
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from attnrec.export import Limits, export
from attnrec.export.graph.trace import export_added, export_body
from attnrec.export.quantize.weights import pack_indexes, round_weights
from attnrec.train import Run
from attnrec.train.models.fusion import Fusion, FusionConfig

pytestmark = pytest.mark.usefixtures("equal_weights_are_traced_once")

LOOSE = Limits(min_overlap=0, max_ndcg_loss=1)


def small_fusion() -> Fusion:
    torch.manual_seed(0)
    model = Fusion(
        FusionConfig(60, 64, 16, n_neighbours=8, ease=True, count_weight=1.0, ease_weight=0.5)
    ).eval()
    counts = model.counts
    counts.chunks[1:] = torch.arange(1, 301).view(60, 5)
    counts.neighbour = torch.randint(1, 61, (301, 8), dtype=torch.int32)
    counts.weight = 3 * torch.rand(2, 301, 8)
    return model


def bytes_of(part: ir.Model) -> bytes:
    content: bytes = ir.serde.serialize_model(part).SerializeToString()
    return content


def answer(part: ir.Model, history: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(bytes_of(part), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"history_index": history})[1]
    return found


def test_the_body_computes_what_the_rounded_model_computes() -> None:
    model, history = small_fusion(), np.array([[0, 3, 7], [5, 5, 60]])
    part = export_added(model)
    assert part is not None
    size = len(bytes_of(part))
    pack_indexes(part)
    before = answer(part, history)
    with torch.no_grad():
        exact = model.added_scores(torch.from_numpy(history))[1].numpy()
    np.testing.assert_allclose(before, exact, atol=1e-5)  # indexes are packed without loss
    rounded = round_weights(model, [part])
    with torch.no_grad():
        expected = rounded.added_scores(torch.from_numpy(history))[1].numpy()
    assert not np.allclose(expected, exact, atol=1e-5)
    np.testing.assert_allclose(answer(part, history), expected, atol=1e-5)
    assert len(bytes_of(part)) < 0.5 * size


def test_rounding_moves_a_weight_by_half_a_step_of_its_row_and_not_the_given_model() -> None:
    model = small_fusion()
    kept = copy.deepcopy(model.state_dict())
    rounded = round_weights(model, [export_body(model)])
    changed = []
    for name, weight in kept.items():
        assert torch.equal(model.state_dict()[name], weight)
        moved = (rounded.state_dict()[name] - weight).abs()
        if moved.any():
            changed.append(name)
            step = weight.abs().amax(dim=1, keepdim=True) / 127
            assert (moved <= step * 0.501).all()
    assert "blocks.0.expand.weight" in changed
    assert "position_embedding.weight" in changed  # stored the newest last
    assert "item_embedding.weight" not in changed  # its codes are made by the table


def test_rows_of_nothing_or_next_to_nothing_stay_numbers() -> None:
    model = small_fusion()
    with torch.no_grad():
        model.blocks[0].expand.weight[0] = 0
        model.blocks[0].expand.weight[1] = 1e-44
    weight = round_weights(model, [export_body(model)]).state_dict()["blocks.0.expand.weight"]
    assert weight.isfinite().all() and not weight[:2].any() and weight[2].any()


def test_codes_are_stored_and_unfolded_when_the_file_is_loaded(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    export(runs["sasrec-string"], file, "int8", limits=LOOSE)
    stored = {value.name: value.data_type for value in onnx.load(file).graph.initializer}
    codes = [name for name in stored if name.endswith(".codes")]
    assert codes and all(stored[name] == onnx.TensorProto.INT8 for name in codes)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx")
    names = {name for node in loaded.graph.node for name in node.input}
    assert not names & set(codes)

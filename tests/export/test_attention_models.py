"""Every way in which an attention model computes leaves torch whole."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attnrec.export import export
from attnrec.export.body import export_body
from attnrec.train import Run, TrainConfig
from attnrec.train.models import MODELS

SHAPE = {"hidden_dim": 16, "max_len": 7}
CONFIGS = {
    "additive": TrainConfig("attention-pool", settings={**SHAPE, "attention": "additive"}),
    "multi-head, learned query": TrainConfig(
        "attention-pool", settings={**SHAPE, "attention": "multi-head", "query": "learned"}
    ),
    "ligr": TrainConfig("sasrec", settings={**SHAPE, "block": "ligr", "n_blocks": 1}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_its_file_answers_like_the_model(name: str, runs: dict[str, Run], tmp_path: Path) -> None:
    torch.manual_seed(0)
    run, config = runs["sasrec-int64"], CONFIGS[name]
    shape = config.model_config(n_items=run.split.catalogue.n_items)
    untrained = MODELS[config.model].model(shape).eval()
    report = export(replace(run, config=config, model=untrained), tmp_path / "model.onnx")
    assert report.n_faults == 0
    assert report.n_identical == report.n_test_users > 0


def test_several_heads_are_one_node_and_every_matrix_one_gemm() -> None:
    config = TrainConfig("attention-pool", settings={**SHAPE, "attention": "multi-head"})
    model = MODELS["attention-pool"].model(config.model_config(n_items=5))
    operators = [node.op_type for node in export_body(model.eval()).graph.all_nodes()]
    assert operators.count("Attention") == 1
    assert operators.count("Gemm") == 4  # W_q, W_k, W_v, W_o
    assert "MatMul" not in operators

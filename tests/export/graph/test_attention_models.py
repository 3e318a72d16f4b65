"""Every way in which an attention model computes leaves torch whole."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from attnrec.export import export
from attnrec.train import Run, TrainConfig
from attnrec.train.models import MODELS

SHAPE = {"hidden_dim": 16, "max_len": 7}
CONFIGS = {
    "additive": TrainConfig("attention-pool", settings={**SHAPE, "attention": "additive"}),
    "multi-head, learned query": TrainConfig(
        "attention-pool", settings={**SHAPE, "attention": "multi-head", "query": "learned"}
    ),
    "sasrec": TrainConfig("sasrec", settings={**SHAPE, "n_blocks": 2}),
}
EXPECTED = {"additive": (0, 4), "multi-head, learned query": (1, 5), "sasrec": (1, 12)}


@pytest.mark.parametrize("name", CONFIGS)
def test_its_file_answers_like_the_model(name: str, runs: dict[str, Run], tmp_path: Path) -> None:
    torch.manual_seed(0)
    run, config = runs["sasrec-int64"], CONFIGS[name]
    shape = config.model_config(n_items=run.split.catalogue.n_items)
    untrained = MODELS[config.model].model(shape).eval()
    report = export(replace(run, config=config, model=untrained), tmp_path / "model.onnx")
    assert report.n_faults == 0
    assert report.n_identical == report.n_test_users > 0
    operators = [n.op_type for n in onnx.load(tmp_path / "model.onnx").graph.node]
    # Several heads are one node, and every matrix one Gemm, that of the items included. In the
    # last block only one position asks, and keys are not made.
    assert (operators.count("Attention"), operators.count("Gemm")) == EXPECTED[name]

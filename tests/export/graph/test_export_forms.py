"""What a file computes by other steps than torch is what the model computes."""

import copy
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from attnrec.export import export
from attnrec.export.graph import export_forms
from attnrec.export.graph.export_forms import in_export_form, on_sphere
from attnrec.train import Run, TrainConfig
from attnrec.train.layers.attention import MultiHeadAttention
from attnrec.train.layers.time_bias import TimeBias
from attnrec.train.models import model_kind
from attnrec.train.models.base import TableModel
from attnrec.train.models.sasrec import TransformerBlock
from attnrec.train.models.sasrec_recency import RecencyConfig, RecencySASRec

NOW = 1_700_000_000
SHAPE = {"hidden_dim": 8, "max_len": 7}
RECENCY = {"decayed_history": True, "time_gaps": True}
MODELS = {
    "sasrec": TrainConfig("sasrec", {**SHAPE, "n_blocks": 1, "logits": "dot"}),
    "history decay": TrainConfig("sasrec", {**SHAPE, "n_blocks": 1, "decayed_history": True}),
    "time bias": TrainConfig("sasrec", {**SHAPE, "n_blocks": 1, "time_gaps": True}),
    "fusion": TrainConfig("fusion", {**SHAPE, "n_blocks": 1, **RECENCY, "n_neighbours": 2}),
    **{
        f"{form}, {query} query": TrainConfig(
            "attention-pool", {**SHAPE, "attention": form, "query": query}
        )
        for form, query in (
            ("dot", "last"), ("additive", "last"), ("self", "learned"),
            ("multi-head", "last"), ("multi-head", "learned"),
        )
    },
}  # fmt: skip


def untrained(config: TrainConfig, n_items: int) -> TableModel:
    """With all weights of order one, where norms do something and times add something."""
    torch.manual_seed(0)
    model = model_kind(config.model).model(config.model_config(n_items=n_items)).eval()
    assert isinstance(model, TableModel)
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_the_form_of_a_model_computes_its_state_and_attention(name: str) -> None:
    model = untrained(MODELS[name], n_items=9)
    history = torch.tensor([[0, 0, 1, 4], [3, 9, 9, 2], [0, 0, 0, 0]])
    times = torch.tensor([[-1, -1, NOW - 5, NOW], [NOW - 10**6, -1, NOW - 9, NOW], [-1] * 4])
    context = {"timestamps": times, "request_time": torch.tensor([NOW + 60, NOW, -1])}
    context = {name: context[name] for name in model.inputs}
    with torch.no_grad():
        given = model.item_table()[history], history > 0
        form = in_export_form(model)
        assert type(form) is not type(model)
        state, attention = form.state_and_attention(*given, **context)
        expected = model.states(*given, **context)[:, -1]
        torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-4)
        state, expected = model.state_and_attention(*given, **context)
        torch.testing.assert_close(state, model.states(*given, **context)[:, -1])
        torch.testing.assert_close(attention, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(attention.sum(dim=1), torch.tensor([1.0, 1.0, 0.0]))


def test_the_form_of_a_block_looks_where_the_block_does_and_its_last_position_too() -> None:
    torch.manual_seed(1)
    block = TransformerBlock(8, 2, 0.0).double().eval()
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    form = copy.deepcopy(block)
    form.__class__ = export_forms.TransformerBlockForm
    known = torch.arange(5) >= torch.tensor([[0], [2], [4]])  # (B, T)
    visible = known[:, None, None, :] | torch.eye(5, dtype=torch.bool)  # (B, 1, T, T)
    x, every_bias = torch.randn(3, 5, 8).double(), torch.randn(3, 2, 5, 5).double()
    for bias in (None, every_bias):
        expected = block(x, visible, bias)
        torch.testing.assert_close(form(x, visible, bias), expected)
        last, weights = form.last(x, known, None if bias is None else bias[:, :, -1])
        torch.testing.assert_close(last, expected[:, -1])
        torch.testing.assert_close(weights, block.attention_weights(x, visible, bias))
        assert not weights[~known].any()


def test_the_node_of_several_heads_gives_answer_and_weights() -> None:
    torch.manual_seed(2)
    attention = MultiHeadAttention(6, 3)
    form = copy.deepcopy(attention)
    form.__class__ = export_forms.MultiHeadForm
    x, visible = torch.randn(2, 4, 6), torch.rand(2, 1, 4, 4) < 0.5
    visible[..., 0] = True
    expected = attention.attend(x, visible)
    torch.testing.assert_close(form.attend(x, visible), expected)


def test_tables_of_times_are_interpolated_alike() -> None:
    torch.manual_seed(3)
    tables = TimeBias(hidden_dim=4, n_heads=2)
    for table in tables.parameters():
        torch.nn.init.normal_(table)
    form = copy.deepcopy(tables)
    form.__class__ = export_forms.TimeBiasForm
    times = torch.tensor([[99, 0, 3, -1, 7]]), torch.tensor([2**40])
    context = dict(zip(("timestamps", "request_time"), times, strict=True))
    on_events, on_scores = tables(context)
    found = form.last(context)
    torch.testing.assert_close(found[0], on_events, rtol=0, atol=2e-6)
    torch.testing.assert_close(found[1], on_scores[:, :, -1], rtol=0, atol=2e-6)


def test_vectors_lie_on_the_sphere_and_zeros_stay() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-8, 0.0]])
    expected = torch.tensor([[6.0, 8.0], [0.0, 0.0], [10.0, 0.0]])
    torch.testing.assert_close(on_sphere(x, 0.1), expected)


class NewestTwo(RecencySASRec):
    """A subclass that computes otherwise: the newest two events alone, without normed states."""

    def visible(self, known: Tensor) -> Tensor:
        place = torch.arange(known.shape[1])
        return super().visible(known) & (place.unsqueeze(1) - place < 2)

    def to_state(self, x: Tensor) -> Tensor:
        return x


CONFIGS = {
    "additive": (TrainConfig("attention-pool", {**SHAPE, "attention": "additive"}), 0, 4),
    "multi-head, learned query": (MODELS["multi-head, learned query"], 1, 5),
    "sasrec": (TrainConfig("sasrec", {**SHAPE, "n_blocks": 2}), 1, 12),
    "sasrec of three blocks": (TrainConfig("sasrec", {**SHAPE, "n_blocks": 3}), 2, 18),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_its_file_answers_like_the_model(name: str, runs: dict[str, Run], tmp_path: Path) -> None:
    run, (config, *expected) = runs["sasrec-int64"], CONFIGS[name]
    model = untrained(config, run.split.catalogue.n_items)
    report = export(replace(run, config=config, model=model), tmp_path / "model.onnx")
    assert report.n_faults == 0
    assert report.n_identical == report.n_test_users > 0
    operators = [n.op_type for n in onnx.load(tmp_path / "model.onnx").graph.node]
    # Several heads are one node, and every matrix one Gemm, that of the items included. In the
    # last block only one position is computed, and keys are not made.
    assert [operators.count("Attention"), operators.count("Gemm")] == expected


def test_a_subclass_of_a_model_with_a_form_is_exported_as_it_computes(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run = runs["sasrec-int64"]
    shape = RecencyConfig(run.split.catalogue.n_items, **SHAPE, **RECENCY)
    torch.manual_seed(0)
    model = NewestTwo(shape).eval()
    for table in model.time_gaps.parameters():
        torch.nn.init.normal_(table)
    report = export(replace(run, model=model), tmp_path / "model.onnx")
    assert report.n_faults == 0
    assert report.n_identical == report.n_test_users > 0

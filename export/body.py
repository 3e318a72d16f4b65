"""From a torch module to the part of the graph that computes: history in, state or scores out."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import onnx_ir as ir
import torch
from torch import Tensor, nn

from attnrec.train.models.protocol import RecommenderModel, ScoreModel, TableModel

OPSET = 23
"""The first with `Attention` as one standard operator."""

ITEM_VECTORS, KNOWN, HISTORY_INDEX = "item_vectors", "known", "history_index"


class _StateBody(nn.Module):
    """item_vectors (B, T, D), known (B, T) -> state (B, D)."""

    def __init__(self, model: TableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, item_vectors: Tensor, known: Tensor) -> Tensor:
        return self.model.state(item_vectors, known)


class _ScoreBody(nn.Module):
    """history_index (B, T) -> scores (B, N + 1)."""

    def __init__(self, model: ScoreModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, history_index: Tensor) -> Tensor:
        return self.model.scores(history_index)


def export_body(model: RecommenderModel) -> ir.Model:
    """The model's own computation as ONNX, free of ids, exclusion and top-k.

    Inputs are `item_vectors` and `known` for a table model, `history_index` for a score model;
    batch and length are dynamic. Nothing of the training machine is left in the graph.
    """
    # A batch of 1 would be taken for a constant without a word.
    batch, length = 2, 2
    history = torch.zeros(batch, length, dtype=torch.int64)
    body: nn.Module
    example: tuple[Tensor, ...]
    if isinstance(model, TableModel):
        dim = model.item_table().shape[1]
        body = _StateBody(model)
        example = (torch.zeros(batch, length, dim), history > 0)
        names = [ITEM_VECTORS, KNOWN]
    else:
        body, example, names = _ScoreBody(model), (history,), [HISTORY_INDEX]
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    with _quiet_exporter():
        program = torch.onnx.export(
            body.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            dynamic_shapes=tuple(axes for _ in example),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return strip_metadata(program.model)


def strip_metadata(model: ir.Model) -> ir.Model:
    """Remove source lines and absolute paths, which the exporter writes into every node."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter reports progress, missing torchvision and its own deprecations."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)

"""From a torch module to the part of the graph that computes: history in, state or scores out."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from attnrec.export.graph.counted_scores import counted_scores
from attnrec.export.graph.export_forms import in_export_form
from attnrec.train.models.base import RecommenderModel, ScoreModel, TableModel
from attnrec.train.models.fusion import Fusion

OPSET = 23
"""The first with `Attention` as one standard operator."""

ITEM_VECTORS, KNOWN, HISTORY_INDEX = "item_vectors", "known", "history_index"


class _StateBody(nn.Module):
    """item_vectors (B, T, D), known (B, T), declared inputs -> state (B, D).

    And attention (B, T), where the model has any.
    """

    def __init__(self, model: TableModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, item_vectors: Tensor, known: Tensor, *declared: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        context = dict(zip(self.model.inputs, declared, strict=True))
        if self.model.has_attention:
            return self.model.state_and_attention(item_vectors, known, **context)
        return self.model.state(item_vectors, known, **context)


class _ScoreBody(nn.Module):
    """history_index (B, T), declared inputs -> scores (B, N + 1), or `added_scores`."""

    def __init__(self, model: RecommenderModel, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.compute = compute

    def forward(self, history_index: Tensor, *declared: Tensor) -> Any:
        # Added scores are computed from the history alone, without the declared inputs.
        context = dict(zip(self.model.inputs, declared, strict=False))
        return self.compute(history_index, **context)


def export_body(model: RecommenderModel) -> ir.Model:
    """The model's own computation as ONNX, free of ids, exclusion and top-k.

    Inputs are `item_vectors` and `known` for a table model, `history_index` for a score model,
    then those that the model declares; batch and lengths are dynamic. Nothing of the training
    machine is left in the graph.
    """
    # A batch of 1 would silently be taken for a constant.
    batch, length = 2, 2
    history = torch.zeros(batch, length, dtype=torch.int64)
    body: nn.Module
    example: tuple[Any, ...]
    if isinstance(model, TableModel):
        dim = model.item_table().shape[1]
        body = _StateBody(in_export_form(model))
        example = (torch.zeros(batch, length, dim), history > 0)
        names = [ITEM_VECTORS, KNOWN]
    elif isinstance(model, ScoreModel):
        body, example, names = _ScoreBody(model, model.scores), (history,), [HISTORY_INDEX]
    else:
        raise ValueError(f"{type(model).__name__} is neither a TableModel nor a ScoreModel")
    in_batch = {0: torch.export.Dim("batch")}
    axes = in_batch | {1: torch.export.Dim("length")}
    # Of rows of users and of their tags, and of times.
    declared = {"user": (history[:, 0], in_batch)}
    declared["user_tags"] = (history.clone(), in_batch | {1: torch.export.Dim("tags")})
    declared["timestamps"] = (history.clone(), axes)
    # Not the tensor of "user" itself: the exporter would take the two for one input.
    declared["request_time"] = (history[:, 0].clone(), in_batch)
    examples, shapes = (tuple(declared[name][part] for name in model.inputs) for part in (0, 1))
    return _exported(
        body,
        (*example, *examples),
        [*names, *model.inputs],
        (*(axes for _ in example), *([shapes] if shapes else [])),
    )


def export_added(model: RecommenderModel) -> ir.Model | None:
    """Rows, and what a model adds to their scores, from `history_index`; None: nothing."""
    if not isinstance(model, TableModel) or not model.adds_scores:
        return None
    if type(model) is Fusion:
        return counted_scores(model.counts, HISTORY_INDEX, OPSET)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    history = torch.zeros(2, 2, dtype=torch.int64)
    return _exported(_ScoreBody(model, model.added_scores), (history,), [HISTORY_INDEX], (axes,))


def _exported(
    body: nn.Module, example: tuple[Any, ...], names: list[str], axes: tuple[Any, ...]
) -> ir.Model:
    with _quiet_exporter():
        program = torch.onnx.export(
            body.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            dynamic_shapes=axes,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return strip_metadata(program.model)


def strip_metadata(model: ir.Model) -> ir.Model:
    """Remove source lines and absolute paths, which the exporter writes into every node.

    And shapes that cannot be.
    """
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value.shape is not None and 0 in value.shape:
                value.shape = None  # a mistake of the inference, see `MultiHeadForm`
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter reports progress, missing torchvision and its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

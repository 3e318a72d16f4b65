"""The facts that go into a file: no time of day, no path, no user."""

import hashlib
import json
from importlib.metadata import version
from typing import Any

import numpy as np

from attnrec.export.graph.trace import OPSET
from attnrec.export.item_rules import ItemRules
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.version import __version__
from attnrec.train.models.base import TableModel
from attnrec.train.runs.run import Run
from attnrec.train.splits.split import Catalogue

LOWEST_ONNXRUNTIME = "1.23.2"
"""The lowest onnxruntime that the tests run with."""


def describe(
    run: Run,
    metrics: dict[str, Any],
    parity: dict[str, Any] | None,
    profile: str,
    rules: ItemRules | None = None,
) -> ModelInfo:
    """The facts of the file of a run in a profile."""
    catalogue, users = run.split.catalogue, run.split.users.ids
    has_users = names.USER in run.model.inputs
    return ModelInfo(
        format_version=names.FORMAT_VERSION,
        model=run.config.model,
        config=vars(run.model.config),
        id_type=catalogue.id_type,
        n_items=catalogue.n_items,
        catalogue_sha256=_catalogue_hash(catalogue),
        max_len=run.model.config.max_len,
        inputs=(*names.REQUIRED_INPUTS, *run.model.inputs, *rule_inputs_of(rules)),
        has_titles=catalogue.titles is not None,
        has_attention=isinstance(run.model, TableModel) and run.model.has_attention,
        repeats=run.recipe.repeats,
        profile=profile,
        final=run.split.final,
        data={"recipe": run.recipe.to_json(), **run.data, "seen_until": run.seen_until()},
        metrics=metrics,
        parity=parity,
        versions={
            "attnrec": __version__,
            "torch": version("torch"),
            "onnx_ir": version("onnx-ir"),
            "opset": str(OPSET),
            "lowest_onnxruntime": LOWEST_ONNXRUNTIME,
        },
        user_id_type=("int64" if users.dtype == np.int64 else "string") if has_users else None,
        n_users=len(users) if has_users else 0,
        rules={} if rules is None else rules.facts(),
    )


def rule_inputs_of(rules: ItemRules | None) -> tuple[str, ...]:
    """The inputs of a file whose requests may name these."""
    if rules is None:
        return ()
    of_tags = (*names.TAG_INPUTS, names.BOOST_BY) if rules.tags else ()
    return (*of_tags, *(names.BOUNDS if rules.numbers else ()))


def _catalogue_hash(catalogue: Catalogue) -> str:
    text = json.dumps(catalogue.item_ids.tolist(), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

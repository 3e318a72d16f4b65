"""The facts that go into a file, and a few made-up questions with its answers."""

import hashlib
import json
from importlib.metadata import version
from typing import Any

import numpy as np
import onnxruntime

from attnrec.export.body import OPSET
from attnrec.export.contract import id_type_of
from attnrec.export.made_up import Call, golden_calls
from attnrec.runtime import format as names
from attnrec.runtime.arguments import id_row, stack
from attnrec.runtime.model_info import ModelInfo
from attnrec.runtime.session import make_session
from attnrec.runtime.version import __version__
from attnrec.train.run import Run
from attnrec.train.split import Catalogue

LOWEST_ONNXRUNTIME = "1.23.2"
"""The lowest onnxruntime that the tests run with."""


def describe(
    run: Run, metrics: dict[str, Any], parity: dict[str, Any] | None, profile: str
) -> ModelInfo:
    """The facts of a file: no time of day, no path, no user."""
    catalogue = run.split.catalogue
    return ModelInfo(
        format_version=names.FORMAT_VERSION,
        model=run.config.model,
        config=vars(run.model.config),
        id_type=id_type_of(catalogue),
        n_items=catalogue.n_items,
        catalogue_sha256=_catalogue_hash(catalogue),
        max_len=run.model.config.max_len,
        inputs=names.REQUIRED_INPUTS,
        has_titles=catalogue.titles is not None,
        repeats=run.recipe.repeats,
        profile=profile,
        final=run.split.final,
        data={"recipe": run.recipe.to_json(), **run.data},
        metrics=metrics,
        parity=parity,
        versions={
            "attnrec": __version__,
            "torch": version("torch"),
            "onnx_ir": version("onnx-ir"),
            "opset": str(OPSET),
            "lowest_onnxruntime": LOWEST_ONNXRUNTIME,
        },
    )


def golden_vectors(file: bytes, run: Run) -> str:
    """Made-up histories with the answers of the finished file, as the JSON text of the entry."""
    session = make_session(file)
    id_type = id_type_of(run.split.catalogue)
    calls = golden_calls(run.split.catalogue, id_type, run.model.config.max_len)
    return json.dumps([_golden(session, call, id_type) for call in calls], ensure_ascii=False)


def _golden(
    session: onnxruntime.InferenceSession, call: Call, id_type: names.IdType
) -> dict[str, Any]:
    question = {
        names.HISTORY: call.histories[0],
        names.EXCLUDE: call.exclude[0] if call.exclude else [],
        names.CANDIDATES: call.candidates[0] if call.candidates else [],
    }
    feed = {
        name: stack([id_row(name, ids, id_type)], id_type, names.PADDING[id_type])
        for name, ids in question.items()
    }
    items, scores, n_known = session.run(None, {**feed, names.K: np.array([call.k])})[:3]
    return {
        **question,
        names.K: call.k,
        names.ITEMS: items[0].tolist(),
        names.SCORES: [None if s == -np.inf else s for s in scores[0].tolist()],
        names.N_KNOWN: int(n_known[0]),
    }


def _catalogue_hash(catalogue: Catalogue) -> str:
    text = json.dumps(catalogue.item_ids.tolist(), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

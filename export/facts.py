"""The facts that go into a file, and a few made-up questions with its answers."""

import hashlib
import json
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
import onnxruntime

from attnrec.export.graph.trace import OPSET
from attnrec.export.parity.synthetic_calls import (
    Call,
    calls_of_callers,
    calls_of_times,
    golden_calls,
)
from attnrec.runtime.arguments import id_row, stack
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.session import make_session
from attnrec.runtime.side_inputs import CheckedSideInputs
from attnrec.runtime.version import __version__
from attnrec.train.data.split import Catalogue
from attnrec.train.models.base import TableModel
from attnrec.train.runs.run import Run

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
        id_type=catalogue.id_type,
        n_items=catalogue.n_items,
        catalogue_sha256=_catalogue_hash(catalogue),
        max_len=run.model.config.max_len,
        inputs=(*names.REQUIRED_INPUTS, *run.model.inputs),
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
        **_users(run),
    )


def _users(run: Run) -> dict[str, Any]:
    if names.USER not in run.model.inputs:
        return {}
    ids = run.split.users.ids
    return {
        "user_id_type": "int64" if ids.dtype == np.int64 else "string",
        "n_users": len(ids),
    }


def golden_vectors(file: bytes, run: Run) -> str:
    """Made-up histories with the answers of the finished file, as the JSON text of the entry."""
    session = make_session(file)
    info = ModelInfo.from_metadata(session.get_modelmeta().custom_metadata_map)
    calls = golden_calls(run.split.catalogue, info.id_type, run.model.config.max_len)
    users, declared = run.split.users, run.model.inputs
    of_callers = calls_of_callers(run.split.catalogue, users, declared, info.id_type)
    max_len = run.model.config.max_len
    of_times = calls_of_times(run.split.catalogue, declared, info.id_type, max_len)
    calls += [call for call in chain(of_callers, of_times) if len(call.histories) == 1]
    return json.dumps([_golden(session, call, info) for call in calls], ensure_ascii=False)


def _golden(session: onnxruntime.InferenceSession, call: Call, info: ModelInfo) -> dict[str, Any]:
    id_type = info.id_type
    question = {
        names.HISTORY: call.histories[0],
        names.EXCLUDE: call.exclude[0] if call.exclude else [],
        names.CANDIDATES: call.candidates[0] if call.candidates else [],
    }
    feed = {
        name: stack([id_row(name, ids, id_type)], id_type, names.PADDING[id_type])
        for name, ids in question.items()
    }
    caller = CheckedSideInputs(info, call.said(), [len(call.histories[0])]).inputs([0])
    who = dict(zip(names.CALLER_INPUTS, call.said(), strict=True))
    items, scores, n_known = session.run(None, {**feed, names.K: np.array([call.k]), **caller})[:3]
    return {
        **question,
        **{name: value for name, value in who.items() if value is not None},
        names.K: call.k,
        names.ITEMS: items[0].tolist(),
        names.SCORES: [None if s == -np.inf else s for s in scores[0].tolist()],
        names.N_KNOWN: int(n_known[0]),
    }


def _catalogue_hash(catalogue: Catalogue) -> str:
    text = json.dumps(catalogue.item_ids.tolist(), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

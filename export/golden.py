"""Golden vectors: synthetic requests with the answers of the file, for its self-test."""

import json
from itertools import chain
from typing import Any

import numpy as np
import onnxruntime

from attnrec.export.item_rules import ItemRules
from attnrec.export.parity.rule_calls import golden_rules
from attnrec.export.parity.synthetic_calls import (
    GraphCall,
    calls_with_times,
    calls_with_users,
    golden_calls,
)
from attnrec.runtime.arguments import id_row, stack
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.session import make_session
from attnrec.runtime.side_inputs import CheckedSideInputs
from attnrec.train.runs.run import Run


def golden_vectors(file: bytes, run: Run, rules: ItemRules | None = None) -> str:
    """Synthetic histories with the answers of the finished file, as the JSON of the entry."""
    session = make_session(file)
    info = ModelInfo.from_metadata(session.get_modelmeta().custom_metadata_map)
    catalogue, declared, max_len = run.split.catalogue, run.model.inputs, run.model.config.max_len
    with_users = calls_with_users(catalogue, run.split.users, declared, info.id_type)
    with_times = calls_with_times(catalogue, declared, info.id_type, max_len, run.seen_until())
    calls = golden_calls(catalogue, info.id_type, max_len)
    calls += [call for call in chain(with_users, with_times) if len(call.histories) == 1]
    calls += golden_rules(catalogue, info.id_type, rules)
    return json.dumps([_golden(session, call, info) for call in calls], ensure_ascii=False)


def _golden(
    session: onnxruntime.InferenceSession, call: GraphCall, info: ModelInfo
) -> dict[str, Any]:
    id_type, given = info.id_type, call.side_inputs()
    lists = {
        names.HISTORY: call.histories[0],
        names.EXCLUDE: call.exclude[0] if call.exclude else [],
        names.CANDIDATES: call.candidates[0] if call.candidates else [],
    }
    feed = {
        name: stack([id_row(name, ids, id_type)], id_type, names.PADDING[id_type])
        for name, ids in lists.items()
    }
    rules = call.rules[0] if call.rules else None
    feed |= CheckedSideInputs(info, given, [len(call.histories[0])], rules).inputs([0])
    items, scores, n_known = session.run(None, {**feed, names.K: np.array([call.k])})[:3]
    side_inputs = dict(zip(names.CALLER_INPUTS, given, strict=True))
    return {
        **lists,
        **{name: value for name, value in side_inputs.items() if value is not None},
        **({} if rules is None else {names.RULES: vars(rules)}),
        names.K: call.k,
        names.ITEMS: items[0].tolist(),
        names.SCORES: [None if s == -np.inf else s for s in scores[0].tolist()],
        names.N_KNOWN: int(n_known[0]),
    }

"""Golden vectors: synthetic requests stored in a file with their answers, to test a machine."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from attnrec.runtime.arguments import id_row
from attnrec.runtime.batch import GraphFunction
from attnrec.runtime.errors import SelfTestError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.rules import Rules
from attnrec.runtime.side_inputs import CheckedSideInputs, SideInputs

_LONGEST = 2**20  # characters; attnrec writes about 10,000


def check_golden(text: str, info: ModelInfo, run: GraphFunction) -> int:
    """Run the requests of the golden vectors again; returns how many there are.

    text: the metadata entry. `SelfTestError` names the first answer that comes out differently.
    """
    try:
        if len(text) > _LONGEST:
            raise ValueError(f"{len(text)} characters, above the limit of {_LONGEST}")
        golden = json.loads(text)
        for number, vector in enumerate(golden, start=1):
            _check_vector(f"{number} of {len(golden)}", vector, info, run)
    except SelfTestError:
        raise
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise SelfTestError(
            f"the golden vectors of the file cannot be run ({error!r}); export it again"
        ) from error
    return len(golden)


def _check_vector(
    label: str, vector: Mapping[str, Any], info: ModelInfo, run: GraphFunction
) -> None:
    history, exclude, candidates = (
        id_row(name, vector[name], info.id_type)[None]
        for name in (names.HISTORY, names.EXCLUDE, names.CANDIDATES)
    )
    given = SideInputs(*(vector.get(name) for name in names.CALLER_INPUTS))
    rules = Rules(**vector[names.RULES]) if names.RULES in vector else None
    side_inputs = CheckedSideInputs(info, given, [history.shape[1]], rules).inputs([0])
    items, scores, n_known = run(history, exclude, candidates, vector[names.K], side_inputs)[:3]
    expected = np.array(
        [-np.inf if score is None else score for score in vector[names.SCORES]], dtype=np.float32
    )
    finite = np.abs(expected[np.isfinite(expected)])
    tolerance = names.score_tolerance(float(finite.max(initial=0)))
    same = (
        n_known[0] == vector[names.N_KNOWN]
        and scores[0].shape == expected.shape == (len(vector[names.ITEMS]),)
        and np.allclose(scores[0], expected, rtol=0, atol=tolerance)
        and items[0].tolist() == vector[names.ITEMS]
    )
    if not same:
        raise SelfTestError(
            f"golden vector {label} came out as {items[0].tolist()} {scores[0].tolist()} with "
            f"{n_known[0]} known, expected {vector[names.ITEMS]} {expected.tolist()} with "
            f"{vector[names.N_KNOWN]}; do not use this file on this machine"
        )

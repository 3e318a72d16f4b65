"""Any call of the committed files, beside the contract in numpy and the scores of torch.

The histories are those whose scores the torch model was asked for when the files were made.
Whatever stands between their ids without being an item changes nothing.
"""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from contract_model import Call, ContractModel, Ids, Row
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnrec.runtime import Recommender
from attnrec.runtime.model_file.format import CALLER_INPUTS

Expected = dict[str, Any]
Asked = tuple[Call, NDArray[np.float32], dict[str, Any]]
"""A row of a call, the score of every item after its history (N,), and who asks, if it counts."""

many_calls = settings(deadline=None, derandomize=True, database=None, max_examples=20)


@pytest.fixture(scope="module")
def session(path: Any) -> onnxruntime.InferenceSession:
    """Plain onnxruntime, as any application has it."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def contract(expected: Expected) -> ContractModel:
    return ContractModel(expected["catalogue"], expected["titles"])


def rows_of_a_call(
    expected: Expected, contract: ContractModel, k: int
) -> st.SearchStrategy[list[Asked]]:
    nothings = st.sampled_from([*expected["unknown_ids"], contract.padding])
    noise = st.lists(st.tuples(st.integers(0, 20), nothings), max_size=8)
    known = st.lists(st.sampled_from(contract.ids), max_size=20)

    def row(question: Any, exclude: Ids, candidates: Ids | None, *noises: Any) -> Asked:
        lists = [list(question["recommend"]["history"]), exclude, candidates]
        for ids, inserted in zip(lists, noises, strict=True):
            for place, nothing in inserted if ids is not None else ():
                ids.insert(place, nothing)
        scores = np.array(question["score_of_every_item"], dtype=np.float32)
        asked = question["recommend"]
        caller = {name: asked[name] for name in CALLER_INPUTS if name in asked}
        if caller.get("timestamps") is not None:
            caller["timestamps"] = list(caller["timestamps"])
            for place, _ in noises[0]:  # what is no item has any time
                caller["timestamps"].insert(place, 7 * place)
        return Call(lists[0], k, lists[1], lists[2]), scores, caller

    calls = st.sampled_from(expected["calls"])
    rows = st.builds(row, calls, known, st.none() | known, noise, noise, noise)
    return st.lists(rows, min_size=1, max_size=8)


def padded(rows: list[Ids], contract: ContractModel) -> NDArray[Any]:
    """Rows as one array (B, longest), every second one padded on the left."""
    dtype = np.int64 if contract.padding == -1 else object
    array = np.full((len(rows), max(map(len, rows))), contract.padding, dtype=dtype)
    for i, row in enumerate(rows):
        start = array.shape[1] - len(row) if i % 2 else 0
        array[i, start : start + len(row)] = row
    return array


def callers(rows: list[Asked]) -> dict[str, NDArray[Any]]:
    """The inputs that say who asks and when, where the file declares them."""
    if not rows[0][2]:
        return {}
    if "timestamps" in rows[0][2]:
        return times(rows)
    users = [caller["user"] for _, _, caller in rows]
    tags = [caller["user_tags"] or [] for _, _, caller in rows]
    array = np.full((len(rows), max(map(len, tags))), "", dtype=object)
    for row, own in zip(array, tags, strict=True):
        row[: len(own)] = own
    nobody = -1
    user = np.array([nobody if user is None else user for user in users], dtype=np.int64)
    return {"user": user, "user_tags": array}


def times(rows: list[Asked]) -> dict[str, NDArray[Any]]:
    """`timestamps` (B, T), padded as `padded` pads the histories, and `request_time` (B,)."""
    width = max(len(call.history) for call, *_ in rows)
    array = np.full((len(rows), width), -1, dtype=np.int64)
    for i, (call, _, caller) in enumerate(rows):
        start = width - len(call.history) if i % 2 else 0
        if caller["timestamps"] is not None:
            array[i, start : start + len(call.history)] = caller["timestamps"]
    asked = [caller["request_time"] for *_, caller in rows]
    return {
        "timestamps": array,
        "request_time": np.array([-1 if at is None else at for at in asked], dtype=np.int64),
    }


@many_calls
@given(data=st.data())
def test_the_graph_itself_answers_any_call_as_the_contract_says(
    data: st.DataObject,
    session: onnxruntime.InferenceSession,
    recommender: Recommender,
    expected: Expected,
    contract: ContractModel,
) -> None:
    k = data.draw(st.one_of(st.integers(-3, 40), st.integers(-(2**63), 2**63 - 1)))
    rows = data.draw(rows_of_a_call(expected, contract, k))
    candidates = padded([call.candidates or [] for call, *_ in rows], contract)
    outputs = session.run(
        [value.name for value in session.get_outputs() if value.name != "attention"],
        {
            "history": padded([call.history for call, *_ in rows], contract),
            "exclude": padded([call.exclude for call, *_ in rows], contract),
            "candidates": candidates,
            "k": np.array([k], dtype=np.int64),
            **callers(rows),
        },
    )
    columns = [output.tolist() for output in outputs] + [[None] * len(rows)]
    for i, (call, scores, _) in enumerate(rows):
        # Whether there are candidates belongs to the call, not to the row.
        allowed = candidates[i].tolist() if candidates.shape[1] else None
        row = Row(columns[0][i], columns[1][i], columns[2][i], columns[3][i])
        asked = Call(call.history, k, call.exclude, allowed)
        contract.assert_answers(row, scores, asked)


@many_calls
@given(data=st.data())
def test_a_recommender_answers_any_batch_as_the_contract_says(
    data: st.DataObject, recommender: Recommender, expected: Expected, contract: ContractModel
) -> None:
    k = data.draw(st.one_of(st.integers(1, 40), st.integers(1, 10**30)))
    rows = data.draw(rows_of_a_call(expected, contract, k))
    exclude_seen = data.draw(st.sampled_from([None, True, False]))
    who = [caller for *_, caller in rows]
    several = {"user": "users", "request_time": "request_times"}
    names = {several.get(name, name): name for name in who[0]}
    answers = recommender.recommend_batch(
        [call.history for call, *_ in rows],
        k,
        exclude=[call.exclude for call, *_ in rows],
        candidates=[call.candidates for call, *_ in rows],
        exclude_seen=exclude_seen,
        **{many: [caller[one] for caller in who] for many, one in names.items()},
    )
    seen_too = not expected["repeats"] if exclude_seen is None else exclude_seen
    for (call, scores, _), answer in zip(rows, answers, strict=True):
        exclude = call.exclude + call.history * seen_too
        asked = Call(call.history, k, exclude, call.candidates)
        row = contract.row(answer.item_ids, answer.scores, answer.n_known, answer.titles, asked)
        contract.assert_answers(row, scores, asked)

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

Expected = dict[str, Any]
Asked = tuple[Call, NDArray[np.float32]]
"""A row of a call, and the score of every item after its history (N,)."""

many_calls = settings(deadline=None, derandomize=True, database=None, max_examples=25)


@pytest.fixture(scope="module")
def session(path: Any) -> onnxruntime.InferenceSession:
    """Plain onnxruntime, as any application has it."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def contract(expected: Expected) -> ContractModel:
    return ContractModel(expected["catalogue"], expected["titles"])


def with_nothings(data: st.DataObject, ids: Ids, nothings: Ids) -> Ids:
    """`ids` in their order, with unknown ids and padding in between."""
    n = data.draw(st.integers(0, 8))
    mixed = list(ids)
    for place, nothing in data.draw(
        st.lists(st.tuples(st.integers(0, len(ids)), st.sampled_from(nothings)), max_size=n)
    ):
        mixed.insert(place, nothing)
    return mixed


def draw_rows(
    data: st.DataObject, expected: Expected, contract: ContractModel, k: int
) -> list[Asked]:
    nothings = [*expected["unknown_ids"], contract.padding]
    known = st.lists(st.sampled_from(contract.ids), max_size=20)
    rows = []
    for question in data.draw(st.lists(st.sampled_from(expected["calls"]), min_size=1)):
        history, exclude, candidates = (
            question["recommend"]["history"],
            *data.draw(st.tuples(known, st.one_of(st.none(), known))),
        )
        if candidates is not None:
            candidates = with_nothings(data, candidates, nothings)
        call = Call(
            with_nothings(data, history, nothings),
            k,
            with_nothings(data, exclude, nothings),
            candidates,
        )
        rows.append((call, np.array(question["score_of_every_item"], dtype=np.float32)))
    return rows


def padded(rows: list[Ids], contract: ContractModel) -> NDArray[Any]:
    """Rows as one array (B, longest), every second one padded on the left."""
    dtype = np.int64 if contract.padding == -1 else object
    array = np.full((len(rows), max(map(len, rows))), contract.padding, dtype=dtype)
    for i, row in enumerate(rows):
        start = array.shape[1] - len(row) if i % 2 else 0
        array[i, start : start + len(row)] = row
    return array


@many_calls
@given(data=st.data())
def test_the_graph_itself_answers_any_call_as_the_contract_says(
    data: st.DataObject,
    session: onnxruntime.InferenceSession,
    expected: Expected,
    contract: ContractModel,
) -> None:
    k = data.draw(st.one_of(st.integers(-3, 40), st.integers(-(2**63), 2**63 - 1)))
    rows = draw_rows(data, expected, contract, k)
    candidates = padded([call.candidates or [] for call, _ in rows], contract)
    outputs = session.run(
        None,
        {
            "history": padded([call.history for call, _ in rows], contract),
            "exclude": padded([call.exclude for call, _ in rows], contract),
            "candidates": candidates,
            "k": np.array([k], dtype=np.int64),
        },
    )
    columns = [output.tolist() for output in outputs] + [[None] * len(rows)]
    for i, (call, scores) in enumerate(rows):
        # Whether there are candidates belongs to the call, not to the row.
        allowed = candidates[i].tolist() if candidates.shape[1] else None
        row = Row(columns[0][i], columns[1][i], columns[2][i], columns[3][i])
        contract.assert_answers(row, scores, Call(call.history, k, call.exclude, allowed))


@many_calls
@given(data=st.data())
def test_a_recommender_answers_any_batch_as_the_contract_says(
    data: st.DataObject, recommender: Recommender, expected: Expected, contract: ContractModel
) -> None:
    k = data.draw(st.one_of(st.integers(1, 40), st.integers(1, 10**30)))
    rows = draw_rows(data, expected, contract, k)
    exclude_seen = data.draw(st.sampled_from([None, True, False]))
    answers = recommender.recommend_batch(
        [call.history for call, _ in rows],
        k,
        exclude=[call.exclude for call, _ in rows],
        candidates=[call.candidates for call, _ in rows],
        exclude_seen=exclude_seen,
    )
    seen_too = not expected["repeats"] if exclude_seen is None else exclude_seen
    for (call, scores), answer in zip(rows, answers, strict=True):
        exclude = call.exclude + call.history * seen_too
        asked = Call(call.history, k, exclude, call.candidates)
        row = contract.row(answer.item_ids, answer.scores, answer.n_known, answer.titles, asked)
        contract.assert_answers(row, scores, asked)

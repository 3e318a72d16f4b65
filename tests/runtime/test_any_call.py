"""Any call of the committed files, beside the contract in numpy and the scores of torch.

The histories are those with scores of the torch model when the files were made.
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

from attnrec.runtime import ModelInfo, Recommender
from attnrec.runtime.model_file.format import CALLER_INPUTS

Expected = dict[str, Any]
ScoredRow = tuple[Call, NDArray[np.float32], dict[str, Any]]
"""A row of a call, the score of every item after its history (N,), and its side inputs."""

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
) -> st.SearchStrategy[list[ScoredRow]]:
    nothings = st.sampled_from([*expected["unknown_ids"], contract.padding])
    noise = st.lists(st.tuples(st.integers(0, 20), nothings), max_size=8)
    known = st.lists(st.sampled_from(contract.ids), max_size=20)

    def row(question: Any, exclude: Ids, candidates: Ids | None, *noises: Any) -> ScoredRow:
        lists = [list(question["recommend"]["history"]), exclude, candidates]
        for ids, inserted in zip(lists, noises, strict=True):
            for place, nothing in inserted if ids is not None else ():
                ids.insert(place, nothing)
        scores = np.array(question["score_of_every_item"], dtype=np.float32)
        request = question["recommend"]
        side_inputs = {name: request[name] for name in CALLER_INPUTS if name in request}
        if side_inputs.get("timestamps") is not None:
            side_inputs["timestamps"] = list(side_inputs["timestamps"])
            for place, _ in noises[0]:  # what is no item has any time
                side_inputs["timestamps"].insert(place, 7 * place)
        return Call(lists[0], k, lists[1], lists[2]), scores, side_inputs

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


def side_inputs_of(rows: list[ScoredRow]) -> dict[str, NDArray[Any]]:
    """The side inputs that the file declares."""
    if not rows[0][2]:
        return {}
    if "timestamps" in rows[0][2]:
        return times(rows)
    users = [side_inputs["user"] for _, _, side_inputs in rows]
    tags = [side_inputs["user_tags"] or [] for _, _, side_inputs in rows]
    array = np.full((len(rows), max(map(len, tags))), "", dtype=object)
    for row, own in zip(array, tags, strict=True):
        row[: len(own)] = own
    unknown = -1
    user = np.array([unknown if user is None else user for user in users], dtype=np.int64)
    return {"user": user, "user_tags": array}


def no_rules(info: ModelInfo, n_rows: int) -> dict[str, NDArray[Any]]:
    """What any program feeds where a file has rules and the request has none."""
    n_numbers = len(info.rules.get("numbers", ()))
    rules: dict[str, NDArray[Any]] = {
        name: np.empty((n_rows, 0), dtype=object)
        for name in ("require_all", "require_any", "forbid", "boost")
    }
    rules |= {"boost_by": np.zeros((n_rows, 0), dtype=np.float32)}
    for name in ("at_least", "at_most"):
        rules[name] = np.full((n_rows, n_numbers), np.nan, dtype=np.float32)
    return {name: values for name, values in rules.items() if name in info.inputs}


def times(rows: list[ScoredRow]) -> dict[str, NDArray[Any]]:
    """`timestamps` (B, T), padded as `padded` pads the histories, and `request_time` (B,)."""
    width = max(len(call.history) for call, *_ in rows)
    array = np.full((len(rows), width), -1, dtype=np.int64)
    for i, (call, _, side_inputs) in enumerate(rows):
        start = width - len(call.history) if i % 2 else 0
        if side_inputs["timestamps"] is not None:
            array[i, start : start + len(call.history)] = side_inputs["timestamps"]
    request = [side_inputs["request_time"] for *_, side_inputs in rows]
    return {
        "timestamps": array,
        "request_time": np.array([-1 if at is None else at for at in request], dtype=np.int64),
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
            **side_inputs_of(rows),
            **no_rules(recommender.info, len(rows)),
        },
    )
    columns = [output.tolist() for output in outputs] + [[None] * len(rows)]
    for i, (call, scores, _) in enumerate(rows):
        # Whether there are candidates belongs to the call, not to the row.
        allowed = candidates[i].tolist() if candidates.shape[1] else None
        row = Row(columns[0][i], columns[1][i], columns[2][i], columns[3][i])
        request = Call(call.history, k, call.exclude, allowed)
        contract.assert_answers(row, scores, request)


@many_calls
@given(data=st.data())
def test_a_recommender_answers_any_batch_and_its_rows_alone_as_the_contract_says(
    data: st.DataObject, recommender: Recommender, expected: Expected, contract: ContractModel
) -> None:
    k = data.draw(st.one_of(st.integers(1, 40), st.integers(1, 10**30)))
    rows = data.draw(rows_of_a_call(expected, contract, k))
    exclude_seen = data.draw(st.sampled_from([None, True, False]))
    given_by_row = [side_inputs for *_, side_inputs in rows]
    several = {"user": "users", "request_time": "request_times"}
    names = {several.get(name, name): name for name in given_by_row[0]}
    answers = recommender.recommend_batch(
        [call.history for call, *_ in rows],
        k,
        exclude=[call.exclude for call, *_ in rows],
        candidates=[call.candidates for call, *_ in rows],
        exclude_seen=exclude_seen,
        **{many: [own[one] for own in given_by_row] for many, one in names.items()},
    )
    seen_too = not expected["repeats"] if exclude_seen is None else exclude_seen
    for (call, scores, side_inputs), answer in zip(rows, answers, strict=True):
        request = Call(call.history, k, call.exclude + call.history * seen_too, call.candidates)
        alone = recommender.recommend(
            call.history,
            k,
            exclude=call.exclude,
            candidates=call.candidates,
            exclude_seen=exclude_seen,
            **side_inputs,
        )
        for one in (answer, alone):
            row = contract.row(one.item_ids, one.scores, one.n_known, one.titles, request)
            contract.assert_answers(row, scores, request)

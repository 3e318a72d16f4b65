"""What cannot be run is refused before onnxruntime sees it, in the words of the protocol."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnrec.runtime import Recommender
from attnrec.runtime.serving.answers import ServedFile
from attnrec.runtime.serving.errors import Refused
from attnrec.runtime.serving.open_inference.infer import infer, is_ready


@pytest.fixture(scope="module")
def served(data) -> dict[str, ServedFile]:
    return {
        name: ServedFile.of(Recommender.load(data / f"tiny-{name}.onnx"))
        for name in ("string", "int64", "users", "times")
    }


def ids(name: str, *values: Any, **changes: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [1, len(values)], "data": values} | changes


def k(*values: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "k", "datatype": "INT64", "shape": [1], "data": values} | changes


HISTORY = ids("history", "sku-1", "sku-2")
BINARY = {"name": "history", "datatype": "BYTES", "shape": [1, 2]}


def behind(size: int, **changes: Any) -> dict[str, Any]:
    return BINARY | {"parameters": {"binary_data_size": size}} | changes


def call(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


REFUSED_JSON = [
    (b"", "not JSON"),
    (b"\xff", "not JSON"),
    (b'{"inputs": ' + b"[" * 50_000, "Expected object"),
    (b'{"inputs": [], "x": ' + b"[" * 50_000, "not JSON"),
    (b"[]", "Expected object"),
    (b"{}", "missing required field inputs"),
    (call(), "'history' is missing"),
    (call(k(3)), "'history' is missing"),
    (call(HISTORY, HISTORY), "each once"),
    (call(HISTORY, ids("x", "a")), "'x' is no input here; the inputs are history, exclude"),
    (call(HISTORY, ids("user", "a", shape=[1])), "'user' is no input here"),
    (call({"name": "history", "datatype": "BYTES", "shape": [1, 1]}), "data or binary_data_size"),
    (call(ids("history", "a", parameters={"binary_data_size": 5})), "and not both"),
    (call(ids("history", "a", datatype="FP32")), "this input is BYTES [-1, -1]"),
    (call(ids("history", 5, datatype="INT64")), "this input is BYTES [-1, -1]"),
    (call(ids("history", 5)), "value 0 is 5, which is not BYTES"),
    (call(ids("history", "a", True)), "got bool - at $.inputs[0].data[1]"),
    (call(ids("history", "a", None)), "value 1 is None, which is not BYTES"),
    (call(ids("history", "a", 1.5)), "value 1 is 1.5, which is not BYTES"),
    (call(ids("history", ["a"], "b", shape=[2, 1])), "not the rows"),
    (call(ids("history", "a", ["b"], shape=[2, 1])), "value 1 is ['b']"),
    (call(ids("history", ["a", "b"], ["c"], shape=[2, 2])), "not the rows"),
    (call(ids("history", ["a", "b"], shape=[2, 1])), "not the rows"),
    (call(ids("history", [["a"]], shape=[1, 1])), "got array"),
    (call(ids("history", "a", shape=[1, 2])), "1 values for the shape [1, 2]"),
    (call(ids("history", "a", shape=[1])), "this input is BYTES [-1, -1]"),
    (call(ids("history", "a", shape=[])), "this input is BYTES [-1, -1]"),
    (call(ids("history", "a", shape=[1, 1, 1])), "length <= 2"),
    (call(ids("history", "a", shape=[-1, 1])), ">= 0"),
    (call(ids("history", shape=[0, 0])), "1 to 256 rows"),
    (call(ids("history", shape=[257, 0])), "1 to 256 rows"),
    (call(ids("history", shape=[1, 100_001])), "rows of 100000 values"),
    (call(ids("history", shape=[2**63 - 1, 2**63 - 1])), "1 to 256 rows"),
    (call(ids("history", shape=[2**64, 1])), "Expected int"),
    (call(HISTORY, ids("exclude", "a", "b", shape=[2, 1])), "exclude has 2 rows, history has 1"),
    (call(HISTORY, k(0)), "k is 0; it must be 1 to 1000"),
    (call(HISTORY, k(1001)), "k is 1001; it must be 1 to 1000"),
    (call(HISTORY, k(2**63)), "<= 9223372036854775807"),
    (call(HISTORY, k("5")), "value 0 is '5', which is not INT64"),
    (call(HISTORY, k(5, datatype="INT32")), "this input is INT64 [1]"),
    (call(HISTORY, k(5, 5, shape=[2])), "this input is INT64 [1]"),
    (call(HISTORY, k(shape=[0])), "this input is INT64 [1]"),
    (call(HISTORY, outputs=[{"name": "x"}]), "'x' is no output here; the outputs are items"),
    (call(HISTORY, outputs=[{"name": "items"}] * 2), "each once"),
    (
        call(HISTORY, outputs=[{"name": "items", "parameters": {"classification": 3}}]),
        "classification is not offered",
    ),
    (
        call(behind(9, parameters={"binary_data_size": 9, "shared_memory_region": "x"})),
        "shared_memory_region is not offered",
    ),
    (call(HISTORY, id=5), "Expected str"),
    (call(HISTORY, parameters={"binary_data_output": 1}), "Expected bool"),
    (b'{"inputs": [{"name": "\\ud800"}]}', "not JSON"),
]
WORD = b"\x01\0\0\0a"
REFUSED_BINARY = [
    (behind(10), WORD, "should have 10 bytes behind the JSON; 5 are left"),
    (behind(5), WORD, "1 values for the shape [1, 2]"),
    (behind(15), WORD * 3, "3 values for the shape [1, 2]"),
    (behind(10), WORD * 3, "5 bytes behind the JSON belong to no input"),
    (behind(8), WORD + b"\x01\0\0", "text 1 goes beyond the end"),
    (behind(9), WORD + b"\x01\0\0\0", "text 1 goes beyond the end"),
    (behind(9), WORD + b"\xff\xff\xff\xff", "text 1 goes beyond the end"),
    (behind(10), WORD + b"\x01\0\0\0\xff", "text 1 is not UTF-8"),
    (behind(11), WORD + b"\x02\0\0\0\xc3(", "text 1 is not UTF-8"),
    (behind(2**63 - 1), WORD, "5 are left"),
    (behind(-1), WORD, ">= 0"),
    (HISTORY, WORD, "5 bytes behind the JSON belong to no input"),
    (k(parameters={"binary_data_size": 9}) | {"shape": [1]}, b"123456789", "and not both"),
]


@pytest.mark.parametrize(("body", "words"), REFUSED_JSON)
def test_wrong_json_is_refused_with_what_is_wrong(served, body, words) -> None:
    with pytest.raises(Refused) as refusal:
        infer(served["string"], body, None)
    assert refusal.value.status_code == 400
    assert words in refusal.value.detail
    assert len(refusal.value.detail) < 500


@pytest.mark.parametrize(("tensor", "behind_it", "words"), REFUSED_BINARY)
def test_wrong_bytes_are_refused_with_what_is_wrong(served, tensor, behind_it, words) -> None:
    head = call(tensor)
    with pytest.raises(Refused) as refusal:
        infer(served["string"], head + behind_it, str(len(head)))
    assert refusal.value.status_code == 400
    assert words in refusal.value.detail


def test_numbers_are_as_long_as_int64_and_within_it(served) -> None:
    tensor = {"name": "history", "datatype": "INT64", "shape": [1, 1]}
    for history in (
        tensor | {"data": [2**63]},
        tensor | {"data": [-(2**63) - 1]},
        tensor | {"data": [1.0]},
        tensor | {"data": ["1"]},
        tensor | {"parameters": {"binary_data_size": 7}},
    ):
        head = call(history)
        with pytest.raises(Refused):
            infer(served["int64"], head + b"1234567", str(len(head)))
    for number in (2**63 - 1, -(2**63), -1):
        infer(served["int64"], call(tensor | {"data": [number]}), None)


def test_times_in_another_unit_are_refused(served) -> None:
    now = 1_000_000_000
    request_time = {"name": "request_time", "datatype": "INT64", "shape": [1], "data": [now]}
    for factor in (1, 1000):
        times = [(now - 60) * factor, (now - 30) * factor]
        timestamps = {"name": "timestamps", "datatype": "INT64", "shape": [1, 2], "data": times}
        body = call(HISTORY, timestamps, request_time)
        if factor == 1:
            assert infer(served["times"], body, None)
        else:
            with pytest.raises(Refused, match="looks like milliseconds") as refusal:
                infer(served["times"], body, None)
            assert refusal.value.status_code == 400


@pytest.mark.parametrize(
    "header", ["", "-1", "+5", "1e2", "²", "0x10", " 5", "99999", "9" * 5000, "5"]
)
def test_the_length_of_the_json_must_be_a_number_that_fits(served, header) -> None:
    with pytest.raises(Refused) as refusal:
        infer(served["string"], call(HISTORY), header)
    assert refusal.value.status_code == 400
    assert len(refusal.value.detail) < 300


def test_other_parameters_are_ignored_and_the_id_comes_back(served) -> None:
    body = call(
        HISTORY | {"parameters": {"mine": [1]}, "more": {}},
        ids("exclude"),
        id="\u2603",
        parameters={"sequence_id": 5, "priority": 1},
        outputs=[{"name": "items", "parameters": {"other": None}}],
    )
    answer = json.loads(infer(served["string"], body, None)[0])
    assert answer["id"] == "\u2603"
    assert [output["name"] for output in answer["outputs"]] == ["items"]


def test_flat_and_nested_data_are_the_same(served) -> None:
    rows = [["sku-1", "sku-2"], ["sku-3", ""]]
    flat = ids("history", *rows[0], *rows[1], shape=[2, 2])
    nested = ids("history", *rows, shape=[2, 2])
    one, other = (infer(served["string"], call(each), None) for each in (flat, nested))
    assert one == other


def test_a_file_that_failed_its_self_test_is_not_ready_and_does_not_answer(served) -> None:
    broken = dataclasses.replace(served["string"], fault="golden vector 1")
    for refused in (
        lambda: is_ready(broken),
        lambda: is_ready(broken, "attnrec", broken.version),
        lambda: infer(broken, call(HISTORY), None),
    ):
        with pytest.raises(Refused, match="golden vector 1") as refusal:
            refused()
        assert refusal.value.status_code == 503


tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["history", "exclude", "candidates", "user", "user_tags", "k"]),
        "datatype": st.sampled_from(["BYTES", "INT64", "INT64", "FP32"]),
        "shape": st.lists(st.integers(0, 3), min_size=1, max_size=2),
    },
    optional={
        "data": st.lists(st.integers(-2, 9) | st.sampled_from(["sku-1", "a,b", ""]), max_size=6)
        | st.lists(st.lists(st.integers() | st.text(max_size=3), max_size=3), max_size=3),
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 30)}),
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=4)},
    optional={
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["items", "titles"])})),
        "parameters": st.fixed_dictionaries({"binary_data_output": st.booleans()}),
    },
).map(lambda request: json.dumps(request).encode())


def valid(kind: str, n_rows: int, width: int, *, binary: bool) -> tuple[bytes, int]:
    """A request that is answered, and the length of its JSON."""
    values: list[Any] = [5 if kind == "int64" else "sku-5"] * (n_rows * width)
    datatype = "INT64" if kind == "int64" else "BYTES"
    tensor: dict[str, Any] = {"name": "history", "datatype": datatype, "shape": [n_rows, width]}
    if not binary:
        head = call(tensor | {"data": values}, k(4))
        return head, len(head)
    raw = b"".join(
        value.to_bytes(8, "little") if kind == "int64" else b"\x05\0\0\0sku-5" for value in values
    )
    head = call(tensor | {"parameters": {"binary_data_size": len(raw)}}, k(4))
    return head + raw, len(head)


def with_some_bytes_changed(sent: tuple[bytes, int], at: int, cut: int, put: bytes) -> Any:
    body, length = sent
    return body[:at] + put + body[at + cut :], str(length)


def bodies(kind: str) -> Any:
    """Anything, nearly anything, and what is nearly or fully right; with the header of each."""
    right = st.builds(
        valid, st.just(kind), st.integers(1, 3), st.integers(0, 3), binary=st.booleans()
    )
    return st.one_of(
        st.tuples(st.binary(max_size=100), st.none() | st.integers(0, 120).map(str) | st.text()),
        st.tuples(requests, st.none()),
        st.builds(lambda body, more: (body + more, str(len(body))), requests, st.binary()),
        right.map(lambda sent: (sent[0], str(sent[1]))),
        st.builds(
            with_some_bytes_changed,
            right, st.integers(0, 300), st.integers(0, 2), st.binary(max_size=2),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["string", "int64", "users"])
def test_any_body_is_answered_or_refused(served, kind) -> None:
    outcomes = set()

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(sent=bodies(kind))
    def check(sent: tuple[bytes, str | None]) -> None:
        try:
            answer, head = infer(served[kind], *sent)
        except Refused as refusal:
            assert refusal.status_code == 400
            assert refusal.detail
            outcomes.add("refused")
        else:
            assert json.loads(answer[:head])["model_name"] == "attnrec"
            outcomes.add("answered")

    check()
    assert outcomes == {"answered", "refused"}

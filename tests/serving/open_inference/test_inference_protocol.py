"""The Open Inference Protocol, used by the client that Triton users have."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from attnrec.runtime import Recommendations, Recommender

FILES = ("tiny-string", "tiny-int64", "tiny-users", "tiny-times")


class Pair:
    """A server with a Triton client, and the same file in this process."""

    def __init__(self, server: Any, recommender: Recommender) -> None:
        self.server, self.recommender = server, recommender
        self.version = (recommender.info.sha256 or "")[:12]
        self.client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
        self.datatype = {
            "history": "INT64" if recommender.info.id_type == "int64" else "BYTES",
            "user": "INT64" if recommender.info.user_id_type == "int64" else "BYTES",
        }

    def tensor(self, name: str, values: Any, *, binary: bool) -> triton.InferInput:
        """Ids as rows, padded where they are shorter."""
        kinds = {
            "k": "INT64",
            "user_tags": "BYTES",
            "timestamps": "INT64",
            "request_time": "INT64",
        }
        kind = kinds.get(name) or self.datatype.get(name, self.datatype["history"])
        dtype, padding = (np.int64, -1) if kind == "INT64" else (object, "")
        if name in ("k", "user", "request_time"):
            array = np.array(values, dtype=dtype)
        else:
            array = np.full((len(values), max(map(len, values))), padding, dtype=dtype)
            for row, ids in zip(array, values, strict=True):
                row[: len(ids)] = ids
        tensor = triton.InferInput(name, array.shape, kind)
        return tensor.set_data_from_numpy(array, binary_data=binary)

    def infer(self, *, binary: bool = True, **inputs: Any) -> triton.InferResult:
        tensors = [self.tensor(name, values, binary=binary) for name, values in inputs.items()]
        outputs = None
        if not binary:
            names = ["items", "scores", "n_known"] + ["titles"] * self.recommender.info.has_titles
            outputs = [triton.InferRequestedOutput(name, binary_data=False) for name in names]
        return self.client.infer("attnrec", tensors, outputs=outputs)


@pytest.fixture(scope="module", params=FILES)
def pair(request, start, data):
    server = start(request.param)
    pair = Pair(server, Recommender.load(data / f"{request.param}.onnx"))
    pair.rows = [
        call["recommend"]
        for call in json.loads((data / f"{request.param}.expected.json").read_text("utf-8"))[
            "calls"
        ]
    ]
    yield pair
    pair.client.close()


def assert_row_is(result: triton.InferResult, row: int, found: Recommendations) -> None:
    """The row holds these items, then padding."""
    items, scores = result.as_numpy("items")[row], result.as_numpy("scores")[row]
    as_ids = [item.decode() if isinstance(item, bytes) else item for item in items.tolist()]
    n = len(found)
    assert as_ids[:n] == found.item_ids
    assert set(as_ids[n:]) <= {"", -1}
    assert scores[:n].tolist() == pytest.approx(found.scores, abs=1e-4)
    assert (scores[n:] <= np.finfo(np.float32).min).all()
    assert result.as_numpy("n_known")[row] == found.n_known
    if found.titles is not None:
        titles = result.as_numpy("titles")[row].tolist()
        plain = [title.decode() if isinstance(title, bytes) else title for title in titles]
        assert plain[:n] == found.titles


def inputs_for(row: dict[str, Any]) -> dict[str, Any] | None:
    """Arguments of `recommend` as inputs of the graph; None where the two differ."""
    if row.get("candidates") == []:
        return None  # to `recommend` nothing is allowed, to the graph everything
    inputs = {"history": [row["history"]]}
    for name in ("exclude", "candidates", "user_tags", "timestamps"):
        if row.get(name):
            inputs[name] = [row[name]]
    inputs["k"] = [row.get("k", 10)]
    alone = [name for name in ("user", "request_time") if row.get(name) is not None]
    return inputs | {name: [row[name]] for name in alone}


@pytest.mark.parametrize("binary", [True, False])
def test_one_row_gets_what_recommend_returns(pair, binary) -> None:
    cases = [(row, inputs_for(row)) for row in pair.rows]
    assert sum(inputs is not None for _, inputs in cases) >= 20
    for row, inputs in cases:
        if inputs is not None:
            found = pair.recommender.recommend(**{**row, "exclude_seen": False})
            assert_row_is(pair.infer(binary=binary, **inputs), 0, found)


@pytest.mark.parametrize("n_rows", [3, 256])
def test_rows_of_one_call_are_padded_to_the_same_length(pair, n_rows) -> None:
    histories = [row["history"][-i % 5 :][:5] for i in range(8) for row in pair.rows]
    histories = histories[-n_rows:]
    result = pair.infer(history=histories, exclude=histories, k=[7])
    assert result.as_numpy("items").shape == (n_rows, min(7, pair.recommender.info.n_items))
    found = pair.recommender.recommend_batch(histories, 7, exclude_seen=True)
    for row, answer in enumerate(found):
        assert_row_is(result, row, answer)


def test_ten_items_come_unless_k_is_given(pair) -> None:
    result = pair.infer(history=[pair.rows[3]["history"]])
    assert result.as_numpy("items").shape == (1, min(10, pair.recommender.info.n_items))


def test_outputs_are_chosen_each_as_json_or_bytes(pair) -> None:
    history = pair.tensor("history", [pair.rows[3]["history"]], binary=True)
    k = pair.tensor("k", [3], binary=False)
    outputs = [
        triton.InferRequestedOutput("scores", binary_data=False),
        triton.InferRequestedOutput("items", binary_data=True),
    ]
    answer = pair.client.infer(
        "attnrec", [history, k], model_version=pair.version, outputs=outputs, request_id="seven"
    )
    response = answer.get_response()
    assert [output["name"] for output in response["outputs"]] == ["scores", "items"]
    assert "data" in response["outputs"][0] and "data" not in response["outputs"][1]
    assert answer.as_numpy("items").shape == answer.as_numpy("scores").shape == (1, 3)
    assert response["id"] == "seven"
    assert (response["model_name"], response["model_version"]) == ("attnrec", pair.version)


def test_metadata_lists_what_the_session_of_the_file_has(pair) -> None:
    kinds = {"tensor(string)": "BYTES", "tensor(int64)": "INT64", "tensor(float)": "FP32"}
    session = pair.recommender._run.session
    for version in ("", pair.version):
        facts = pair.client.get_model_metadata("attnrec", version)
        assert (facts["name"], facts["versions"]) == ("attnrec", [pair.version])
        for kind, values in (
            ("inputs", session.get_inputs()),
            ("outputs", session.get_outputs()),
        ):
            expected = {value.name: (kinds[value.type], value.shape) for value in values}
            expected.pop("attention", None)  # for explanations, which have a path of their own
            assert {each["name"] for each in facts[kind]} == set(expected)
            for each in facts[kind]:
                datatype, shape = expected[each["name"]]
                assert each["datatype"] == datatype
                assert each["shape"] == [size if size == 1 else -1 for size in shape]
    assert pair.client.get_server_metadata()["extensions"] == ["binary_tensor_data"]


def test_the_server_and_the_model_are_alive_and_ready(pair) -> None:
    assert pair.client.is_server_live() and pair.client.is_server_ready()
    assert pair.client.is_model_ready("attnrec")
    assert pair.client.is_model_ready("attnrec", pair.version)
    assert not pair.client.is_model_ready("other")
    assert not pair.client.is_model_ready("attnrec", "1")


def test_refusals_reach_the_client_in_words(pair) -> None:
    history = pair.tensor("history", [pair.rows[3]["history"]], binary=True)
    for call, words in (
        (lambda: pair.client.infer("other", [history]), "this one is 'attnrec'"),
        (lambda: pair.client.infer("attnrec", [history], model_version="1"), pair.version),
        (lambda: pair.client.get_model_metadata("other"), "this one is 'attnrec'"),
        (lambda: pair.infer(history=[pair.rows[3]["history"]], k=[1001]), "1 to 1000"),
        (lambda: pair.client.infer("attnrec", []), "'history' is missing"),
    ):
        with pytest.raises(InferenceServerException, match=words):
            call()


def test_a_client_sends_its_token(start, token_file) -> None:
    server = start("tiny-string", "--token-file", token_file)
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    history = triton.InferInput("history", [1, 1], "BYTES")
    history.set_data_from_numpy(np.array([["sku-1"]], dtype=object))
    sent = {"Authorization": "Bearer 0123456789abcdef-token"}
    assert client.is_server_ready(headers=sent) and not client.is_server_ready()
    answer = client.infer("attnrec", [history], headers=sent)
    assert answer.as_numpy("items").shape[0] == 1
    with pytest.raises(InferenceServerException, match="401"):
        client.infer("attnrec", [history])
    client.close()


def test_the_example_of_the_page_runs_as_printed(server) -> None:
    page = Path(__file__).parents[3] / "docs" / "inference-protocol.md"
    code = page.read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    code = code.replace(":8000", f":{server.port}")
    command = [sys.executable, "-W", "error", "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("[[b'") and printed.count("b'") == 5

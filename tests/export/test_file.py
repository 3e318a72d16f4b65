"""The bytes of a file: always the same, nothing of the machine in them, and facts only."""

import getpass
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest

from attnrec.export import ParityReport
from attnrec.runtime import Recommender
from attnrec.runtime.model_file import format as names
from attnrec.train import Run
from attnrec.train.models.base import TableModel

NAMES = ["sasrec-string", "sasrec-int64", "markov-chain-int64", "popularity-string"]
FACTS = [
    names.FORMAT_KEY,
    names.MODEL_KEY,
    names.DATA_KEY,
    names.METRICS_KEY,
    names.VERSIONS_KEY,
    names.PARITY_KEY,
    names.GOLDEN_KEY,
]
Exported = dict[str, tuple[Path, ParityReport]]

pytestmark = pytest.mark.parametrize("name", NAMES)


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def facts(path: Path, key: str) -> Any:
    return json.loads(metadata(path)[key])


# --- the same bytes


@pytest.fixture(scope="module")
def exported_elsewhere(
    runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The same runs, exported by another process with another seed of hashes and more threads."""
    directory = tmp_path_factory.mktemp("elsewhere")
    program = (
        "import sys\n"
        "import torch\n"
        "torch.set_num_threads(2)\n"
        "from attnrec.export import export\n"
        "from attnrec.train import Run\n"
        "for name, run in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "    export(Run.load(run), f'{name}.onnx')\n"
        "assert torch.get_num_threads() == 2\n"
    )
    named = [str(part) for name, run in runs.items() for part in (name, run.directory)]
    subprocess.run(
        [sys.executable, "-c", program, *named],
        cwd=directory,
        env={**os.environ, "PYTHONHASHSEED": "4711", "TZ": "Asia/Tokyo"},
        check=True,
    )
    return {name: directory / f"{name}.onnx" for name in runs}


def test_another_process_exports_the_same_bytes(
    name: str, exported: Exported, exported_elsewhere: dict[str, Path]
) -> None:
    assert exported_elsewhere[name].read_bytes() == exported[name][0].read_bytes()


def test_nothing_of_the_training_machine_is_in_the_file(
    name: str, exported: Exported, runs: dict[str, Run]
) -> None:
    content = exported[name][0].read_bytes()
    here = Path(__file__).resolve()
    private = [str(here.parents[2]), str(runs[name].directory.parent), str(Path.home())]
    private += ["/work", "/root", "/home/", "/tmp", "site-packages", "private-place"]
    private += ["stack_trace", ".py", 'File "', "pkg.torch"]
    if len(getpass.getuser()) > 4:  # "root" is part of too many words
        private.append(getpass.getuser())
    assert [text for text in private if text.encode() in content] == []


# --- the graph


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def test_the_graph_is_valid_and_holds_nothing_unusual(name: str, exported: Exported) -> None:
    model = onnx.load(exported[name][0])
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert {o.domain: o.version for o in model.opset_import} == {"": 23, "ai.onnx.ml": 4}
    assert not model.functions and not model.training_info
    inner = list(graphs(model.graph))
    assert {node.domain for graph in inner for node in graph.node} == {"", "ai.onnx.ml"}
    assert [node.op_type for node in model.graph.node].count("If") == 1
    assert len(inner) == 3  # the graph and the two branches: nothing is nested deeper
    assert not any(node.op_type in ("Loop", "Scan") for graph in inner for node in graph.node)


def test_nodes_and_values_carry_no_notes(name: str, exported: Exported) -> None:
    for graph in graphs(onnx.load(exported[name][0]).graph):
        assert not graph.metadata_props and not graph.doc_string
        for part in (*graph.node, *graph.value_info, *graph.initializer):
            assert not part.metadata_props and not part.doc_string


def test_inputs_and_outputs_are_those_of_format_1(
    name: str, exported: Exported, runs: dict[str, Run]
) -> None:
    graph = onnx.load(exported[name][0]).graph

    def shapes(values: Any) -> dict[str, tuple[int, list[str | int]]]:
        return {
            v.name: (
                v.type.tensor_type.elem_type,
                [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim],
            )
            for v in values
        }

    ids = onnx.TensorProto.INT64 if name.endswith("int64") else onnx.TensorProto.STRING
    assert shapes(graph.input) == {
        "history": (ids, ["B", "T"]),
        "exclude": (ids, ["B", "X"]),
        "candidates": (ids, ["B", "C"]),
        "k": (onnx.TensorProto.INT64, [1]),
    }
    expected = {
        "items": (ids, ["B", "K"]),
        "scores": (onnx.TensorProto.FLOAT, ["B", "K"]),
        "n_known": (onnx.TensorProto.INT64, ["B"]),
    }
    if runs[name].split.catalogue.titles is not None:
        expected["titles"] = (onnx.TensorProto.STRING, ["B", "K"])
    model = runs[name].model
    if isinstance(model, TableModel) and model.has_attention:
        expected["attention"] = (onnx.TensorProto.FLOAT, ["B", "W"])
    assert shapes(graph.output) == expected
    assert list(expected) == [value.name for value in graph.output]


# --- the facts


def test_the_seal_covers_everything_before_it(name: str, exported: Exported) -> None:
    content = exported[name][0].read_bytes()
    assert content[-64:] == hashlib.sha256(content[:-64]).hexdigest().encode()
    entries = onnx.load(exported[name][0]).metadata_props
    assert entries[-1].key == names.SEAL_KEY == "attnrec.sha256"
    assert entries[-1].value.encode() == content[-64:]


def test_all_facts_are_json_and_nothing_else_is_there(name: str, exported: Exported) -> None:
    entries = metadata(exported[name][0])
    assert sorted(entries) == sorted([*FACTS, names.SEAL_KEY])
    for key in FACTS:
        json.loads(entries[key])


def test_the_facts_are_those_of_the_run(
    name: str, exported: Exported, runs: dict[str, Run]
) -> None:
    path, run = exported[name][0], runs[name]
    info, ids = Recommender.load(path).info, run.split.catalogue.item_ids.tolist()
    assert (info.format_version, info.profile, info.final, info.repeats) == (
        1,
        "fp32",
        False,
        False,
    )
    assert info.model == run.config.model and info.config == vars(run.model.config)
    assert info.id_type == name.rsplit("-", 1)[1]
    assert (info.n_items, info.max_len) == (len(ids), run.model.config.max_len)
    assert info.has_titles == (name == "sasrec-string")
    assert info.inputs == ("history", "exclude", "candidates", "k")
    as_text = json.dumps(ids, ensure_ascii=False, separators=(",", ":"))
    assert info.catalogue_sha256 == hashlib.sha256(as_text.encode()).hexdigest()
    assert info.data["fingerprint"] == run.split.interactions.fingerprint()
    assert info.data["recipe"] == run.recipe.to_json()
    assert info.data["source"] == f"{name}.csv"  # a name, not a path
    assert info.versions["opset"] == "23"


def test_the_parity_report_is_in_the_file(name: str, exported: Exported) -> None:
    path, report = exported[name]
    assert facts(path, names.PARITY_KEY) == json.loads(json.dumps(report.to_json()))
    assert facts(path, names.PARITY_KEY)["identical_top_10"] == 1.0


def test_the_validation_figures_and_the_protocol_come_with_it(
    name: str, exported: Exported, runs: dict[str, Run]
) -> None:
    metrics, run = facts(exported[name][0], names.METRICS_KEY), runs[name]
    assert metrics["valid"] == run.metrics["valid"]
    assert metrics["protocol"].startswith("leave-one-out")
    assert "epochs" not in metrics  # they hold seconds, and a file holds no times


def test_golden_vectors_hold_no_real_history(
    name: str, exported: Exported, runs: dict[str, Run]
) -> None:
    real = [history.tolist() for history in runs[name].split.everybody().histories]
    neighbours = {pair for history in real for pair in pairwise(history)}
    golden = facts(exported[name][0], names.GOLDEN_KEY)
    assert len(golden) >= 4 and any(vector["history"] == [] for vector in golden)
    for vector in golden:
        pairs = set(pairwise(vector["history"]))
        assert vector["history"] not in real
        assert not pairs or len(pairs & neighbours) < len(pairs)
    users = {str(user) for user in runs[name].split.interactions.user_ids}
    assert not any(user in metadata(exported[name][0])[names.GOLDEN_KEY] for user in users)

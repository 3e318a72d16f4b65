"""How fast a file answers, beside torch and beside a graph that knows no ids.

    attnrec-train --out run && python benchmarks/speed.py run

All on one thread and in one process. Variants take turns in short blocks, and the 10th percentile
of the single calls is reported: neighbours on the machine disturb it least. Ratios repeat,
microseconds belong to the machine.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from attnrec.cli.bench.timing import take_turns
from attnrec.export.facts import describe
from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.contract import assemble
from attnrec.export.graph.item_table import FloatTable
from attnrec.export.graph.trace import ITEM_VECTORS, KNOWN, OPSET, export_body
from attnrec.runtime import Recommender
from attnrec.runtime.model_file import format as names
from attnrec.runtime.session import make_session
from attnrec.train import Run
from attnrec.train.models.base import TableModel, catalogue_scores
from attnrec.train.models.sasrec import SASRec

_K = 10


def p10_microseconds(variants: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Time the variants in turn."""
    times = take_turns(variants, seconds)
    return {name: float(np.percentile(us, 10)) for name, us in times.items()}


def rows_graph(model: TableModel) -> bytes:
    """Rows in, best unseen rows out: what an expert would export by hand, with the same body."""
    g = GraphBuilder()
    rows = ir.Value(name="rows", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["B", "T"]))
    table = g.initializer("item_table", np.ascontiguousarray(model.item_table().detach().numpy()))
    state, *_ = g.inline(
        export_body(model),
        {ITEM_VECTORS: g.Gather(table, rows, axis=0), KNOWN: g.Greater(rows, 0)},
    )
    scores = g.Gemm(state, table, transB=1)
    unseen = g.ScatterElements(scores, rows, g.Expand(-np.inf, g.Shape(rows)), axis=1)
    outputs = g.TopK(unseen, [_K], outputs=2)
    for output, kind in zip(outputs, (ir.DataType.FLOAT, ir.DataType.INT64), strict=True):
        output.type = ir.TensorType(kind)
    graph = ir.Graph(
        [rows],
        outputs,
        nodes=g.nodes,
        initializers=list(g.initializers.values()),
        opset_imports={"": OPSET},
    )
    data: bytes = ir.serde.serialize_model(ir.Model(graph, ir_version=10)).SerializeToString()
    return data


def sealed_file(run: Run) -> bytes:
    """The file of `run` without the gate, which `attnrec-export` has run."""
    model, catalogue = run.model, run.split.catalogue
    table = np.ascontiguousarray(model.item_table().detach().numpy())
    graph = assemble(export_body(model), FloatTable(table), catalogue, model.config.max_len)
    entries = describe(run, {}, {}, "fp32").to_metadata()
    facts = b"".join(names.metadata_entry(key, value) for key, value in entries.items())
    data: bytes = names.seal(ir.serde.serialize_model(graph).SerializeToString() + facts)
    return data


def with_int64_ids(run: Run) -> Run:
    """The same model over a catalogue of int64 ids, without titles."""
    catalogue = run.split.catalogue
    ids = np.random.default_rng(0).permutation(10**7)[: catalogue.n_items].astype(np.int64)
    int_catalogue = replace(catalogue, item_ids=ids, titles=None)
    return replace(run, split=replace(run.split, catalogue=int_catalogue))


def feed(history: np.ndarray, id_type: str) -> dict[str, np.ndarray]:
    """Inputs for one history, itself excluded."""
    row = history[None]
    return {
        names.HISTORY: row,
        names.EXCLUDE: row,
        names.CANDIDATES: row[:, :0],
        names.K: np.array([_K]),
    }


def against_torch_and_rows(run: Run, seconds: float) -> dict[str, float]:
    """History of 50: torch eager, the file with string and int64 ids, and rows in, rows out."""
    model = run.model
    assert isinstance(model, TableModel)
    rows = np.random.default_rng(1).permutation(run.split.catalogue.n_items)[:50] + 1
    int_run = with_int64_ids(run)
    strings, ints = (r.split.catalogue.item_ids[rows - 1] for r in (run, int_run))
    string_session, int_session = (make_session(sealed_file(r)) for r in (run, int_run))
    rows_session = make_session(rows_graph(model))
    string_recommender = Recommender.from_session(string_session)
    int_recommender = Recommender.from_session(int_session)
    history_index = torch.from_numpy(rows)[None]
    string_list, int_list = strings.tolist(), ints.tolist()
    string_feed, int_feed = feed(strings, "string"), feed(ints, "int64")
    rows_feed = {"rows": rows[None]}

    def torch_eager() -> Any:
        """The training module: all positions, seen items out, top-k."""
        with torch.inference_mode():
            scores = catalogue_scores(model, history_index)
            scores[:, 0] = -torch.inf
            scores.scatter_(1, history_index, -torch.inf)
            return scores.topk(_K)

    return p10_microseconds(
        {
            "torch_eager": torch_eager,
            "rows": lambda: rows_session.run(None, rows_feed),
            "string": lambda: string_session.run(None, string_feed),
            "int64": lambda: int_session.run(None, int_feed),
            "recommend_string": lambda: string_recommender.recommend(string_list, _K),
            "recommend_int64": lambda: int_recommender.recommend(int_list, _K),
        },
        seconds,
    )


def by_history_length(run: Run, seconds: float) -> dict[str, float]:
    """10 and 200 events, with a model of max_len 200 (random weights: only time is measured)."""
    torch.manual_seed(0)
    model = SASRec(replace(run.model.config, max_len=200)).eval()
    session = make_session(sealed_file(replace(run, model=model)))
    ids = np.random.default_rng(2).permutation(run.split.catalogue.item_ids)
    feeds = {str(n): feed(ids[:n], "string") for n in (0, 10, 50, 200)}
    variants: dict[str, Callable[[], Any]] = {
        name: (lambda inputs=inputs: session.run(None, inputs)) for name, inputs in feeds.items()
    }
    return p10_microseconds(variants, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory of sasrec, from attnrec-train")
    parser.add_argument("--seconds", type=float, default=5, help="of each of two comparisons")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run.load(arguments.run)
    main_times = against_torch_and_rows(run, arguments.seconds)
    lengths = by_history_length(run, arguments.seconds)
    t = main_times
    ratios = {
        "torch eager / file, string": (t["torch_eager"] / t["string"], ">= 3.0"),
        "torch eager / file, int64": (t["torch_eager"] / t["int64"], ">= 3.0"),
        "string ids / rows": (t["string"] / t["rows"], "<= 1.25"),
        "int64 ids / rows": (t["int64"] / t["rows"], "<= 1.18"),
        "10 events / 200 events": (lengths["10"] / lengths["200"], "<= 0.25"),
    }
    extra = {
        "recommend over run, string, us": (t["recommend_string"] - t["string"], "<= 30"),
        "recommend over run, int64, us": (t["recommend_int64"] - t["int64"], "<= 30"),
    }
    if arguments.json:
        print(
            json.dumps(
                {"us": t, "us_by_length": lengths, **{k: v for k, (v, _) in ratios.items()}}
            )
        )
        return
    for name, value in [*t.items(), *((f"{n} events", v) for n, v in lengths.items())]:
        print(f"{name:34} {value:8.1f} us")
    for name, (value, target) in {**ratios, **extra}.items():
        print(f"{name:34} {value:8.3f}     target {target}")


if __name__ == "__main__":
    main()

"""What a request costs beyond its arithmetic: the body, the Python around it, batches, threads.

    attnrec-train --model sasrec --out run && python benchmarks/request_path.py run

On one thread, by its processor time, which others on the machine disturb least: what is compared
takes turns in short blocks, and ratios are of medians. Only two threads are timed by the clock.
Ratios repeat, microseconds belong to the machine.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from speed import feed, sealed_file, with_int64_ids

from attnrec.cli.bench.timing import take_turns
from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.trace import ITEM_VECTORS, KNOWN, OPSET, export_body
from attnrec.runtime import Recommender
from attnrec.runtime.batch import BATCH
from attnrec.runtime.model_file import format as names
from attnrec.runtime.session import make_session
from attnrec.train import Run
from attnrec.train.models.sasrec import SASRec, SASRecConfig

_K, _LENGTH, _USERS = 10, 50, 256
_SGEMM = 1024  # rows of the square matrices whose product is the floor
Calls = dict[str, Callable[[], Any]]
Result = tuple[float, str, str]
"""Value, unit, target."""


def multiply_adds(config: SASRecConfig, length: int) -> int:
    """What the file needs for the state after a history, in its products of matrices.

    Every block but the last: queries, keys, values, output (4 D^2) and feed-forward (8 D^2) of
    each position, and scores and sums over the older half of T^2. The last block: one position,
    whose queries are taken to the others, so that none of these needs a key or a value.
    """
    dim, heads = config.hidden_dim, config.n_heads
    whole = length * 12 * dim**2 + length * (length + 1) * dim
    last = (10 + 2 * heads) * dim**2 + 2 * heads * length * dim
    return (config.n_blocks - 1) * whole + last


def body_call(model: SASRec) -> Callable[[], Any]:
    """The body alone: vectors of the items in, the state out."""
    g = GraphBuilder()
    vectors = value("v", ir.DataType.FLOAT, ["B", "T", model.config.hidden_dim])
    known = value("n", ir.DataType.BOOL, ["B", "T"])
    outputs = g.inline(export_body(model), {ITEM_VECTORS: vectors, KNOWN: known})
    session = session_of(g, [vectors, known], outputs)
    rows = torch.arange(1, _LENGTH + 1)[None]
    inputs = {
        "v": torch.nn.functional.embedding(rows, model.item_table()).detach().numpy(),
        "n": np.ones((1, _LENGTH), dtype=bool),
    }
    return lambda: session.run(None, inputs)


def product_call() -> Callable[[], Any]:
    """A large product of matrices by the same library: as fast as it multiplies on this core."""
    g = GraphBuilder()
    square = np.random.default_rng(0).random((_SGEMM, _SGEMM), dtype=np.float32)
    left = value("left", ir.DataType.FLOAT, ["M", _SGEMM])
    product = g.MatMul(left, g.initializer("right", square))
    product.type = left.type
    session = session_of(g, [left], [product])
    return lambda: session.run(None, {"left": square})


def value(name: str, kind: ir.DataType, shape: list[Any]) -> ir.Value:
    """An input."""
    return ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(shape))


def session_of(g: GraphBuilder, inputs: list[ir.Value], outputs: list[ir.Value]) -> Any:
    """A session over what was built."""
    tensors = list(g.initializers.values())
    graph = ir.Graph(
        inputs, outputs, nodes=g.nodes, initializers=tensors, opset_imports={"": OPSET}
    )
    model = ir.Model(graph, ir_version=10)
    return make_session(ir.serde.serialize_model(model).SerializeToString())


def medians(calls: Calls, seconds: float) -> dict[str, float]:
    """Microseconds of this thread."""
    taken = take_turns(calls, seconds, clock=time.thread_time_ns)
    return {name: float(np.median(us)) for name, us in taken.items()}


def body(run: Run, seconds: float) -> dict[str, Result]:
    """The body beside the multiply-adds that it needs, at the speed of a large product."""
    calls: Calls = {"sgemm": product_call()}
    configs = {dim: replace(run.model.config, hidden_dim=dim, max_len=50) for dim in (64, 128)}
    for dim, config in configs.items():
        torch.manual_seed(0)
        calls[str(dim)] = body_call(SASRec(config).eval())
    taken = medians(calls, seconds)
    per_us = _SGEMM**3 / taken["sgemm"]
    found: dict[str, Result] = {"sgemm": (2e-3 * per_us, "GFLOP/s", "")}
    for (dim, config), target in zip(configs.items(), (3.0, 1.7), strict=True):
        floor = multiply_adds(config, _LENGTH) / per_us
        found[f"body d={dim}"] = (taken[str(dim)], "us", "")
        found[f"body d={dim}, floor"] = (floor, "us", "")
        found[f"body d={dim} / floor"] = (taken[str(dim)] / floor, "", f"<= {target}")
    return found


def one_request(runs: dict[str, Run], seconds: float) -> dict[str, Result]:
    """A list in, an answer out, beside the session alone with its arrays ready."""
    calls: Calls = {}
    for kind, run in runs.items():
        session = make_session(sealed_file(run))
        recommender = Recommender.from_session(session)
        ids = history_ids(run)
        inputs, history = feed(ids, kind), ids.tolist()
        calls[f"{kind}, run"] = lambda session=session, inputs=inputs: session.run(None, inputs)
        calls[f"{kind}, recommend"] = lambda ask=recommender.recommend, ids=history: ask(ids, _K)
    taken = medians(calls, seconds)
    found: dict[str, Result] = {name: (us, "us", "") for name, us in taken.items()}
    for kind, target in (("int64", 20), ("string", 30)):
        added = taken[f"{kind}, recommend"] - taken[f"{kind}, run"]
        found[f"{kind}, recommend - run"] = (added, "us", f"<= {target}")
    return found


def history_ids(run: Run) -> np.ndarray:
    """Distinct ids of the catalogue."""
    rows = np.random.default_rng(1).permutation(run.split.catalogue.n_items)[:_LENGTH]
    ids: np.ndarray = run.split.catalogue.item_ids[rows]
    return ids


def many_histories(run: Run, *, ragged: bool) -> np.ndarray:
    """(users, length); ragged: from 1 event to all, padded at the end."""
    rng = np.random.default_rng(2)
    catalogue = run.split.catalogue.item_ids
    ids: np.ndarray = catalogue[rng.integers(len(catalogue), size=(_USERS, _LENGTH))]
    if ragged:
        lengths = rng.integers(1, _LENGTH + 1, size=_USERS)
        ids[np.arange(_LENGTH) >= lengths[:, None]] = names.PADDING["int64"]
    return ids


def batches(run: Run, seconds: float) -> dict[str, Result]:
    """Many histories, as lists, beside the session alone with the arrays of all or of batches."""
    session = make_session(sealed_file(run))
    recommender = Recommender.from_session(session)
    calls: Calls = {}
    for kind, ragged in (("equal", False), ("ragged", True)):
        ids = many_histories(run, ragged=ragged)
        lists = [[i for i in row if i != names.PADDING["int64"]] for row in ids.tolist()]
        ordered = ids[np.argsort([len(row) for row in lists], kind="stable")]
        grouped = [batch_feed(ordered[at : at + BATCH]) for at in range(0, _USERS, BATCH)]
        whole = batch_feed(ids)
        calls[f"{kind}, run at once"] = lambda whole=whole: session.run(None, whole)
        calls[f"{kind}, run by length"] = lambda all_=grouped: [session.run(None, i) for i in all_]
        calls[f"{kind}, recommend_batch"] = lambda lists=lists: recommender.recommend_batch(lists)
    taken = medians(calls, seconds)
    found: dict[str, Result] = {
        f"{_USERS} {name}": (us / _USERS, "us a user", "") for name, us in taken.items()
    }
    for kind in ("equal", "ragged"):
        ours = taken[f"{kind}, recommend_batch"]
        found[f"{kind}, recommend_batch / run at once"] = (
            ours / taken[f"{kind}, run at once"], "", "<= 1.03",
        )  # fmt: skip
        found[f"{kind}, recommend_batch / run by length"] = (
            ours / taken[f"{kind}, run by length"], "", "<= 1.03",
        )  # fmt: skip
    return found


def batch_feed(ids: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs for rows of ids, without columns that are padding alone."""
    own = ids[:, : max((ids != names.PADDING["int64"]).sum(axis=1))]
    return {
        names.HISTORY: own, names.EXCLUDE: own, names.CANDIDATES: own[:, :0],
        names.K: np.array([_K]),
    }  # fmt: skip


def threads(run: Run, seconds: float) -> dict[str, Result]:
    """Answers a second of one thread and of two that share a Recommender, by the clock."""
    recommender = Recommender.from_session(make_session(sealed_file(run)))
    histories = cycle(many_histories(run, ragged=False).tolist())

    def some(_: int) -> None:
        for _ in range(64):
            recommender.recommend(next(histories), _K)

    pool = ThreadPoolExecutor(2)
    calls: Calls = {"1": lambda: some(0), "2": lambda: list(pool.map(some, range(2)))}
    # The quickest tenth: in the rest others had one of the cores.
    taken = {name: np.percentile(us, 10) for name, us in take_turns(calls, seconds).items()}
    rates = {name: int(name) * 64e6 / us for name, us in taken.items()}
    return {
        "one thread": (rates["1"], "a second", ""),
        "two threads": (rates["2"], "a second", ""),
        "two threads / one": (rates["2"] / rates["1"], "", ">= 1.8"),
    }


def table(found: dict[str, Result]) -> Sequence[str]:
    """A line for each figure."""
    lines = []
    for name, (value, unit, target) in found.items():
        shown = f"{value:10.3f}" if not unit else f"{value:10.1f}"
        lines.append(f"{name:40} {shown} {unit:10} {target and f'target {target}'}".rstrip())
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory of sasrec, from attnrec-train")
    parser.add_argument("--seconds", type=float, default=6, help="of each of four comparisons")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run.load(arguments.run)
    int64 = with_int64_ids(run)
    strings = run.split.catalogue.item_ids.astype(str).astype(object)
    string = replace(
        run, split=replace(run.split, catalogue=replace(run.split.catalogue, item_ids=strings))
    )
    found = {
        **body(run, arguments.seconds),
        **one_request({"int64": int64, "string": string}, arguments.seconds),
        **batches(int64, arguments.seconds),
        **threads(int64, arguments.seconds),
    }
    print(json.dumps(found) if arguments.json else "\n".join(table(found)))


if __name__ == "__main__":
    main()

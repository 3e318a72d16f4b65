"""What rules cost: latency of filters, boosts and slates, and what a scan finds under filters.

    python benchmarks/rules.py --items 12000 100000 1000000

The catalogues are those of benchmarks/scale.py, under an untrained `sasrec`. Tags are synthetic: a
brand (one of 990), a share of all items (half, a twentieth, a hundredth, a two-hundredth), and a
price. Processor time of one thread; cases take turns, medians after 50 events, as a ratio to the
same request without rules in the same run. found@10: share of the best 10 by exact scores of the
same vectors, which candidates get, that a file that scans codes returns under a filter, of 200
requests. With --file FILE: the requests of a real model file.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scale import any_run, of_size

from attnrec.export import item_rules
from attnrec.export.build import FileBuilder
from attnrec.runtime import Recommender
from attnrec.runtime.model_file.format import LONGEST
from attnrec.train import Run

SHARES = (0.5, 0.05, 0.01, 0.005)
HISTORY, ASKED = 50, 200


def tagged(run: Run) -> Run:
    """The run with tags and a price for its items."""
    rng = np.random.default_rng(4)
    n_items = run.split.catalogue.n_items
    tags = [[f"brand:b{brand}"] for brand in rng.integers(0, 990, n_items)]
    for share in SHARES:
        for row in np.flatnonzero(rng.random(n_items) < share):
            tags[row].append(f"share:{share:g}")
    attributes = np.empty(n_items, object)
    attributes[:] = [tuple(own) for own in tags]
    numbers = {"price": rng.integers(1, 100, n_items).astype(float)}
    catalogue = replace(run.split.catalogue, attributes=attributes, numbers=numbers)
    data = {**run.data, "item_columns": {"attributes": ["brand", "share"]}}
    return replace(run, data=data, split=replace(run.split, catalogue=catalogue))


def cases_of(recommender: Recommender) -> dict[str, dict[str, Any]]:
    """Rules of a request, by what they are called in the table."""
    tags = recommender.info.rules["tags"]
    column = "brand" if "brand" in tags else next(iter(tags))
    some = [f"{column}:{value}" for value, n in tags[column].items() if n >= 12][:4]
    cases: dict[str, dict[str, Any]] = {
        "none": {},
        "two filters": {"require_all": some[:1], "forbid": some[1:2]},
        "two of a column": {"require_any": some[:2]},
        "a boost": {"boost": {some[0]: 1.0}},
        "a slate, diversity 0.3": {"diversity": 0.3},
        "a cap": {"max_per": {column: 2}},
    }
    if recommender.info.rules["numbers"]:
        (name, (_, high)), *_ = recommender.info.rules["numbers"].items()
        cases["a bound"] = {"at_most": {name: high / 2}}
    for share in SHARES:
        if f"{share:g}" in tags.get("share", {}):
            cases[f"keeps {share:.1%}"] = {"require_all": [f"share:{share:g}"]}
    return cases


def medians(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median microseconds of each call, taken in turn."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    began = time.monotonic()
    while time.monotonic() - began < seconds or len(spent["none"]) < 20:
        for name, call in calls.items():
            start = time.thread_time()
            call()
            spent[name].append(time.thread_time() - start)
    return {name: 1e6 * float(np.median(own)) for name, own in spent.items()}


def latency(recommender: Recommender, seconds: float) -> dict[str, float]:
    """Of each case."""
    ids = [*recommender.items()]
    history = [ids[i] for i in np.random.default_rng(5).integers(len(ids), size=HISTORY)]
    calls: dict[str, Callable[[], object]] = {
        name: lambda rules=rules: recommender.recommend(history, **rules)
        for name, rules in cases_of(recommender).items()
    }
    return medians(calls, seconds)


def found(recommender: Recommender, run: Run, share: float) -> float:
    """Mean share of the best 10 of what a filter keeps, as candidates, in the filtered best 10."""
    tag, catalogue = f"share:{share:g}", run.split.catalogue
    assert catalogue.attributes is not None
    has_tag = np.array([tag in own for own in catalogue.attributes])
    ids, kept = catalogue.item_ids, catalogue.item_ids[has_tag]
    rng, shares = np.random.default_rng(6), []
    for _ in range(ASKED):
        history = ids[rng.integers(len(ids), size=5)]
        exact = recommender.recommend(history, candidates=kept).item_ids
        ruled = recommender.recommend(history, require_all=[tag]).item_ids
        shares.append(len({*exact} & {*ruled}) / max(1, len(exact)))
    return float(np.mean(shares))


def show(name: str, spent: dict[str, float]) -> None:
    """Rows of the table."""
    for case, own in spent.items():
        print(f"| {name} | {case} | {own:,.0f} | {own / spent['none']:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="*", default=[12_000, 100_000, 1_000_000])
    parser.add_argument("--file", type=Path, help="a model file whose items have tags")
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    item_rules._boost_unit = lambda run: 1.0  # of an untrained model it says nothing
    print("| file | rules | us | of none |\n|---|---|--:|--:|", flush=True)
    if given.file is not None:
        show(given.file.name, latency(Recommender.load(given.file), given.seconds))
    with tempfile.TemporaryDirectory() as folder:
        small = any_run(Path(folder))
        for n_items in given.items:
            run = tagged(of_size(small, n_items, 128, "int64"))
            builder = FileBuilder(run, item_rules.rules_of(run))
            path = Path(folder) / "int8.onnx"
            path.write_bytes(builder.of("int8").file)
            file, name = Recommender.load(path), f"{n_items:,} items, int8"
            show(name, latency(file, given.seconds))
            for share in SHARES:
                if share * n_items < LONGEST:
                    recall = found(file, run, share)
                    print(f"| {name} | found@10, keeps {share:.1%} | {recall:.4f} | |", flush=True)


if __name__ == "__main__":
    main()

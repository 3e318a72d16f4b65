"""How files behave as the catalogue grows: latency, memory, load time, size, by profile.

    python benchmarks/scale.py --items 3000 100000 1000000 --dim 128 --plot scale.png

The catalogues are made up: item vectors of 200 clusters with a decaying spectrum, under an
untrained `sasrec` of 2 blocks, for times and memory; what rounding does to a trained model is
measured by `attnrec-export`. Overlap here is of these made-up vectors. One thread; the files of
one catalogue take turns in one process, medians of an answer after 50 events; load and memory are
of fresh processes.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from attnrec.cli.bench.timing import Subject, cold_starts, take_turns
from attnrec.export.build import PROFILES, FileBuilder, profiles_of
from attnrec.runtime import Recommender
from attnrec.train import Run, TrainConfig, train
from attnrec.train.models.sasrec_recency import RecencyConfig, RecencySASRec

_HISTORY = 50
_CLUSTERS = 200
_ASKED = 200  # histories for overlap


def any_run(folder: Path) -> Run:
    """A run of a small log, whose model and catalogue are replaced."""
    rng = np.random.default_rng(0)
    rows = [
        (user, int(item), at)
        for user in range(60)
        for at, item in enumerate(rng.integers(1, 40, 30))
    ]
    log = folder / "log.csv"
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(log, index=False)
    config = TrainConfig("sasrec", settings={"hidden_dim": 16}, epochs=1)
    return train(log, config, out=folder / "run")


def vectors(n_items: int, dim: int) -> np.ndarray:
    """Clusters, a decaying spectrum, noise, turned at random: (N + 1, D)."""
    rng = np.random.default_rng(1)
    spectrum = (1 + np.arange(dim)) ** -0.5
    centres = rng.normal(size=(_CLUSTERS, dim)) * spectrum
    turn, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    own = centres[rng.integers(_CLUSTERS, size=n_items + 1)]
    made = (own + 0.5 * spectrum * rng.normal(size=own.shape)) @ turn
    return made.astype(np.float32)


def of_size(run: Run, n_items: int, dim: int, id_type: str) -> Run:
    """The same run over a larger catalogue."""
    torch.manual_seed(0)
    config = RecencyConfig(n_items, hidden_dim=dim, max_len=_HISTORY)
    model = RecencySASRec(config).eval()
    with torch.no_grad():
        model.item_embedding.weight.copy_(torch.from_numpy(vectors(n_items, dim)))
    ids = np.random.default_rng(2).permutation(10 * n_items)[:n_items].astype(np.int64)
    if id_type == "string":
        ids = np.array([f"sku-{item}" for item in ids], dtype=object)
    counts = np.ones(n_items, dtype=np.int64)
    catalogue = replace(run.split.catalogue, item_ids=ids, n_events=counts, titles=None)
    return replace(run, model=model, split=replace(run.split, catalogue=catalogue))


def overlap(exact: Recommender, other: Recommender, subject: Subject) -> float:
    """Mean share of the exact top 10 in the other top 10."""
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(_ASKED):
        history = [subject.item_ids[i] for i in rng.integers(len(subject.item_ids), size=5)]
        lists = [set(r.recommend(history, 10).item_ids) for r in (exact, other)]
        shares.append(len(lists[0] & lists[1]) / 10)
    return float(np.mean(shares))


def measured(run: Run, folder: Path, profiles: list[str], seconds: float) -> list[dict[str, Any]]:
    """A row for each profile of one catalogue."""
    drafts, files = FileBuilder(run), {}
    profiles = [profile for profile in profiles_of(run) if profile in profiles]
    for profile in profiles:
        files[profile] = folder / f"{profile}.onnx"
        draft = drafts.of(profile)
        files[profile].write_bytes(draft.file)
    subjects = {profile: Subject.of_file(file) for profile, file in files.items()}
    starts = cold_starts(list(subjects.values()), seconds=0)
    calls: dict[tuple[str, str], Any] = {}
    for profile, subject in subjects.items():
        calls[profile, "all"] = subject.call(_HISTORY, 1)
        recommender = Recommender.load(files[profile], n_threads=1)
        few, history = subject.item_ids[:100], subject.item_ids[100 : 100 + _HISTORY]
        calls[profile, "100 candidates"] = lambda r=recommender, h=history, f=few: r.recommend(
            h, candidates=f
        )
    taken = take_turns(calls, seconds * len(calls))
    exact = Recommender.load(files["fp32"])
    return [
        {
            "n_items": run.split.catalogue.n_items,
            "profile": profile,
            "us": float(np.median(taken[profile, "all"])),
            "us_100_candidates": float(np.median(taken[profile, "100 candidates"])),
            "file_mb": files[profile].stat().st_size / 1e6,
            "load_ms": start["load_ms"],
            "memory_mb": start["answer_mb"],
            "grown_mb": (start["answer_mb"] or 0) - (start["imports_mb"] or 0),
            "pages_mb": start.get("pages_mb") or 0,
            "overlap@10": overlap(exact, Recommender.load(files[profile]), subjects[profile]),
        }
        for profile, start in zip(profiles, starts, strict=True)
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, times as shares of fp32 beside them."""
    lines = [
        "| items | profile | an answer, us | of fp32 | 100 candidates, us | file MB | of fp32 "
        "| load ms | memory grown MB | of it pages of files | the rest / file | overlap@10 |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        exact = next(r for r in rows if r["n_items"] == row["n_items"] and r["profile"] == "fp32")
        lines.append(
            f"| {row['n_items']:,} | {row['profile']} | {row['us']:,.0f} "
            f"| {row['us'] / exact['us']:.2f} | {row['us_100_candidates']:,.0f} "
            f"| {row['file_mb']:,.1f} | {row['file_mb'] / exact['file_mb']:.3f} "
            f"| {row['load_ms']:,.0f} | {row['grown_mb']:,.0f} "
            f"| {row['pages_mb']:,.0f} "
            f"| {(row['grown_mb'] - row['pages_mb']) / row['file_mb']:.2f} "
            f"| {row['overlap@10']:.4f} |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Latency, memory and file over the size of the catalogue, a line for each profile."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    kinds = {"us": "an answer, us", "file_mb": "file, MB", "grown_mb": "memory grown, MB"}
    for axes, (kind, title) in zip(figure.subplots(1, 3), kinds.items(), strict=True):
        for profile in dict.fromkeys(row["profile"] for row in rows):
            own = [row for row in rows if row["profile"] == profile]
            axes.loglog([r["n_items"] for r in own], [r[kind] for r in own], "o-", label=profile)
        axes.set_title(title)
        axes.set_xlabel("items")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[3000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES))
    parser.add_argument("--ids", choices=["int64", "string"], default="int64")
    parser.add_argument("--seconds", type=float, default=4, help="of timing, for one kind of call")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        small = any_run(Path(folder))
        for n_items in arguments.items:
            run = of_size(small, n_items, arguments.dim, arguments.ids)
            rows += measured(run, Path(folder), arguments.profiles, arguments.seconds)
            print(table(rows), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.plot:
        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()

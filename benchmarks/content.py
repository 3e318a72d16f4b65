"""What descriptions of items bring, to quality, new items and short histories, and what they cost.

    python benchmarks/content.py --data DIR --work FOLDER --out benchmarks/content.jsonl

DIR holds the folders of the logs; the other log comes with attnrec. Every log is trained once with
the default and its items, and asked for the last event of every user, from the exported file: with
and without the expert that compares descriptions, which is chosen after everything else. The same
for histories cut to their newest events. --cold: a tenth of the items is left out of a second
training, and comes back with `Run.with_catalog`. --later: a training before a cut in time, and the
items that appear only after it come with `Run.with_catalog`: how often they are shown, and how
often they are taken. A run that is there already is not trained again.
Prints tables.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attnrec.export import export
from attnrec.runtime import Recommender
from attnrec.train import DataRecipe, Run, TimeSplit, TrainConfig, evaluate_answers, train
from attnrec.train.data.online_retail import online_retail
from attnrec.train.splits.config import SplitBy
from attnrec.train.splits.held_out import HeldOut

WORDS = DataRecipe(title_col="", text_cols=("words",), attribute_cols=("attribute_names",))
LOGS = {
    "online-retail": DataRecipe(),
    "amazon-beauty-titles": DataRecipe(),
    "amazon-beauty": WORDS,
    "amazon-sports": WORDS,
    "steam": DataRecipe(),
    "ml-1m": DataRecipe(attribute_cols=("genres",)),
}
LENGTHS = (0, 1, 2, 5, 10)
DISCOUNTS = 1 / np.log2(np.arange(2, 12))


def tables(log: str, data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The log and its items."""
    if log == "online-retail":
        events, titles = online_retail()
        return pd.read_parquet(events), pd.read_parquet(titles)
    items = pd.read_csv(data / log / "items.csv.gz")
    words = data / log / "gram_text_tokens.csv.gz"
    if words.exists():
        tokens = pd.read_csv(words).rename(columns={"t5_tokens": "words"})
        items = items.merge(tokens.assign(words=tokens["words"].str.replace("_", "")), "left")
    return pd.read_csv(data / log / "interactions.csv.gz"), items


def trained(
    events: pd.DataFrame,
    items: pd.DataFrame,
    recipe: DataRecipe,
    seed: int,
    out: Path,
    split: SplitBy = "leave-one-out",
) -> Run:
    """The default with its items, gone on with where it was stopped."""
    if out.exists():
        return Run.load(out)
    config = TrainConfig(seed=seed, threads=1, split=split)
    resume = Path(f"{out}.unfinished").exists()
    return train(events, config, items=items, recipe=recipe, out=out, resume=resume)


def without_content(run: Run) -> Run:
    """The same run as it is before content is chosen."""
    model: Any = copy.deepcopy(run.model)
    if model.config.content:
        model.counts.leave_out_content()
        model.config = model.counts.config
    return replace(run, model=model)


def figures(answers: Recommender, run: Run, held_out: HeldOut) -> list[float]:
    """NDCG@10 and HitRate@10."""
    ids, is_new = run.split.catalogue.item_ids, not run.recipe.repeats
    found = evaluate_answers(answers, held_out, ids, exclude_seen=is_new, inputs=run.model.inputs)
    return [round(found.values[name], 5) for name in ("ndcg@10", "hit_rate@10")]


def cut(held_out: HeldOut, length: int) -> HeldOut:
    """The newest events of every history alone."""
    newest = slice(-length, None) if length else slice(0, 0)
    histories = [history[newest] for history in held_out.histories]
    return replace(
        held_out, histories=histories, timestamps=[t[newest] for t in held_out.timestamps]
    )


def microseconds(calls: Sequence[Callable[..., object]], rounds: int = 400) -> list[float]:
    """Median time of each call, taken in turn."""
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, own in zip(calls, spent, strict=True):
            began = time.perf_counter()
            call()
            own.append(time.perf_counter() - began)
    return [round(1e6 * float(np.median(own)), 1) for own in spent]


def warm(run: Run) -> dict[str, Any]:
    """Figures with and without content, and what it costs in a file of 8 bits."""
    asked, found = run.split.held_out("test"), dict[str, Any]()
    calls, sizes = [], []
    for name, one in (("with", run), ("without", without_content(run))):
        file = run.directory / f"{name}.onnx"
        began = time.monotonic()
        export(one, file)
        found[f"{name}_export_s"] = round(time.monotonic() - began, 1)
        exact = Recommender.load(file)
        found[name] = figures(exact, run, asked)
        found[f"{name}_by_length"] = {n: figures(exact, run, cut(asked, n))[0] for n in LENGTHS}
        export(one, file, "int8")
        sizes.append(file.stat().st_size)
        small, history = Recommender.load(file, n_threads=1), run.split.catalogue.item_ids[:50]
        calls.append(lambda small=small, history=history: small.recommend(history, k=10))
    settings: Any = run.model.config
    return {
        **found,
        "valid": run.metrics.valid["ndcg@10"],
        "content": [settings.content_weight, settings.content_decay],
        "int8_bytes": sizes,
        "microseconds_50_events": microseconds(calls),
    }


def cold(
    events: pd.DataFrame, items: pd.DataFrame, recipe: DataRecipe, full: Run, seed: int, out: Path
) -> dict[str, Any]:
    """A tenth of the items comes only after the training."""
    ids = full.split.catalogue.item_ids
    new = np.random.default_rng(seed).choice(ids, len(ids) // 10, replace=False)
    item_id = pd.Index(events[recipe.item_col])
    run = trained(events[~item_id.isin(new)], items, recipe, seed, out)
    known = pd.concat([pd.Series(run.split.catalogue.item_ids), pd.Series(new)])
    mixed = run.with_catalog(items[items[recipe.item_col].isin(known)])
    content = train(events, TrainConfig("content-based"), items=items, recipe=recipe,
                    out=out.with_name(out.name + "-content"), resume=False)  # fmt: skip
    files = {}
    for name, one in (("trained", run), ("mixed", mixed), ("content-based", content)):
        export(one, run.directory / f"{name}.onnx")
        files[name] = Recommender.load(run.directory / f"{name}.onnx")
    asked = full.split.held_out("test")
    is_new = np.isin(asked.targets, new)
    old, fresh = (chosen(asked, np.flatnonzero(mask)) for mask in (~is_new, is_new))
    among = {"among cold": new.tolist()}
    return {
        "n_cold": len(new),
        "catalogue": dict(mixed.metrics.catalogue or {}),
        "warm_trained": ndcg(files["trained"], old)[0],
        "warm_mixed": ndcg(files["mixed"], old)[0],
        "cold_mixed": ndcg(files["mixed"], fresh)[0],
        "share_of_lists": ndcg(files["mixed"], asked, new=new)[1],
        "share_of_targets": round(float(is_new.mean()), 4),
        "cold_among_cold": ndcg(files["mixed"], fresh, among["among cold"])[0],
        "content_based": ndcg(files["content-based"], fresh, among["among cold"])[0],
        "random": round(float(DISCOUNTS.sum() / len(new)), 4),
    }


def later(
    events: pd.DataFrame, items: pd.DataFrame, recipe: DataRecipe, seed: int, out: Path
) -> dict[str, Any]:
    """What appears after a cut in time: among the targets of 60 days, and in the lists."""
    run = trained(events, items, recipe, seed, out, TimeSplit(test_days=60, valid_days=60))
    mixed = run.with_catalog(items[items[recipe.item_col].isin(run.split.interactions.item_ids)])
    asked = run.split.held_out("test")
    trained_ids = run.split.catalogue.item_ids
    new = mixed.split.catalogue.item_ids
    new = new[~np.isin(new, trained_ids)]
    found: dict[str, Any] = {"n_new": len(new), "catalogue": dict(mixed.metrics.catalogue or {})}
    found["share_of_targets"] = round(float(np.isin(asked.targets, new).mean()), 4)
    for name, one in (("trained", run), ("mixed", mixed)):
        export(one, run.directory / f"{name}.onnx")
        file = Recommender.load(run.directory / f"{name}.onnx")
        found[name] = figures(file, one, asked)
        lists = file.recommend_batch(asked.histories, k=10)
        n_new = sum(int(np.isin(answer.item_ids, new).sum()) for answer in lists)
        found[f"{name}_share_of_lists"] = round(n_new / (10 * len(lists)), 4)
    return found


def chosen(held_out: HeldOut, users: np.ndarray) -> HeldOut:
    """Some users of those with one target each."""
    return replace(
        held_out,
        histories=[held_out.histories[u] for u in users],
        targets=held_out.targets[users],
        users=held_out.users[users],
    )


def ndcg(
    file: Recommender, asked: HeldOut, candidates: Any = None, new: Any = None
) -> tuple[float, float]:
    """NDCG@10, and which share of the lists is of `new`."""
    gains, n_new, n_listed = 0.0, 0, 0
    for history, target in zip(asked.histories, asked.targets.tolist(), strict=True):
        given = {} if candidates is None else {"candidates": candidates}
        found = file.recommend(history, k=10, exclude=history, **given).item_ids
        gains += DISCOUNTS[found.index(target)] if target in found else 0
        if new is not None:
            n_new, n_listed = n_new + int(np.isin(found, new).sum()), n_listed + len(found)
    share = round(n_new / n_listed, 4) if n_listed else 0.0
    return round(gains / max(1, len(asked.histories)), 5), share


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| log | with | without | int8 file | time, 50 events | cold among cold | `content-based` "
        "| warm, 10 % new | cold in all | of lists, of targets |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in results:
        pair = [f"{r[name][0]:.4f} / {r[name][1]:.4f}" for name in ("with", "without")]
        size, spent = (a / b for a, b in (r["int8_bytes"], r["microseconds_50_events"]))
        cells = [r["log"], *pair, f"{size:.2f}", f"{spent:.2f}"]
        if c := r.get("cold"):
            cells += [f"{c[n]:.4f}" for n in ("cold_among_cold", "content_based")]
            cells += [f"{c['warm_mixed'] / c['warm_trained'] - 1:+.1%}", f"{c['cold_mixed']:.4f}"]
            cells.append(f"{c['share_of_lists']:.1%}, {c['share_of_targets']:.1%}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the logs")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--logs", nargs="+", default=[*LOGS], choices=LOGS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cold", action="store_true", help="train a second time, for new items")
    parser.add_argument("--later", action="store_true", help="train once before a cut in time")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    given = parser.parse_args()
    given.work.mkdir(exist_ok=True)
    old = given.out.read_text().splitlines() if given.out.exists() else []
    results = [json.loads(line) for line in old]
    for log in given.logs:
        events, items = tables(log, given.data)
        recipe, out = LOGS[log], given.work / f"{log}-{given.seed}"
        run = trained(events, items, recipe, given.seed, out)
        found = {"log": log, "seed": given.seed, **warm(run)}
        if given.cold:
            found["cold"] = cold(
                events, items, recipe, run, given.seed, out.with_name(out.name + "-cold")
            )
        if given.later:
            found["later"] = later(
                events, items, recipe, given.seed, out.with_name(out.name + "-later")
            )
        results = [r for r in results if (r["log"], r["seed"]) != (log, given.seed)]
        results.append(found)
        given.out.write_text("".join(json.dumps(r) + "\n" for r in results))
        print(table(results), flush=True)


if __name__ == "__main__":
    main()

"""Whether explanations hold: what happens to an item when the events go that it is credited to.

    python benchmarks/explanations.py run/model.onnx other-run/model.onnx --plot explanations.png

For 500 users, the first recommendation after everything but the last event. From the history go
the 1 to 5 events most credited by `explain`, the newest ones, those with the most attention, and
any ones; then the place of that item in the whole catalogue is looked up again. "One by one": the
most credited event goes, then what is left is explained anew. What was in the history is never a
competitor. An explanation that holds hurts the item more than the others do.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnrec.runtime import Explanation, Recommender
from attnrec.train.evaluation.files import divide_fairly, fair_targets, log_to_evaluate
from attnrec.train.evaluation.metrics import bootstrap_intervals

_DEPTHS = range(1, 6)
_COMPARED_AT = 3
_RNG = np.random.default_rng(0)

Order = Callable[[Explanation], list[int]]
"""Places of the events of a history, those to go first first."""


def highest(values: list[float]) -> list[int]:
    return np.argsort(-np.array(values), kind="stable").tolist()


ORDERS: dict[str, Order] = {
    "most credited": lambda why: highest(why.contributions),
    "most attention": lambda why: highest(why.attention or []),
    "newest": lambda why: list(range(len(why.history)))[::-1],
    "any": lambda why: _RNG.permutation(len(why.history)).tolist(),
}
BASES = ("most credited", "one by one")
COLOURS = {
    "one by one": "tab:purple",
    "most credited": "tab:blue",
    "most attention": "tab:orange",
    "newest": "tab:green",
    "any": "tab:gray",
}


def sampled_histories(path: Path, recommender: Recommender, data: Path | None, n: int) -> Any:
    """Histories before the last event, with more events than are taken away."""
    info = recommender.info
    log = log_to_evaluate(path, info, data)
    held_out = fair_targets(divide_fairly(path, info, log, None), "test")
    long_enough = [h.tolist() for h in held_out.histories if len(h) > max(_DEPTHS)]
    # What is too old to count could stand in for what is taken away: the newest are all there is.
    chosen = np.random.default_rng(0).permutation(len(long_enough))[:n]
    return [long_enough[i][-info.max_len :] for i in chosen]


def one_by_one(recommender: Recommender, why: Explanation) -> list[int]:
    """The most credited event of what is left, again and again."""
    left, gone = list(range(len(why.history))), list[int]()
    for _ in _DEPTHS:
        worst = highest(why.contributions)[0]
        gone.append(left.pop(worst))
        history = [why.history[i] for i in range(len(why.history)) if i != worst]
        why = recommender.explain(history, why.item_id)
    return gone


def ranks_of(
    recommender: Recommender, items: list[Any], histories: list[Any], seen: list[Any]
) -> NDArray[np.float64]:
    """Place of each item after its history, from 1."""
    ranks = []
    for start in range(0, len(items), 64):
        part = slice(start, start + 64)
        answers = recommender.recommend_batch(
            histories[part], recommender.info.n_items, exclude=seen[part], exclude_seen=False
        )
        ranks += [a.item_ids.index(i) + 1 for a, i in zip(answers, items[part], strict=True)]
    return np.array(ranks, dtype=float)


def deletion_curves(path: Path, data: Path | None, n: int) -> dict[str, NDArray[np.float64]]:
    """Rank of the item of each user after 0 to 5 deletions, (6, n_users), by order."""
    recommender = Recommender.load(path)
    seen = sampled_histories(path, recommender, data, n)
    items = [answer.item_ids[0] for answer in recommender.recommend_batch(seen, 1)]
    reasons = [recommender.explain(h, item) for h, item in zip(seen, items, strict=True)]
    orders_of: dict[str, Order] = {
        "one by one": lambda why: one_by_one(recommender, why),
        **ORDERS,
    }
    if not recommender.info.has_attention:
        del orders_of["most attention"]
    curves = {}
    for name, order in orders_of.items():
        orders = [order(why) for why in reasons]
        ranks = [ranks_of(recommender, items, seen, seen)]
        for depth in _DEPTHS:
            left = [
                [event for place, event in enumerate(h) if place not in gone[:depth]]
                for h, gone in zip(seen, orders, strict=True)
            ]
            ranks.append(ranks_of(recommender, items, left, seen))
        curves[name] = np.stack(ranks)
    return curves


def figures_of(curves: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Means; and by how much credited events hurt more than others, with paired 95 % intervals."""
    found: dict[str, Any] = {"users": len(curves["any"][0])}
    for name, ranks in curves.items():
        found[name] = {
            "mean_rank": ranks.mean(axis=1).round(2).tolist(),
            "median_rank": np.median(ranks, axis=1).tolist(),
            "mean_reciprocal_rank": (1 / ranks).mean(axis=1).round(4).tolist(),
        }
        for base in (base for base in BASES if base != name):
            own, credited = ranks[_COMPARED_AT], curves[base][_COMPARED_AT]
            gains = {"rank": credited - own, "reciprocal_rank": 1 / credited - 1 / own}
            found[name][base] = {
                key: [round(float(x), 4) for x in (gains[key].mean(), *interval)]
                for key, interval in bootstrap_intervals(gains).items()
            }
    return found


def draw(files: dict[str, dict[str, Any]], path: Path) -> None:
    """Mean rank by the number of events gone, a panel for each file."""
    figure = Figure(figsize=(3.2 * len(files), 2.9), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(files), sharey=True))
    for panel, (title, figures) in zip(panels, files.items(), strict=True):
        for name in COLOURS:
            if name in figures:
                values = figures[name]["mean_rank"]
                panel.plot(values, "o-", markersize=3, color=COLOURS[name], label=name)
        panel.set(title=title, xlabel="events taken away")
    panels[0].set_ylabel("mean rank of the item")
    panels[0].set_ylim(bottom=0)  # of all of them
    # The panel with the most lines knows all of them.
    max(panels, key=lambda one: len(one.lines)).legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def show(title: str, figures: dict[str, Any]) -> None:
    print(f"{title}: {figures['users']} users, {_COMPARED_AT} events taken away")
    head = "".join(f"  {f'ranks further by {base}':33}" for base in BASES)
    print(f"  {'':15} {'mean rank':>9} {'median':>7} {'MRR':>6}{head}")
    for name in (name for name in COLOURS if name in figures):
        row, beyond = figures[name], ""
        for base in BASES:
            mean, low, high = row.get(base, {}).get("rank", (0, 0, 0))
            beyond += f"  {f'{mean:+.1f} [{low:+.1f}, {high:+.1f}]' if base != name else '':33}"
        at = [row[key][_COMPARED_AT] for key in ("mean_rank", "median_rank")]
        mrr = row["mean_reciprocal_rank"][_COMPARED_AT]
        print(f"  {name:15} {at[0]:9.1f} {at[1]:7.0f} {mrr:6.3f}{beyond}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "files", type=Path, nargs="+", help="model files, in their run directories"
    )
    parser.add_argument("--data", type=Path, help="the log; default: that of the run directory")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, help="a .png to draw")
    arguments = parser.parse_args()
    found = {}
    for path in arguments.files:
        title = Recommender.load(path).info.model
        found[title] = figures_of(deletion_curves(path, arguments.data, arguments.users))
        if not arguments.json:
            show(title, found[title])
    if arguments.json:
        print(json.dumps(found))
    if arguments.plot is not None:
        draw(found, arguments.plot)


if __name__ == "__main__":
    main()

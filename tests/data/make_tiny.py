"""The small committed model files, and their expected answers.

The logs are synthetic, from a seeded generator. `NAME.expected.json` belongs to `NAME.onnx`: calls
of the public functions with the answers of the torch model itself, not of the file.

    python tests/data/make_tiny.py DIRECTORY    # writes what is missing, replaces nothing

The committed files stay as they are: a file of format 1 must be answered from for ever.
"""

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attnrec.export import Limits, export
from attnrec.export.build import GraphParts
from attnrec.export.graph import top_k
from attnrec.export.item_rules import rules_of
from attnrec.export.parity.rule_reference import RuleReference
from attnrec.export.quantize import item_vectors
from attnrec.runtime.model_file.format import CALLER_INPUTS
from attnrec.runtime.rules import Rules
from attnrec.runtime.side_inputs import SideInputs
from attnrec.train.data.recipe import DataRecipe
from attnrec.train.evaluation.torch_recommender import TorchRecommender, top_rows
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.runs.run import Run
from attnrec.train.runs.train import train

Id = int | str

AWKWARD = [
    "00123", "123", "NA", "null", "None", "nan", "-1", "é", "e\u0301", "a,b", 'say "hi"',
    "🛒", "👩‍🍳", " padded ", "tab\there", "line\nbreak", "товар", "商品", "ID", "id",
]  # fmt: skip
STRING_IDS: list[Id] = [*AWKWARD, *(f"sku-{n}" for n in range(12))]
# Beyond 2^53 two neighbours are one number for everything that computes in float64.
INT64_IDS: list[Id] = [
    0, 1, -2, -7, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), *range(100, 121)
]  # fmt: skip
KINDS, COLOURS = ("mug", "a:b", "чай ☕"), ("red", "blue", "green")
TAGS = ["gold", "шахматы", "a,b"]
SASREC = {"hidden_dim": 16, "n_blocks": 1, "max_len": 6}


@dataclass(frozen=True)
class Tiny:
    """One file to make."""

    name: str
    """Name of the file, without its ending."""
    ids: list[Id]
    """The catalogue."""
    model: str = "sasrec"
    """Name in the registry of models."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the model."""
    titles: bool = False
    """Whether items have titles; every fifth has none all the same."""
    repeats: bool = False
    """The policy of the run."""
    profile: str = "fp32"
    """Of the file."""
    scanned_from: int = item_vectors.SCANNED_FROM
    """Catalogue size from which on codes are scanned."""
    top_k_from: int = top_k.BLOCKS_FROM
    """Catalogue size from which on top-k goes by blocks."""
    rules: bool = False
    """Whether items have tags, and numbers that some do not have."""
    users: bool = False
    """Whether the model knows its users, whole numbers, and their tags."""


TINY = (
    Tiny("tiny-string", STRING_IDS, settings=SASREC, titles=True),
    Tiny("tiny-int64", INT64_IDS, settings=SASREC, repeats=True),
    Tiny("tiny-markov-chain", STRING_IDS, "markov-chain", {"max_len": 4}, repeats=True),
    Tiny("tiny-popularity", INT64_IDS, "popularity", titles=True),
    Tiny("tiny-int8", STRING_IDS, settings=SASREC, titles=True, profile="int8"),
    Tiny("tiny-int8-blocks", INT64_IDS, settings=SASREC, profile="int8", scanned_from=0),
    Tiny("tiny-users", STRING_IDS, "user-item-attention", {"hidden_dim": 8}, users=True),
    Tiny("tiny-int4", STRING_IDS, settings=SASREC, titles=True, profile="int4"),
    Tiny("tiny-top-k-blocks", INT64_IDS, settings=SASREC, top_k_from=0),
    Tiny("tiny-nested", STRING_IDS, settings=SASREC, profile="int4+4", scanned_from=0),
    Tiny("tiny-rules", STRING_IDS, settings=SASREC, titles=True, rules=True),
    Tiny("tiny-times", STRING_IDS, "fusion", {**SASREC, "n_blocks": 2, "time_gaps": True}),
)


def make_log(ids: list[Id], seed: int, *, pauses: bool = False) -> pd.DataFrame:
    """80 users; each mostly steps from an item to the one after it, starting anywhere.

    pauses: after days they are three items further on, otherwise minutes go by.
    """
    rng = np.random.default_rng(seed)
    events = []
    for user in range(80):
        place = int(rng.integers(len(ids)))
        time = 10**9 if pauses else 0
        for _ in range(int(rng.integers(3, 15))):
            events.append((user, ids[place], time))
            step = 1 if rng.random() < 0.7 else int(rng.integers(len(ids)))
            place = (place + step) % len(ids)
            time += 1
            if pauses and rng.random() < 0.5:
                time, place = time + int(rng.integers(10**5, 10**6)), (place + 2) % len(ids)
    return pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])


def train_tiny(tiny: Tiny, directory: Path) -> Run:
    """Train for a moment: the answers must be definite, not good."""
    items = None
    if tiny.titles:
        named = [item_id for i, item_id in enumerate(tiny.ids) if i % 5]
        items = pd.DataFrame({"item_id": named, "title": [f"Title of {i!r} ☕" for i in named]})
    if tiny.rules:
        assert items is not None
        place = np.arange(len(items))
        items["kind"] = [KINDS[i % 3] for i in place]
        items["colour"] = ["|".join(COLOURS[: i % 4]) for i in place]
        items["price"] = [np.nan if i % 7 == 6 else i / 4 for i in place]
    users = None
    if tiny.users:
        tags = ["|".join(TAGS[: user % 4]) for user in range(80)]
        users = pd.DataFrame({"user_id": range(80), "tags": tags})
    recipe = DataRecipe(repeats=tiny.repeats, tag_cols=("tags",) if tiny.users else ())
    steps: dict[str, Any] = {"epochs": 3}
    if tiny.users:  # enough for users and tags to make a difference
        steps = {"epochs": 6, "batch_events": 30, "learning_rate": 0.1}
    if tiny.settings.get("time_gaps"):
        steps = {"epochs": 12, "batch_events": 30, "learning_rate": 0.01}
    config = TrainConfig(tiny.model, tiny.settings, threads=1, **steps)
    log = make_log(tiny.ids, 1, pauses=tiny.settings.get("time_gaps", False))
    return train(log, config, items=items, users=users, recipe=recipe, out=directory)


def synthetic_requests(ids: list[Id], unknown: list[Id], seed: int) -> list[dict[str, Any]]:
    """Arguments of `recommend`: each option alone, then all of them at random."""
    rng = np.random.default_rng(seed)

    def some(pool: list[Id], n: int) -> list[Id]:
        return [pool[i] for i in rng.integers(0, len(pool), n)]

    requests: list[dict[str, Any]] = [
        {"history": []},
        {"history": [], "k": 1000},
        {"history": unknown},
        {"history": ids[:1], "k": 1},
        {"history": ids, "k": 100},
        {"history": ids, "k": 100, "exclude_seen": False},
        {"history": ids[:3], "exclude_seen": True, "k": 100},
        {"history": ids[:3], "candidates": []},
        {"history": ids[:3], "candidates": unknown},
        {"history": ids[:3], "candidates": ids[3:8] + unknown + ids[3:5], "exclude": ids[4:5]},
        {"history": [], "candidates": ids[::3], "k": 3},
        {"history": ids[:3], "exclude": ids, "k": 5},
    ]
    for _ in range(20):
        pool = ids + unknown
        request: dict[str, Any] = {
            "history": some(pool, int(rng.integers(1, 20))),
            "k": int(rng.integers(1, 15)),
            "exclude": some(pool, int(rng.integers(0, 6))),
            "exclude_seen": [None, True, False][int(rng.integers(3))],
        }
        if rng.random() < 0.5:
            request["candidates"] = some(pool, int(rng.integers(1, 12)))
        requests.append(request)
    return requests


def with_users(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same from known, unknown and no users, with known, unknown and no tags."""
    users = [3, 79, 0, 999, -1, None, 2]
    tags = [None, [], ["gold"], ["no such tag", "a,b"], ["no such tag"], ["шахматы", "gold"]]
    return [
        {**request, "user": users[i % 7], "user_tags": tags[i % 6]}
        for i, request in enumerate(requests)
    ]


def with_times(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same after minutes, after days, with unknown times, and without times."""
    rng, timed = np.random.default_rng(3), []
    for i, request in enumerate(requests):
        length = len(request["history"])
        gaps = rng.integers(0, [120, 10**6][i % 2], length + 1)
        *times, now = (10**9 + np.cumsum(gaps)).tolist()
        if i % 5 == 0:
            times[::2] = [-1] * len(times[::2])
        own = {"timestamps": times, "request_time": now} if i % 7 else {}
        timed.append({**request, "timestamps": None, "request_time": None, **own})
    return timed


def with_rules(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same under rules of every kind; every fourth has none."""
    rules: list[dict[str, Any]] = [
        {"require_all": ["kind:mug", "colour:red"]},
        {"require_any": ["kind:mug", "kind:a:b", "colour:green", "kind:no such"]},
        {"forbid": ["colour:red"], "boost": {"kind:чай ☕": 0.5, "colour:blue": -0.25}},
        {"at_least": {"price": 2}, "at_most": {"price": 5.25}},
        {"require_any": ["shape:round"]},
        {"require_all": ["kind:no such"], "boost": {"kind:no such": 3.0}},
        {"at_most": {"price": 3}, "require_any": ["colour:blue"], "boost": {"kind:mug": 1.0}},
    ]
    return [{**request, **(rules[i % 7] if i % 4 else {})} for i, request in enumerate(requests)]


def expect(run: Run, reference: TorchRecommender, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of the torch model, and its score of every item."""
    catalogue = run.split.catalogue
    seen = reference.rows(request["history"])
    exclude = reference.rows(request.get("exclude", []))
    exclude_seen = request.get("exclude_seen")
    if exclude_seen is None:
        exclude_seen = not run.recipe.repeats
    if exclude_seen:
        exclude = np.concatenate([exclude, seen])
    candidates = request.get("candidates")
    admissible = reference.admissible(
        exclude, None if candidates is None else reference.rows(candidates)
    )
    side_inputs = SideInputs(*([request.get(name)] for name in CALLER_INPUTS))
    (scores,) = reference.scores([request["history"]], side_inputs)
    plain, told = scores, {}
    if (rules := rules_of(run)) is not None:
        own = Rules(**{name: request[name] for name in vars(Rules()) if name in request})
        plain_shop = RuleReference(rules, catalogue.n_items)
        admissible = admissible & plain_shop.allowed(own)
        scores = scores + plain_shop.boosts(own)
        told = {
            "n_allowed": int(admissible.sum()), "score_under_rules": scores[1:].tolist(),
        }  # fmt: skip
    rows = top_rows(scores, admissible, request.get("k", 10))
    titles = catalogue.titles
    return {
        "recommend": request,
        "item_ids": catalogue.item_ids[rows - 1].tolist(),
        "scores": scores[rows].tolist(),
        "titles": None if titles is None else titles[rows - 1].tolist(),
        "n_known": len(seen),
        **told,
        "score_of_every_item": plain[1:].tolist(),
    }


def expectations(run: Run, profile: str) -> dict[str, Any]:
    """The content of `NAME.expected.json`; a rounded file is compared with the rounded model."""
    catalogue = run.split.catalogue
    table = None
    if profile != "fp32":
        run = GraphParts.of(run).rounded().run
        table = item_vectors.rounded_table(run, profile).values
    reference = TorchRecommender(run.model, catalogue, table, run.split.users)
    ids = catalogue.item_ids.tolist()
    text = isinstance(ids[0], str)
    unknown: list[Id] = ["no such item", "00124", "E\u0301", "-2"] if text else [99, -3, 2**62]
    requests = synthetic_requests(ids, unknown, 2)
    if "user" in run.model.inputs:
        requests = with_users(requests)
    if "timestamps" in run.model.inputs:
        requests = with_times(requests)
    if rules_of(run) is not None:
        requests = with_rules(requests)
    return {
        "catalogue": ids,
        "titles": None
        if run.split.catalogue.titles is None
        else run.split.catalogue.titles.tolist(),
        "unknown_ids": unknown,
        "max_len": run.model.config.max_len,
        "repeats": run.recipe.repeats,
        "calls": [expect(run, reference, request) for request in requests],
    }


def main(directory: Path) -> None:
    """Make the files that are not there yet."""
    for tiny in TINY:
        path = directory / f"{tiny.name}.onnx"
        if path.exists():
            continue
        with tempfile.TemporaryDirectory() as temporary:
            run = train_tiny(tiny, Path(temporary) / "run")
            item_vectors.SCANNED_FROM, top_k.BLOCKS_FROM = tiny.scanned_from, tiny.top_k_from
            # Of so few items ten are a third: their order says little.
            limits = Limits(min_overlap=0.7, max_ndcg_loss=1)
            export(run, path, tiny.profile, limits=limits, allow_users=tiny.users)
        lines = json.dumps(expectations(run, tiny.profile), ensure_ascii=False).replace(
            '{"recommend', '\n{"recommend'
        )
        path.with_suffix(".expected.json").write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

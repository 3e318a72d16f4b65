"""Rules in the graph: any combination, held against sets and comparisons in plain Python."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnrec.export import Limits, export
from attnrec.export.item_rules import rules_of
from attnrec.runtime import Recommender
from attnrec.train import Run, TrainConfig, train

N = 60
BRANDS, COLOURS = ("acme", "b:c", "Ünïcode 商"), ("red", "blue", "green", "grey")
SOME_TAGS = [
    *(f"brand:{brand}" for brand in BRANDS), *(f"colour:{colour}" for colour in COLOURS),
    "brand:unknown", "colour:", "shape:round", "no colon", ":", "",
]  # fmt: skip


def items() -> pd.DataFrame:
    """One brand each, none to three colours, and a price that some do not have."""
    rng = np.random.default_rng(0)
    colours = ["|".join(rng.permutation(COLOURS)[: rng.integers(0, 4)]) for _ in range(N)]
    prices = np.where(rng.random(N) < 0.2, np.nan, rng.integers(1, 40, N) / 4)
    return pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(N)],
            "title": [f"thing {i % 7}" for i in range(N)],
            "brand": [BRANDS[i % 3] for i in range(N)],
            "colour": colours,
            "price": prices,
            "weight": rng.random(N),
        }
    )


def log() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = [
        (f"u{u}", f"i{(u + 7 * t) % N}", t) for u in range(40) for t in range(rng.integers(4, 9))
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = TrainConfig("sasrec", {"hidden_dim": 8}, epochs=1)
    return train(log(), config, items=items(), out=tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module", params=["fp32", "int8"])
def file(run: Run, request: pytest.FixtureRequest) -> Path:
    """The gate has compared it with every corner already."""
    path = run.directory / f"{request.param}.onnx"
    if request.param == "fp32":
        export(run, path)
    else:
        export(run, path, "int8", limits=Limits(min_overlap=0, max_ndcg_loss=1))
    return path


class PlainShop:
    """What docs/file-format.md says of rules, item by item."""

    def __init__(self, ids: list[str]) -> None:
        table = items().set_index("item_id").loc[ids]
        self.tags = [
            {f"brand:{row.brand}", *(f"colour:{c}" for c in row.colour.split("|") if c)}
            for row in table.itertuples()
        ]
        self.numbers = table[["price", "weight"]].to_numpy(np.float32)

    def allows(self, place: int, rule: dict[str, Any]) -> bool:
        own = self.tags[place]
        columns: dict[str, list[str]] = {}
        for tag in filter(None, rule["require_any"]):
            columns.setdefault(tag.partition(":")[0], []).append(tag)
        bounds = zip(self.numbers[place], rule["at_least"], rule["at_most"], strict=True)
        return (
            all(tag in own for tag in rule["require_all"] if tag)
            and all(any(tag in own for tag in tags) for tags in columns.values())
            and not any(tag in own for tag in rule["forbid"])
            and all(
                (math.isnan(low) and math.isnan(high))
                or ((math.isnan(low) or value >= low) and (math.isnan(high) or value <= high))
                for value, low, high in bounds
            )
        )

    def lift(self, place: int, rule: dict[str, Any], unit: float) -> float:
        pairs = zip(rule["boost"], rule["boost_by"], strict=True)
        return sum(by * unit for tag, by in pairs if tag in self.tags[place])


@cache
def opened(file: Path) -> tuple[Any, Any, list[Any]]:
    recommender = Recommender.load(file)
    return onnxruntime.InferenceSession(file), recommender.info, [*recommender.items()]


_tags = st.lists(st.sampled_from(SOME_TAGS), max_size=4)
_bound = st.sampled_from([math.nan, 0.0, 0.5, 2.5, 5.0, math.inf, -math.inf])
_boosts = st.lists(
    st.tuples(st.sampled_from(SOME_TAGS), st.sampled_from([-2.0, 0.0, 0.25, 1.0])), max_size=3
)
_rule = st.fixed_dictionaries(
    {
        "require_all": st.one_of(st.just([]), _tags),
        "require_any": st.one_of(st.just([]), _tags),
        "forbid": st.one_of(st.just([]), _tags),
        "boosts": _boosts,
        "at_least": st.one_of(st.just([math.nan] * 2), st.lists(_bound, min_size=2, max_size=2)),
        "at_most": st.one_of(st.just([math.nan] * 2), st.lists(_bound, min_size=2, max_size=2)),
    }
)


def padded(rows: list[list[Any]], padding: Any, dtype: Any) -> np.ndarray:
    filled = np.full((len(rows), max(map(len, rows))), padding, dtype=dtype)
    for target, row in zip(filled, rows, strict=True):
        target[: len(row)] = row
    return filled


@settings(
    max_examples=80, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(rules=st.lists(_rule, min_size=1, max_size=5), with_candidates=st.booleans())
def test_a_batch_of_any_rules_is_answered_row_by_row(
    file: Path, rules: list[dict[str, Any]], with_candidates: bool
) -> None:
    session, info, ids = opened(file)
    shop, n = PlainShop(ids), len(rules)
    history = np.array([["i3", "i10"]] * n, dtype=object)
    nothing = history[:, :0]
    listed = np.array([ids[1::3]] * n, dtype=object) if with_candidates else nothing
    for rule in rules:
        rule["boost"] = [tag for tag, _ in rule["boosts"]]
        rule["boost_by"] = [by for _, by in rule["boosts"]]
    texts = {
        name: padded([rule[name] for rule in rules], "", object)
        for name in ("require_all", "require_any", "forbid", "boost")
    }
    plain: dict[str, Any] = {"history": history, "exclude": history[:, :1], "k": np.array([N])}
    feed = {
        **plain, "candidates": listed, **texts,
        "boost_by": padded([rule["boost_by"] for rule in rules], 0.0, np.float32),
        "at_least": np.array([rule["at_least"] for rule in rules], np.float32),
        "at_most": np.array([rule["at_most"] for rule in rules], np.float32),
    }  # fmt: skip
    free = {
        **plain, "exclude": nothing, "candidates": nothing,
        **{name: values[:, :0] for name, values in texts.items()},
        "boost_by": np.zeros((n, 0), np.float32),
        "at_least": np.full((n, 2), np.nan, np.float32),
        "at_most": np.full((n, 2), np.nan, np.float32),
    }  # fmt: skip
    outputs = ["items", "scores", "n_allowed"]
    answers = session.run(outputs, feed)
    everything = session.run(outputs, free)
    assert everything[2].tolist() == [len(ids)] * n
    unit = info.rules["boost_unit"]
    for row, rule in enumerate(rules):
        own = dict(zip(everything[0][row], everything[1][row], strict=True))
        allowed = {
            item_id: own[item_id] + shop.lift(place, rule, unit)
            for place, item_id in enumerate(ids)
            if shop.allows(place, rule) and item_id != "i3"
            if not with_candidates or item_id in listed[0]
        }
        assert answers[2][row] == len(allowed)
        found = [item_id for item_id in answers[0][row] if item_id]
        assert set(found) == set(allowed)
        scores = answers[1][row][: len(found)]
        assert np.allclose(scores, [allowed[item_id] for item_id in found], rtol=0, atol=1e-3)
        assert (np.diff(scores) <= 0).all()


def test_the_file_says_what_its_requests_may_name(file: Path) -> None:
    rules = Recommender.load(file).info.rules
    assert list(rules["tags"]) == ["brand", "colour"]
    known = items().set_index("item_id").loc[[*Recommender.load(file).items()]]
    assert rules["tags"]["brand"] == known["brand"].value_counts().sort_index().to_dict()
    assert rules["numbers"]["price"] == [known["price"].min(), known["price"].max()]
    assert rules["boost_unit"] > 0


def test_words_of_titles_are_tags_where_they_are_asked_for(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "words.onnx", tags=["title"], numbers=[])
    recommender = Recommender.load(tmp_path / "words.onnx")
    assert recommender.info.rules["numbers"] == {}
    assert "at_least" not in recommender.info.inputs
    found = recommender.recommend(["i1"], k=N, require_any=["title:3", "title:thing"])
    # Of one column both count as "or"; single characters are no words.
    assert found.n_allowed == recommender.info.n_items - 1
    assert found.unknown_tags == ("title:3",)


def test_a_file_without_tags_and_numbers_has_none_of_it(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "bare.onnx", tags=[], numbers=[])
    bare = Recommender.load(tmp_path / "bare.onnx")
    assert bare.info.rules == {} and bare.info.inputs == ("history", "exclude", "candidates", "k")
    assert bare.recommend(["i1"]).n_allowed is None
    with pytest.raises(ValueError, match=r"require_all names tags, and this file has none"):
        bare.recommend(["i1"], require_all=["brand:acme"])


@pytest.mark.parametrize(
    ("tags", "numbers", "message"),
    [
        (["size"], None, r"`tags` names 'size', and the run has no such .*: brand, colour, title"),
        (None, ["colour"], r"`numbers` names 'colour', .* there are: price, weight"),
    ],
)
def test_columns_that_the_run_does_not_have_are_refused(
    run: Run, tags: Any, numbers: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rules_of(run, tags, numbers)


def test_too_many_tags_are_refused_with_the_limit(run: Run, caplog: Any) -> None:
    catalogue = run.split.catalogue
    many = np.array([tuple(f"code:{i}-{n}" for n in range(250)) for i in range(N)], object)
    crowded = replace(
        run,
        data={**run.data, "item_columns": {"attributes": ["code", "brand"]}},
        split=replace(run.split, catalogue=replace(catalogue, attributes=many)),
    )
    with pytest.raises(ValueError, match=r"15,000 tags \(code 15,000\), .* at most 10,000"):
        rules_of(crowded, ["code"])
    found = rules_of(crowded)
    assert found is not None and not found.tags and "code has 15000 values" in caplog.text

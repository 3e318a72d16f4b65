"""Rules on the command line: as in Python, by the same names."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from attnrec.runtime import Recommender

FILE = Path(__file__).parents[1] / "data" / "format-1" / "tiny-rules.onnx"


@pytest.fixture(scope="module")
def shop() -> Recommender:
    return Recommender.load(FILE)


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        (["--require-all", "kind:mug", "--require-all", "colour:red"],
         {"require_all": ["kind:mug", "colour:red"]}),
        (["--require-any", "kind:a:b", "--at-most", "price=4.5", "--at-least", "price=0.5"],
         {"require_any": ["kind:a:b"], "at_most": {"price": 4.5}, "at_least": {"price": 0.5}}),
        (["--forbid", "colour:red", "--boost", "kind:a:b=0.5", "--boost", "kind:mug=-1"],
         {"forbid": ["colour:red"], "boost": {"kind:a:b": 0.5, "kind:mug": -1.0}}),
        (["--diversity", "0.5"], {"diversity": 0.5}),
        (["--max-per", "kind=1", "--min-per", "colour:green=1"],
         {"max_per": {"kind": 1}, "min_per": {"colour:green": 1}}),
    ],
)  # fmt: skip
def test_options_are_the_arguments_of_recommend(
    run, shop: Recommender, options: list[str], rules: dict[str, Any]
) -> None:
    outcome = run("recommend", FILE, "--history", "sku-1", "-k", 5, "--json", *options)
    found = shop.recommend(["sku-1"], k=5, **rules)
    answer = json.loads(outcome.out)
    assert answer["item_ids"] == found.item_ids
    assert answer["n_allowed"] == found.n_allowed


def test_lines_have_rules_of_their_own(
    run, shop: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"history": ["sku-1"]}, {"history": [], "at_most": {"price": 1}, "why": True}]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(json.dumps, lines))))
    outcome = run("recommend", FILE, "--forbid", "kind:mug")
    first, second = map(json.loads, outcome.out.splitlines())
    assert first["item_ids"] == shop.recommend(["sku-1"], forbid=["kind:mug"]).item_ids
    both = shop.recommend([], forbid=["kind:mug"], at_most={"price": 1})
    assert second["item_ids"] == both.item_ids


def test_the_reason_names_the_boost(run) -> None:
    outcome = run(
        "recommend", FILE, "--history", "sku-1", "--why", "--boost", "kind:mug=2",
        "--require-all", "kind:mug",
    )  # fmt: skip
    assert "the boost of kind:mug (+" in outcome.out
    outcome = run("recommend", FILE, "--history", "sku-1", "--require-all", "kind:teapot")
    assert "does not know the tags kind:teapot" in outcome.err
    assert "the rules leave 0 items" in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at-most", "price"], "--at-most 'price' must be NAME=AMOUNT, with a number"),
        (["--boost", "kind:mug=much"], "'kind:mug=much' must be NAME=AMOUNT, with a number"),
        (["--max-per", "kind=1.5"], "must be NAME=AMOUNT, with a whole number"),
        (["--forbid", "mug"], "a tag is 'column:value' with one of the columns kind, colour"),
        (["--similar", "sku-1", "--forbid", "kind:mug"], "--similar goes without"),
        (["--batch", str(FILE), "--out", "x.parquet", "--forbid", "kind:mug"],
         "--batch goes without --forbid"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(run, options: list[str], message: str) -> None:
    history = [] if {"--similar", "--batch"} & {*options} else ["--history", "sku-1"]
    outcome = run("recommend", FILE, *history, *options)
    assert outcome.code != 0 and message in outcome.err


def test_export_says_what_requests_may_name(run, tmp_path: Path) -> None:
    rows = [(u, (u + 3 * t) % 12, t) for u in range(20) for t in range(6)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(
        tmp_path / "log.csv", index=False
    )
    items = pd.DataFrame({"item_id": range(12), "title": "a big mug", "price": 1.5})
    items["brand"] = [f"b{i % 2}" for i in range(12)]
    items["price"] = [i / 2 for i in range(12)]
    items.to_csv(tmp_path / "items.csv", index=False)
    made = tmp_path / "run"
    run("train", tmp_path / "log.csv", "--items", tmp_path / "items.csv", "--out", made,
        "--model", "popularity", "--no-report")  # fmt: skip
    outcome = run("export", made)
    assert "rules    2 tags of brand, price 0 to 5.5" in outcome.out
    outcome = run("export", made, "--tags", "brand,title", "--numbers", "", "--json")
    rules = json.loads(outcome.out)["rules"]
    assert rules["tags"] == {"brand": {"b0": 6, "b1": 6}, "title": {"big": 12, "mug": 12}}
    assert rules["numbers"] == {}
    outcome = run("export", made, "--tags", "size")
    assert outcome.code != 0 and "there are: brand, title" in outcome.err

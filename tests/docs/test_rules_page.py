"""The page about rules: a shop that refreshes prices and stock without training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from documents import blocks, run_python, run_shell

from attnrec.runtime import Recommender

pytestmark = pytest.mark.examples

PAGE = "docs/rules.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of a shop, and its products now and an hour later."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    events = [f"u{u},p-{(u * 3 + s) % 40},{s}" for u in range(40) for s in range(8)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(events) + "\n")
    products = pd.DataFrame({"item_id": [f"p-{i}" for i in range(40)]})
    products["title"] = [("red boot", "blue sneaker")[i % 2] for i in range(40)]
    products["category"] = [("shoes", "shoes|new", "hats")[i % 3] for i in range(40)]
    products["brand"] = [("acme", "zenit", "other")[i % 3] for i in range(40)]
    products["price"] = rng.integers(5, 80, 40) + 0.5
    products.to_csv(folder / "products.csv", index=False)
    products.assign(price=9.5).iloc[2:].to_csv(folder / "products-now.csv", index=False)
    return folder


def test_the_page_works_as_printed(folder: Path) -> None:
    first, hourly = blocks(PAGE, "", "attnrec-")
    train, export, recommend = first.splitlines()
    run_shell(f"{train} --epochs 1 --hidden-dim 16 --threads 1 --no-report", folder)
    run_shell(export, folder)
    run_shell(recommend, folder)
    rules, slates = blocks(PAGE, "python", "from attnrec")
    found = run_python(rules, folder)
    assert "('category:sale',)" in found
    assert "p-" in run_python(slates, folder)
    run_shell(hourly, folder)
    before, after = (
        Recommender.load(folder / name) for name in ("attnrec-run/model.onnx", "next.onnx")
    )
    assert after.info.n_items == before.info.n_items - 2
    assert after.info.rules["numbers"] == {"price": [9.5, 9.5]}
    assert len(after.recommend([], at_most={"price": 10.0})) == 10
    assert before.recommend([], k=40, at_most={"price": 10.0}).n_allowed < 10

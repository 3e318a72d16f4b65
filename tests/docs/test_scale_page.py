"""The page about large logs: its recipe makes the log that it says, and that log is read."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.train.data.load import load_interactions
from attnrec.train.data.recipe import DataRecipe

pytestmark = pytest.mark.examples

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")


def test_the_recipe_keeps_the_newest_events_of_frequent_items(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    rng = np.random.default_rng(0)
    items = [f"sku-{item}" for item in np.minimum(rng.zipf(1.5, 3000), 300)]
    users = [f"user-{user}" for user in rng.integers(0, 4, 3000)]
    log = pd.DataFrame({"user": users, "sku": items, "at": rng.permutation(3000), "kind": "view"})
    log.loc[::3, "kind"] = "buy"
    (tmp_path / "raw").mkdir()
    for part in range(3):
        log[part::3].to_parquet(tmp_path / "raw" / f"{part}.parquet")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "prepare.py").write_text(code, encoding="utf-8")
    subprocess.run([sys.executable, "prepare.py"], cwd=tmp_path, check=True, timeout=300)

    bought = log[log["kind"] == "buy"]
    frequent = bought[bought.groupby("sku")["sku"].transform("size") >= 5]
    newest = frequent.sort_values("at").groupby("user").tail(200)
    assert len(frequent) < len(bought) and len(newest) < len(frequent)
    recipe = DataRecipe(repeats=True, time_unit="order")
    made, report = load_interactions(tmp_path / "log", recipe)
    assert report.user_id_type == "int64" and report.item_id_type == "string"
    columns = {"user": "user_id", "sku": "item_id", "at": "timestamp"}
    expected, _ = load_interactions(newest.rename(columns=columns), recipe)
    own, other = (
        sorted(tuple(log.item_ids[log.sequence(user)]) for user in range(log.n_users))
        for log in (made, expected)
    )
    assert own == other

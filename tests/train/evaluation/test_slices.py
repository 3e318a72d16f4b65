"""Slices of the targets by what is known of their items."""

from pathlib import Path

import pandas as pd

from attnrec.export import export
from attnrec.train import DataRecipe, TrainConfig, train
from attnrec.train.evaluation.comparison import compare
from attnrec.train.report.charts import slice_label


def test_a_target_under_the_title_of_an_earlier_item_is_no_new_title(tmp_path: Path) -> None:
    """Shops sell one thing under several ids: to find its twin is no discovery."""
    taken = [[1, 2, 3, 4], [1, 2, 4, 3], [2, 1, 4, 3], [3, 1, 2, 5], [4, 5, 1, 2]]
    rows = [(user, item, time) for user, own in enumerate(taken) for time, item in enumerate(own)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    titles = {1: "cup", 2: "cup", 3: "plate", 4: None, 5: None}
    items = pd.DataFrame({"item_id": [*titles], "title": [*titles.values()]})
    run = train(log, TrainConfig("popularity"), items=items, out=tmp_path / "run")
    export(run, run.directory / "model.onnx")
    (file,) = compare([run.directory / "model.onnx"]).files
    # The targets are 4, 3, 3, 5 and 2: only the last has a title that was there, "cup".
    assert file.slices["target_new_title"]["n_users"] == 4
    assert slice_label("target_new_title") == "item of a new title next"
    bare = train(log, TrainConfig("popularity"), recipe=DataRecipe(), out=tmp_path / "bare")
    export(bare, bare.directory / "model.onnx")
    assert "target_new_title" not in compare([bare.directory / "model.onnx"]).files[0].slices

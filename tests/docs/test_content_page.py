"""The page about descriptions: its commands and its scripts work as printed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from documents import blocks, run_python, run_shell

from attnrec.runtime import Recommender
from attnrec.train import DataRecipe
from attnrec.train.runs.train import read_log

pytestmark = pytest.mark.examples

PAGE = "docs/content.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, and its items with a picture each."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    events = [f"u{u},{(u * 3 + s) % 40},{s}" for u in range(40) for s in range(8)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(events) + "\n")
    titles = [f"{('red', 'blue')[i % 2]} {('lamp', 'rug', 'cup')[i % 3]}" for i in range(42)]
    items = pd.DataFrame({"item_id": range(42), "title": titles})
    items.to_csv(folder / "items.csv", index=False)
    (folder / "pictures").mkdir()
    for item in range(42):
        pixels = rng.integers(0, 256, (20, 20, 3)).astype(np.uint8)
        image.fromarray(pixels).save(folder / "pictures" / f"{item}.png")
    return folder


def test_pictures_become_vectors_and_new_items_part_of_the_file(folder: Path) -> None:
    _, pictures, catalogue = blocks(PAGE, "python", "import")
    run_python(pictures, folder)
    data, report = read_log(folder / "events.csv", DataRecipe(), items=folder / "items.parquet")
    assert data.item_vectors["picture"].shape == (40, 192)
    assert "title (title), picture (vector)" in str(report)
    items = pd.read_parquet(folder / "items.parquet")
    items.to_parquet(folder / "tonight.parquet")
    (commands,) = blocks(PAGE, "", "attnrec-train")
    train, export = commands.splitlines()
    run_shell(f"{train} --epochs 1 --hidden-dim 16 --threads 1 --no-report", folder)
    run_shell(export, folder)
    file = Recommender.load(folder / "attnrec-run" / "model.onnx")
    assert file.info.n_items == 42 and file.recommend([41], k=3).n_known == 1
    assert "'n_new': 2" in run_python(catalogue, folder)
    assert Recommender.load(folder / "model.onnx").info.n_items == 42


def test_texts_become_vectors(folder: Path) -> None:
    pytest.importorskip("en_core_web_md", reason="the wheel of spaCy's en_core_web_md")
    texts = blocks(PAGE, "python", "spacy")[0]
    run_python(texts, folder)
    assert len(pd.read_parquet(folder / "items.parquet")["meaning"][0]) == 300

"""Models by name: those of the registry, and a class of one's own as package.module:Class."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from attnrec.runtime import RunError
from attnrec.train import Run, TrainConfig, train
from attnrec.train.models.base import TableModel

OWN = """
from dataclasses import dataclass
from torch import nn
from attnrec.train.models.base import TableModel

@dataclass(frozen=True)
class NewestConfig:
    n_items: int
    max_len: int = 3
    width: int = 4

class Newest(TableModel):
    config: NewestConfig

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.items = nn.Embedding(config.n_items + 1, config.width)

    def item_table(self):
        return self.items.weight

    def states(self, item_vectors, known, **context):
        return item_vectors

class Unsettled(TableModel):
    pass

number = 3
"""


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with a package that holds a model."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "models.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("shop", "shop.models", "broken"):
        sys.modules.pop(name, None)


def test_a_class_of_ones_own_is_trained_saved_and_loaded_by_its_name(
    own_folder: Path, shop_log: pd.DataFrame
) -> None:
    config = TrainConfig("shop.models:Newest", {"width": 8}, epochs=1)
    train(shop_log, config, out=own_folder / "run")
    again = Run.load(own_folder / "run")
    assert again.config.model == "shop.models:Newest"
    assert type(again.model).__name__ == "Newest" and again.model.config.width == 8
    (own_folder / "shop" / "models.py").write_text("")
    del sys.modules["shop.models"]
    with pytest.raises(RunError, match=r"'shop\.models:Newest', which is not there: .* no Newest"):
        Run.load(own_folder / "run")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gru", r"no model 'gru'; there are: fusion, .*package\.module:Class"),
        (":GRU", "no model ':GRU'"),
        ("shop.gru:GRU", r"'shop\.gru:GRU' cannot be imported: No module named 'shop\.gru'; its"),
        ("broken:GRU", "cannot be imported: No module named 'nothing_of_the_kind'"),
        ("shop.models:GRU", "the module shop.models has no GRU"),
        ("shop.models:number", "number is no RecommenderModel; derive the class from TableModel"),
        ("shop.models:NewestConfig", "NewestConfig is no RecommenderModel"),
        (
            "shop.models:Unsettled",
            "Unsettled does not name its settings; write `config: ",
        ),
    ],
)
def test_what_is_no_model_is_refused_by_its_reason(
    name: str, message: str, own_folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(name)


def test_a_setting_that_the_own_class_does_not_have_is_refused(own_folder: Path) -> None:
    with pytest.raises(ValueError, match="has no setting `depth`; it has: max_len, width"):
        TrainConfig("shop.models:Newest", {"depth": 2})


def test_an_optional_method_without_its_flag_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match="Adding defines added_scores: set adds_scores = True"):
        type("Adding", (TableModel,), {"added_scores": lambda self, history_index: history_index})

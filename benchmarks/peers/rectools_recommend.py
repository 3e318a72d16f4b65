"""RecTools 0.19: `recommend` of its SASRec for users who were not in training.

`prepare` writes a model that has seen its catalogue, but was not trained: weights are random.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from answering import K
from pytorch_lightning import Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

warnings.filterwarnings("ignore")
_STEP = 40  # made-up users have one item more, or their first items were not kept


def dataset_of(histories: list[list[Any]]) -> Dataset:
    """Users 0, 1, ... with their histories, oldest first; weight and time are obligatory."""
    lengths = [len(history) for history in histories]
    places = np.concatenate([np.arange(length) for length in lengths])
    events = {
        Columns.User: np.repeat(np.arange(len(lengths)), lengths),
        Columns.Item: [item_id for history in histories for item_id in history],
        Columns.Weight: 1,
        Columns.Datetime: pd.to_datetime(places, unit="s"),
    }
    return Dataset.construct(pd.DataFrame(events))


def untrained() -> Trainer:
    """A trainer that returns at once; a function of this module, so that `load` finds it."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    return Trainer(max_epochs=0, accelerator="cpu", enable_model_summary=False, **quiet)


class RecTools:
    """Id map, what was seen left out and top-k are its own; each request becomes a `Dataset`."""

    comes_back = "items with scores and ranks, a DataFrame"

    def __init__(self, file: Path) -> None:
        torch.set_num_threads(1)
        self.model = SASRecModel.load(file)

    def ask(self, history: list[Any]) -> list[Any]:
        return self.table([history])[Columns.Item].tolist()

    def ask_batch(self, histories: list[list[Any]]) -> list[list[Any]]:
        items = self.table(histories)[Columns.Item].tolist()
        return [items[start : start + K] for start in range(0, len(items), K)]

    def table(self, histories: list[list[Any]]) -> pd.DataFrame:
        """K rows for each history, in their order."""
        users = list(range(len(histories)))
        return self.model.recommend(users, dataset_of(histories), K, filter_viewed=True)


def prepare(folder: Path, setting: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ids = np.load(folder / "ids.npy").tolist()
    model = SASRecModel(
        n_blocks=setting["n_blocks"], n_heads=setting["n_heads"],
        n_factors=setting["hidden_dim"], session_max_len=setting["max_len"],
        get_trainer_func=untrained,
    )  # fmt: skip
    starts = range(0, len(ids) - 1, _STEP)  # nobody has a single item, and is left out
    model.fit(dataset_of([ids[start : start + _STEP + 1] for start in starts]))
    model.save(folder / "rectools.model")


def load(folder: Path, variant: str) -> RecTools:
    return RecTools(folder / "rectools.model")

"""A small log, and what makes every training test repeat itself."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings

from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions

# One thread: sums of floats come out in the same order, so equal seeds give equal bits.
torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shop_log() -> pd.DataFrame:
    """60 customers who buy their way around a circle of 40 items, a few steps at a time."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        item = int(rng.integers(40))
        for time in range(int(rng.integers(2, 26))):
            rows.append((f"user {user}", f"item {item:02}", 1000 * user + time))
            item = (item + int(rng.choice([1, 1, 1, 2, 3, 7]))) % 40
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@pytest.fixture(scope="session")
def shop_events(shop_log: pd.DataFrame) -> Interactions:
    """The same, read and prepared."""
    events, _ = load_interactions(shop_log)
    assert any(stop - start > 20 for start, stop in pairwise(events.offsets))
    return events

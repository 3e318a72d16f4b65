"""What the tests of interrupted trainings and of several processes share."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 training events of users who walk around a ring of 300 items."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(150):
        place = int(rng.integers(300))
        for step in range(22):
            lines.append(f"{user},{place},{step}")
            place = (place + int(rng.choice([1, 1, 2, 5]))) % 300
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    return path

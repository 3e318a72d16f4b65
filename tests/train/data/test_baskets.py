"""The other split is offered where it would ask enough people."""

from pathlib import Path

import pandas as pd
import pytest

from attnrec.train import TrainConfig, train
from attnrec.train.data.baskets import basket_note


def baskets(visits: int) -> pd.DataFrame:
    """30 customers with so many visits of 3 items each; the first one comes ten times."""
    rows = [
        (user, (7 * user + 3 * visit + place) % 40, 1_700_000_000 + 86400 * visit)
        for user in range(30)
        for visit in range(10 if user == 0 else visits)
        for place in range(3)
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@pytest.mark.parametrize(("visits", "offered"), [(1, False), (2, False), (3, True)])
def test_last_session_is_offered_where_enough_users_have_three_sessions(
    visits: int, offered: bool, tmp_path: Path
) -> None:
    run = train(baskets(visits), TrainConfig("popularity"), out=tmp_path / "run")
    note = basket_note(run.metrics.to_json())
    assert note is not None and "complete a basket" in note
    assert run.metrics.last_session_users == (30 if offered else 1)
    assert ("--split last-session" in note) == offered


def test_a_log_of_single_events_has_no_note(shop_log: pd.DataFrame, tmp_path: Path) -> None:
    run = train(shop_log, TrainConfig("popularity"), out=tmp_path / "run")
    assert basket_note(run.metrics.to_json()) is None and run.metrics.last_session_users is None

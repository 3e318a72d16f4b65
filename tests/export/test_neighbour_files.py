"""Files of item-knn, ease and content-based: the gate, and the answer to a newcomer."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.export import export
from attnrec.runtime import DataError, Recommender
from attnrec.train import Run, TrainConfig, train

COLOURS = ["red", "green", "blue", "grey"]
CONFIGS = {
    "item-knn": TrainConfig("item-knn", {"n_neighbours": 7, "history_decay": None}),
    "ease": TrainConfig("ease", {"n_neighbours": 15, "max_len": 6}),
    "content-based": TrainConfig("content-based"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """40 customers who take things of a colour, frequent things more often."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(40):
        of_colour = np.arange(user % 4, 40, 4)
        for time in range(int(rng.integers(1, 8))):
            item = rng.choice(of_colour, p=1 / (1 + np.arange(10)) / 2.9289682539682538)
            rows.append((user, f"item {item:02}", time))
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    items = pd.DataFrame(
        {
            "item_id": [f"item {item:02}" for item in range(40)],
            "title": [f"{COLOURS[item % 4]} thing" for item in range(40)],
        }
    )
    directory = tmp_path_factory.mktemp("runs")
    return {
        name: train(log, config, items=items, out=directory / name)
        for name, config in CONFIGS.items()
    }


@pytest.fixture(scope="module")
def files(runs: dict[str, Run]) -> dict[str, Path]:
    """What the gate let through."""
    for run in runs.values():
        report = export(run, run.directory / "model.onnx")
        assert (report.n_faults, report.faults) == (0, [])
        assert report.n_identical == report.n_test_users > 20
    return {name: run.directory / "model.onnx" for name, run in runs.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_recommends_what_goes_with_the_history(name: str, files: dict[str, Path]) -> None:
    recommender = Recommender.load(files[name])
    for colour in range(4):
        history = [f"item {item:02}" for item in (colour, colour + 4)]
        answer = recommender.recommend(history, k=2)
        assert [title.split()[0] for title in answer.titles or []] == [COLOURS[colour]] * 2


@pytest.mark.parametrize("name", CONFIGS)
def test_a_newcomer_is_answered_with_what_is_popular(
    name: str, runs: dict[str, Run], files: dict[str, Path]
) -> None:
    answer = Recommender.load(files[name]).recommend([], k=10)
    assert answer.n_known == 0
    assert answer.item_ids == runs[name].split.catalogue.item_ids[:10].tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_what_validation_chose_is_kept_with_the_run(name: str, runs: dict[str, Run]) -> None:
    again = Run.load(runs[name].directory)
    config = vars(again.model.config)
    assert config == vars(runs[name].model.config)
    assert None not in config.values()


def test_content_based_refuses_a_log_of_ids_alone(tmp_path: Path) -> None:
    rows = [(user, item, item) for user in range(5) for item in range(4)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    with pytest.raises(DataError, match="neither titles nor attributes"):
        train(log, TrainConfig("content-based"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
